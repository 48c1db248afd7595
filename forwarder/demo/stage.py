"""What every part of the demo stands on: a folder and an environment of its own, signals that end it in order."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from types import FrameType

from forwarder.cli.errors import No
from forwarder.demo.daemons import PortTaken

ENDING = (signal.SIGTERM, signal.SIGHUP)
INTERRUPTING = (*ENDING, signal.SIGINT)


def say(line: str = "") -> None:
    print(line, flush=True)


def told(part: Callable[[bool], int]) -> int:
    """A part's exit code; once more on other ports where one was taken. part: may it have the usual ports?

    Raises No, KeyboardInterrupt.
    """
    with ended_by_signals():
        try:
            return part(True)
        except PortTaken:
            say("\nSomebody took a port meanwhile: once more, on others.")
        try:
            return part(False)
        except PortTaken as node:
            raise No(f"forwarder demo: no free port for {node}") from None


def stay(ended: Callable[[], str | None]) -> None:
    """Until Ctrl-C. Raises No where a node ends by itself."""
    try:
        while (node := ended()) is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("\nThe world ends; its folder stays.")
        return
    raise No(f"forwarder demo: {node} has ended")


@contextmanager
def folder(keep: bool, exports: Callable[[str], Mapping[str, str]]) -> Iterator[str]:
    """A folder to work in; nothing of the person's is touched. exports: of the folder, what is exported there."""
    path, before = tempfile.mkdtemp(prefix="forwarder-demo-"), dict(os.environ)
    try:
        os.environ.update(exports(path))
        with chdir(path):
            yield path
    finally:
        for name in exports(path):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does."""
    with _handled(ENDING, _interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """What must not be left half done: a signal in the midst of it strikes at its end. Must be short."""
    struck: list[int] = []
    with _handled(INTERRUPTING, lambda number, frame: struck.append(number)):
        yield
    if struck:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], how: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, how) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
