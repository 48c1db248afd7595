"""`forwarder demo` is the proof: real processes, sockets and DNS; what it prints can be typed (issue 9, slice 8)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-P", "-m", "forwarder"]
SCRIPT = "#!/bin/sh\nexec '{python}' -P -m forwarder \"$@\"\n"
PATIENCE = 60.0
pytestmark = pytest.mark.timeout(300)
INTERRUPTED = (130, -signal.SIGINT % 256)
"""A shell says 130 for both. The second: CPython ends so where the interrupt struck inside an exec() of a text, as
namedtuple and dataclass do while modules are imported, although it was caught."""

MUST = """\
subscribe@  1 subscribe        brian       -> pobox 1         0        0      ok
                                           <- acme 1
redirect@   2 redirect         brian       -> pobox 1, isp 1  0        0      ok
                                           <- acme 1
resend@     3 rewrite_resend   brian       -> pobox 1, isp 1  0        0      ok
                                           <- acme 1
repush@     4 pull_repush      brian       -> pobox 1, isp 1  1        0      ok
                                           <- pobox 1
hold@       5 pull_hold        brian       -> pobox 1         1        1      ok
                                           <- pobox 1
dns@        6 dns_user_lookup  brian       -> isp 1           0        0      ok
                                           <- acme 1
sales@      role, 3            bob, freda  -> pobox 1, isp 2  0        0      ok
                                           <- acme 2
staff@      group, 2           bob, freda  -> pobox 1, isp 2  0        0      ok
                                           <- acme 2
"""


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """One world at a time: the usual ports are the same for all."""
    with open(Path(tempfile.gettempdir()) / f"forwarder-demo-test-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(folder: Path, *options: str, program: Sequence[str] = (*PROGRAM, "demo")) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"}
    return subprocess.Popen(
        [*program, *options],
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(running: subprocess.Popen[str]) -> None:
    """First so that it can clean up."""
    running.terminate()
    try:
        running.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        running.kill()


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def commands(printed: str) -> list[str]:
    """What stands after the prompts, each command with its own further lines."""
    found: list[str] = []
    for line in printed.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif line.startswith("> "):
            found[-1] += f"\n{line[2:]}"
    return found


def test_each_way_shows_its_figures(tmp_path: Path) -> None:
    began = time.monotonic()
    printed, err = (running := start(tmp_path)).communicate(timeout=PATIENCE)
    took = time.monotonic() - began
    assert (running.returncode, err) == (0, "")
    table = squeezed(printed)
    at = table.index("What happened to the letter, by its address at pobox.example") + 3
    assert table[at : at + 16] == squeezed(MUST)
    assert "Bodies the forwarder fetched, options 1 to 6: 0, 0, 0, 1, 1, 0" in printed
    assert "Packets to the forwarder's RNASP for option 6: 0\n" in printed
    assert re.search(r"^Of sales@ (bob|freda) won; told that it is closed: (bob|freda)$", printed, re.MULTILINE)
    assert "Bodies left at the sender's store: 0\n" in printed
    assert max(map(len, printed[printed.index("What happened") :].splitlines()[:21])) <= 80, "it fits a terminal"
    assert took < PATIENCE
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


class Replay:
    """A person who types what the demo printed, in a folder and a shell of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / "forwarder"
        program.parent.mkdir()
        program.write_text(SCRIPT.format(python=sys.executable))
        program.chmod(0o755)
        self.world = folder / "world"
        self.world.mkdir(0o700)
        path = f"{program.parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(self.world)}
        self.serving: list[subprocess.Popen[str]] = []

    def type(self, command: str) -> tuple[int, str]:
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=self.world,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return ended.returncode, ended.stdout

    def patiently(self, command: str) -> str:
        """Again while the answer is "not now"."""
        deadline = time.monotonic() + PATIENCE
        while True:
            code, said = self.type(command)
            if code != 1 or time.monotonic() > deadline:
                assert code == 0, f"{command}: {said}"
                return said

    def serve(self, command: str) -> None:
        """`exec`, so that the shell is the daemon and can be ended by its own process id."""
        words = ["sh", "-c", f"exec {command.removesuffix('&')}"]
        self.serving.append(subprocess.Popen(words, cwd=self.world, env=self._environment, text=True))

    def notified(self, count: int) -> None:
        """All that was sent has reached the recipients' agent."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            status = json.loads(self.patiently("forwarder status --config isp --json"))
            if status["notifications"]["received"] == count:
                return
        pytest.fail("not all was notified")

    def stop(self) -> None:
        for process in self.serving:
            process.terminate()
        for process in self.serving:
            assert process.wait(PATIENCE) == 0, "SIGTERM drains, and is no failure"


def test_what_it_prints_can_be_typed(tmp_path: Path) -> None:
    printed, err = (running := start(tmp_path)).communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (0, "")
    person = Replay(tmp_path)
    said: dict[str, str] = {}
    try:
        for command in commands(printed):
            if command.startswith("cd "):
                continue  # his folder is another
            if command.startswith("forwarder serve"):
                person.serve(command)
                continue
            if command.startswith("forwarder read --me brian.toml --json"):
                person.notified(8)
            said[command] = person.patiently(command)
        sent = json.loads(person.patiently("forwarder sent --me alice.toml --json"))
    finally:
        person.stop()
    assert {row["to"]: (row["status"], row["pinned"]) for row in sent} == {
        f"{local}@pobox.example": ("silenced", False)
        for local in ("subscribe", "redirect", "resend", "repush", "hold", "dns", "sales", "staff")
    }
    (race,) = [text for command, text in said.items() if " & " in command]
    assert sorted(squeezed(race)) == ["1: closed, perhaps by you", "1: done"]
    letter = (person.world / "letter.eml").read_bytes()
    saved = sorted(person.world.glob("*-*.eml"))
    assert len(saved) == 10
    assert all(file.read_bytes() == letter for file in saved)
    assert letter.count(b"\r\n") == letter.count(b"\n") > 20


EXPECTS_TOO_LITTLE = """
import sys
from forwarder.cli import main
from forwarder.demo import figures, mail
figures.SETTLE_SECONDS = mail.SETTLE_SECONDS = 1.0
mail.WAYS = tuple(way._replace(fetched=0) if way.local == "repush" else way for way in mail.WAYS)
sys.exit(main(["demo"]))
"""


def test_what_is_not_as_it_must_be_is_said_and_is_a_failure(tmp_path: Path) -> None:
    running = start(tmp_path, program=(sys.executable, "-P", "-c", EXPECTS_TOO_LITTLE))
    printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (1, "")
    wrong = {line.removeprefix("WRONG  ") for line in printed.splitlines() if line.startswith("WRONG")}
    assert "repush@pobox.example: from sender: 1 where 0 is due" in wrong
    assert "repush@pobox.example: the store calls it readall, not unread, before it is read" in wrong
    assert all(line.startswith("repush@") for line in wrong), "the others are as they must be"
    assert "Every line is as it must be" not in printed


SOMEBODY_IS_QUICKER = """
import socket, sys
from forwarder.cli import main
from forwarder.demo import world
first, taken_by_us = world.place, []
def place(number, *, usual, taken):
    found = first(number, usual=usual, taken=taken)
    if usual and number == 2:
        taken_by_us.append(socket.create_server((found.address, found.ports["rnasp"])))
    return found
world.place = place
sys.exit(main(["demo"]))
"""


def test_a_port_that_somebody_takes_meanwhile_is_no_failure(tmp_path: Path) -> None:
    running = start(tmp_path, program=(sys.executable, "-P", "-c", SOMEBODY_IS_QUICKER))
    printed, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (0, "")
    assert "Somebody took a port meanwhile: once more, on others." in printed
    assert "Every line is as it must be" in printed
    assert list(tmp_path.iterdir()) == []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def started_by(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc for processes left over")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_keep_leaves_the_world_running_until_it_is_told(tmp_path: Path, number: signal.Signals) -> None:
    running = start(tmp_path, "--keep")
    try:
        assert running.stdout is not None
        printed = ""
        while "The world runs until Ctrl-C." not in printed:
            line = running.stdout.readline()
            assert line, running.communicate()[1]
            printed += line
        nodes = started_by(running.pid)
        assert len(nodes) == 3
        (world,) = tmp_path.iterdir()
        person = Replay(tmp_path)
        tries = [line.strip() for line in printed[printed.index("Try next") :].splitlines() if line.startswith("  ")]
        assert tries.pop(0).startswith(f"cd {world}; export XDG_DATA_HOME=$PWD")
        assert len(tries) >= 9
        for command in tries:
            said = person.patiently(f"cd {world}; export XDG_DATA_HOME=$PWD; {command}")
            assert "rror" not in said
        assert alive(nodes) == nodes
        running.send_signal(number)
        assert (running.wait(PATIENCE), alive(nodes)) == (0, [])
        assert world.is_dir(), "its folder stays"
    finally:
        end(running)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc for processes left over")
def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    running = start(tmp_path)
    try:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("$ forwarder send"):
            assert line
        nodes = started_by(running.pid)
        assert len(nodes) == 3
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode % 256, err, alive(nodes)) in [(code, "", []) for code in INTERRUPTED]
        assert list(tmp_path.iterdir()) == []
    finally:
        end(running)
