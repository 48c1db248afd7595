"""The demo from its first line to its last: makes the world, lets the mail pass, says what was seen, cleans up.

Whatever ends it, no process of it is left; its folder stays only with --keep.
"""

from __future__ import annotations

import time

from rich.console import Console

from forwarder.demo import report, stage
from forwarder.demo.figures import Meters
from forwarder.demo.mail import Mail
from forwarder.demo.shell import Shell
from forwarder.demo.stage import say, stay, told
from forwarder.demo.world import World

NOTEBOOKS = "XDG_DATA_HOME"


def tell(*, keep: bool) -> int:
    """0 if every line is as it must be, else 1. Raises No, KeyboardInterrupt."""
    return told(lambda usual_ports: _once(keep, usual_ports=usual_ports))


def _once(keep: bool, *, usual_ports: bool) -> int:
    began = time.monotonic()
    console = Console(highlight=False)
    with stage.folder(keep, lambda path: {NOTEBOOKS: path}) as folder:
        shell = Shell(say)
        world = World(shell, usual_ports=usual_ports)
        try:
            mail = _pass(console, shell, world, folder)
            report.print_table(console, mail.passages)
            right = report.print_findings(console, mail, time.monotonic() - began)
            report.print_try_next(console, folder, keep=keep)
            if keep:
                stay(world.daemons.ended)
            return 0 if right else 1
        finally:
            with stage.undisturbed():
                world.daemons.stop()


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
    world.daemons.start()
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
