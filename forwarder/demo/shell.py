"""Commands as a person types them, printed and run. What is printed after "$ " (and "> ", where it goes on) can be
pasted into a shell: it is all the demo does to its world.

Quick verbs run in this process, by the same `main` that the program is; `serve` and what must run at the same time are
processes of their own.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from forwarder.cli import INTERRUPTED, main
from forwarder.cli.errors import No

PROGRAM = (sys.executable, "-P", "-m", "forwarder")
COLUMNS = 92
TOGETHER_SECONDS = COMMAND_SECONDS = 30.0
POLL = 0.02
"""Seconds between two looks at something awaited."""


class Shell:
    """Prints to `say`, runs in the present folder."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._watched: set[str] = set()

    def run(self, *words: str, stdin: str | None = None, onto: str | None = None, show: bool = False) -> str:
        """One verb; what it printed. stdin: a file; onto: a file its output is put behind; show: it is printed too.

        Raises No where it fails.
        """
        redirected = [f"{sign} {file}" for sign, file in (("<", stdin), (">>", onto)) if file]
        self._prompt(*_typed(words), *redirected)
        code, out, err = _call(words, stdin)
        if code:
            raise No(f"forwarder demo: `{_line(words)}` ended with {code}: {err.strip() or out.strip()}")
        if onto:
            with open(onto, "a") as file:
                file.write(out)
        if show:
            self.output(out)
        return out

    def watch(self, *words: str) -> Any:
        """What a verb prints as JSON; None where it says no. Printed only the first time."""
        if _line(words) not in self._watched:
            self._watched.add(_line(words))
            self._prompt(*_typed(words))
        code, out, _ = _call(words, None)
        return None if code else json.loads(out)

    def command(self, text: str, *, show: bool = False) -> str:
        """A line of any programs; what it printed. Raises No where it fails."""
        self._prompt(text)
        code, out, err = _of_any(text)
        if code:
            raise No(f"forwarder demo: `{text}` ended with {code}: {err.strip() or out.strip()}")
        if show:
            self.output(out)
        return out

    def quietly(self, text: str) -> None:
        """A line that is no part of the story, whatever comes of it."""
        with suppress(No):
            _of_any(text)

    def wait(
        self, text: str, true: Callable[[int, str], bool], seconds: float, *, show: bool = True
    ) -> tuple[int, str]:
        """The code and output of such a line, once they are as wished, else as they are after a while.

        Printed once, though it may be asked often.
        """
        self._prompt(text)
        said = [(0, "")]

        def as_wished() -> bool:
            code, out, _ = _of_any(text)
            said[0] = code, out
            return true(code, out)

        until(as_wished, seconds)
        if show:
            self.output(said[0][1])
        return said[0]

    def together(self, *commands: Sequence[str]) -> list[str]:
        """Verbs at the same time; what each printed."""
        self._prompt(" & ".join(map(_line, commands)))
        running = [_start(words, stdout=subprocess.PIPE) for words in commands]
        try:
            said = [process.communicate(timeout=TOGETHER_SECONDS)[0].decode() for process in running]
        finally:
            for process in running:
                process.kill()
        self.output("".join(said))
        return said

    def serve(self, config: str) -> subprocess.Popen[bytes]:
        """A daemon in the background, its log in a file beside its folder."""
        self._prompt(f"forwarder serve --config {config} 2> {config}.log &")
        with open(f"{config}.log", "wb") as log:
            return _start(("serve", "--config", config), stdout=log.fileno(), stderr=log.fileno())

    def write(self, file: str, text: str, *, by: str = "cat") -> None:
        """A file of a person's own. by: the filter that makes it, "cat" or CRLF."""
        self._prompt(f"{by} > {file} <<'END'")
        for line in [*text.splitlines(), "END"]:
            self._say(f"> {line}")
        end = "\r\n" if by == CRLF else "\n"
        Path(file).write_bytes("".join(line + end for line in text.splitlines()).encode())

    def output(self, text: str) -> None:
        for line in text.splitlines():
            self._say(f"  {line}")

    def _prompt(self, *typed: str) -> None:
        first, *rest = wrapped(typed)
        self._say(f"$ {first}")
        for more in rest:
            self._say(f">   {more}")


CRLF = """awk '{ printf "%s\\r\\n", $0 }'"""
"""Lines as RFC 5322 wants them."""


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time. Looks often."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def _start(words: Sequence[str], *, stdout: int, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """The program in a process of its own."""
    return subprocess.Popen([*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)  # noqa: S603  # our words


def _of_any(text: str) -> tuple[int, str, str]:
    """Code, output and errors of a line that a shell reads; Ctrl-C is for us, who end it. Raises No."""
    with subprocess.Popen(  # noqa: S603  # our text
        ["/bin/sh", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as running:
        try:
            out, err = running.communicate(timeout=COMMAND_SECONDS)
        except BaseException as error:
            os.killpg(running.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise No(f"forwarder demo: `{text}` took longer than {COMMAND_SECONDS:.0f} s") from None
            raise
    return running.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def _typed(words: Sequence[str]) -> list[str]:
    return ["forwarder", *map(shlex.quote, words)]


def _line(words: Sequence[str]) -> str:
    return " ".join(_typed(words))


def wrapped(typed: Sequence[str]) -> list[str]:
    """A line, broken where it is long, with a backslash at each end but the last. Options keep their values."""
    lines, before = [""], ""
    for number, word in enumerate(typed):
        unit = " ".join(typed[number : number + 2]) if word.startswith("--") else word
        long = len(f"{lines[-1]} {unit}") > COLUMNS
        if long and lines[-1] and not before.startswith("--"):
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
        before = word
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _call(words: Sequence[str], stdin: str | None) -> tuple[int, str, str]:
    """Code, output and errors of one verb in this process. Raises KeyboardInterrupt."""
    out, err = io.StringIO(), io.StringIO()
    typed = Path(stdin).read_text() if stdin else ""
    with _stdin(io.StringIO(typed)), redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code, out.getvalue(), err.getvalue()


@contextmanager
def _stdin(text: io.StringIO) -> Iterator[None]:
    before, sys.stdin = sys.stdin, text
    try:
        yield
    finally:
        sys.stdin = before
