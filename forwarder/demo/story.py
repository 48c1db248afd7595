"""The demo from its first line to its last: makes the world, lets the mail pass, says what was seen, cleans up.

Whatever ends it, no process of it is left; its folder stays only with --keep.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from types import FrameType

from rich.console import Console

from forwarder.cli.errors import No
from forwarder.demo import report
from forwarder.demo.figures import Meters
from forwarder.demo.mail import Mail
from forwarder.demo.shell import Shell
from forwarder.demo.world import PortTaken, World

NOTEBOOKS = "XDG_DATA_HOME"
ENDING = (signal.SIGTERM, signal.SIGHUP)


def tell(*, keep: bool) -> int:
    """0 if every line is as it must be, else 1. Raises No, KeyboardInterrupt."""
    with _ended_by_signals():
        try:
            return _once(keep, usual_ports=True)
        except PortTaken:
            say("\nSomebody took a port meanwhile: once more, on others.")
        try:
            return _once(keep, usual_ports=False)
        except PortTaken as node:
            raise No(f"forwarder demo: no free port for {node}") from None


def say(line: str = "") -> None:
    print(line, flush=True)


def _once(keep: bool, *, usual_ports: bool) -> int:
    began = time.monotonic()
    console = Console(highlight=False)
    with _folder(keep) as folder:
        shell = Shell(say)
        world = World(shell, usual_ports=usual_ports)
        try:
            mail = _pass(console, shell, world, folder)
            report.print_table(console, mail.passages)
            right = report.print_findings(console, mail, time.monotonic() - began)
            report.print_try_next(console, folder, keep=keep)
            if keep:
                _stay(world)
            return 0 if right else 1
        finally:
            world.stop()


def _pass(console: Console, shell: Shell, world: World, folder: str) -> Mail:
    report.heading(console, "A small mail world on loopback, made by commands alone")
    say(f"$ cd {folder}")
    say(f"$ export {NOTEBOOKS}=$PWD")
    report.heading(console, "Three nodes, each with DNS zones of its own: acme sends, pobox forwards, isp receives")
    world.make_nodes()
    report.heading(console, "Who may log in where")
    world.make_accounts()
    report.heading(console, "An address for each of the six ways, a role, a group; and where they point")
    world.make_addresses()
    report.heading(console, "Four people, and a letter with an attachment")
    world.make_people()
    report.heading(console, "The nodes run")
    world.start()
    mail = Mail(shell, Meters(shell))
    report.heading(console, "Alice sends; after each mail the nodes' counters are read, as above")
    mail.send()
    report.heading(console, "Before anybody reads: what has Alice's store seen?")
    mail.look()
    report.heading(console, "Brian, Bob and Freda read, and are done with it")
    mail.read_and_unpin()
    report.heading(console, "Nothing waits; every un-pin is back at Alice's store")
    mail.close()
    return mail


def _stay(world: World) -> None:
    """Until Ctrl-C. Raises No where a node ends by itself."""
    try:
        while (node := world.ended()) is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("\nThe world ends; its folder stays.")
        return
    raise No(f"forwarder demo: {node} has ended")


@contextmanager
def _folder(keep: bool) -> Iterator[str]:
    """A folder of our own to work in, notebooks included, so that nothing of the person's is touched."""
    folder, before = tempfile.mkdtemp(prefix="forwarder-demo-"), os.environ.get(NOTEBOOKS)
    os.environ[NOTEBOOKS] = folder
    try:
        with chdir(folder):
            yield folder
    finally:
        if before is None:
            del os.environ[NOTEBOOKS]
        else:
            os.environ[NOTEBOOKS] = before
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
