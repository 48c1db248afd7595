"""`forwarder demo --postfix`: real Postfix on both sides, real fetchmail; what it prints can be typed (issue 12, 8)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forwarder.cli.errors import Wrong
from forwarder.demo.edge import needs

from .test_demo import PATIENCE, Replay, end, squeezed, start

pytestmark = pytest.mark.timeout(300)

MUST = r"""
carol@ why says carol@world.example smtp by 127.0.0.1:\d+ ok
brian@ 1 subscribe 250, read by brian, unchanged, nothing waits for brian, nothing kept ok
sales@ role, 1 250, waits for freda, read by brian, unchanged, nothing waits for freda, nothing kept ok
staff@ group, 4 250, read by brian, unchanged, read by freda, unchanged, nothing kept ok
carol@ 3, by SMTP 250, at carol@world.example, unchanged, from SRS0=..., nothing kept ok
nobody@ unknown 550 5.1.1, at RCPT by Postfix, never queued, never ours ok
dave@ 3, by SMTP, full 250, 552 5.2.2 from world.example, report at ann's, by SRS0=..., null sender, nothing kept ok
SRS0=...@ forged 550 5.7.1, at RCPT by Postfix, never queued, never ours ok
"""


@pytest.fixture(scope="module")
def printed() -> str:
    """By one that goes well; it leaves nothing behind."""
    with passable() as folder:
        began = time.monotonic()
        said, err = (running := start(folder, "--postfix")).communicate(timeout=PATIENCE)
        assert time.monotonic() - began < PATIENCE
        assert (running.returncode, err) == (0, ""), said
        assert list(folder.iterdir()) == [], "nothing is left behind"
        assert left_in(folder) == []
        return said


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable() as path:
        yield path


@contextmanager
def passable() -> Iterator[Path]:
    """A folder that Postfix's own user may enter, with a short name: Unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="forwarder-test-") as name:
        path = Path(name)
        path.chmod(0o711)
        try:
            needs.demand()
        except Wrong as missing:
            pytest.skip(f"NOT TRIED, SOMETHING IS MISSING: {missing}")
        yield path


def left_in(folder: Path) -> list[str]:
    """Processes that work there still."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = str(each.readlink())
        except OSError:
            continue
        if where.startswith(f"{folder}/forwarder-demo-"):
            found.append((each.parent / "cmdline").read_text())
    return found


def test_each_line_is_as_it_must_be(printed: str) -> None:
    assert "Every line is as it must be" in printed
    assert "SRS0=" in printed
    rows = printed[printed.index("What became of Ann's letter") : printed.index("all of it")].splitlines()[3:]
    assert len(folded(rows)) == 8
    for row, must in zip(folded(rows), MUST.strip().splitlines(), strict=True):
        assert re.fullmatch(must, row) or row == must
    assert max(map(len, rows)) <= 80, "it fits a terminal"


def folded(rows: list[str]) -> list[str]:
    """A row of the table that goes on in further lines, as one; "ok" stands at its end."""
    whole: list[str] = []
    for row in filter(None, squeezed("\n".join(row.rstrip() for row in rows))):
        first = row.removesuffix(" ok")
        if row != first:
            whole.append(first)
        else:
            whole[-1] += f" {row}"
    return [f"{row} ok" for row in whole]


def told(printed: str) -> list[tuple[str, str]]:
    """Each command, and what was shown of its output."""
    found: list[tuple[str, str]] = []
    for line in printed[: printed.index("What became of Ann's letter")].splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> "):
            found[-1] = f"{found[-1][0]}\n{line[2:]}", ""
        elif line.startswith("  "):
            found[-1] = found[-1][0], f"{found[-1][1]}{line[2:]}\n"
    return found


def plain(text: str) -> str:
    """Without what is another each time."""
    text = re.sub(r"SRS0=\S{8}=", "SRS0=HASH=", text)
    return "\n".join(re.sub(r"\d+", "N", line) for line in text.splitlines() if "WARNING: Running as root" not in line)


def test_what_it_prints_can_be_typed(printed: str, folder: Path) -> None:
    theirs = printed.split("$ cd ")[1].split("\n")[0]
    person = Replay(folder)
    mine = f"export PATH=$PATH:{needs.SYSTEM_FOLDERS} FETCHMAILHOME=$PWD LC_ALL=C; "
    try:
        for command, shown in told(printed.replace(theirs, str(person.world))):
            if command.startswith(("cd ", "export ")):
                continue
            if command.startswith("forwarder serve"):
                person.serve(command)
            elif "--json" in command or command == "forwarder status --config pobox":
                person.patiently(command)
            else:
                says_the_same(person, mine + command, shown)
    finally:
        for mta in ("mx", "world"):
            person.type(f"{mine}postfix -c $PWD/{mta}/etc stop")
        person.stop()


def says_the_same(person: Replay, command: str, shown: str) -> None:
    """After a while, where a mail has to come first."""
    deadline = time.monotonic() + PATIENCE
    while True:
        code, said = person.type(command)
        if plain(said) == plain(shown) or (not shown and code == 0):
            return
        assert time.monotonic() < deadline, f"{command}: {said}"


REFUSES_WITH_ANOTHER = """
import sys
from forwarder.cli import main
from forwarder.demo.edge import mail
mail.FULL = "551 5.1.6 Moved"
sys.exit(main(["demo", "--postfix"]))
"""


def test_what_is_not_as_it_must_be_is_said_and_is_a_failure(folder: Path) -> None:
    running = start(folder, program=(sys.executable, "-P", "-c", REFUSES_WITH_ANOTHER))
    printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (1, "")
    wrong = [line.removeprefix("WRONG  ") for line in printed.splitlines() if line.startswith("WRONG")]
    assert wrong == ["dave@: world.example did not refuse it", "dave@: the report is not what it should be"]
    assert "Every line is as it must be" not in printed
    assert left_in(folder) == []


@pytest.mark.parametrize("at", ["$ postfix -c $PWD/mx/etc start", "To sales@"])
def test_ctrl_c_in_the_middle_leaves_nothing(folder: Path, at: str) -> None:
    running = start(folder, "--postfix")
    try:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith(at):
            assert line
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode, err) == (130, "")
        assert left_in(folder) == []
        assert list(folder.iterdir()) == []
    finally:
        end(running)


def test_keep_leaves_the_world_running_until_it_is_told(folder: Path) -> None:
    running = start(folder, "--postfix", "--keep")
    try:
        assert running.stdout is not None
        printed = ""
        while "The world runs until Ctrl-C." not in printed:
            line = running.stdout.readline()
            assert line, running.communicate()[1]
            printed += line
        tries = [line.strip() for line in printed[printed.index("Try next") :].splitlines() if line.startswith("  ")]
        first = tries.pop(0)
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for command in tries:
            ended = subprocess.run(
                ["sh", "-c", f"{first}; {command}"], env=environment, capture_output=True, timeout=PATIENCE, check=False
            )
            fits = (0, 1) if "fetchmail" in command else (1,) if "nobody@" in command else (0,)
            assert ended.returncode in fits, ended  # whether the letter of the line before is there yet
        assert left_in(folder) != []
        running.terminate()
        assert (running.wait(PATIENCE), left_in(folder)) == (0, []), running.stderr and running.stderr.read()
        assert len(list(folder.iterdir())) == 1, "its folder stays"
    finally:
        end(running)
