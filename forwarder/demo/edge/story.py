"""The second part from its first line to its last. Whatever ends it, neither Postfix nor our node is left running."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console

from forwarder.demo import stage
from forwarder.demo.edge import needs
from forwarder.demo.edge.mail import Letters, steps
from forwarder.demo.edge.report import TRY, print_table, print_verdict
from forwarder.demo.edge.world import EdgeWorld
from forwarder.demo.report import heading, print_try_next
from forwarder.demo.shell import Shell

EXPORTS = f"PATH=$PATH:{needs.SYSTEM_FOLDERS}; export FETCHMAILHOME=$PWD LC_ALL=C"


def tell(*, keep: bool) -> int:
    """0 if every line is as it must be, else 1. Raises Wrong where something is missing, No, KeyboardInterrupt."""
    needs.demand()
    return stage.told(lambda usual_ports: _once(keep))


def _exports(folder: str) -> Mapping[str, str]:
    """fetchmail keeps its notes here, Postfix's programs are found, and texts are the same everywhere."""
    return {"FETCHMAILHOME": folder, "PATH": needs.path(), "LC_ALL": "C"}


def _once(keep: bool) -> int:
    began = time.monotonic()
    console = Console(highlight=False)
    with stage.folder(keep, _exports) as folder:
        shell = Shell(stage.say)
        world = EdgeWorld(shell)
        try:
            letters = _pass(console, shell, world, folder)
            print_table(console, letters.lines)
            right = print_verdict(console, letters.lines, time.monotonic() - began)
            print_try_next(console, folder, keep=keep, verb="demo --postfix", exports=EXPORTS, lines=TRY)
            if keep:
                stage.stay(world.daemons.ended)
            return 0 if right else 1
        finally:
            world.stop()


def _pass(console: Console, shell: Shell, world: EdgeWorld, folder: str) -> Letters:
    heading(console, "Today's mail on loopback; this machine's own Postfix is not touched")
    stage.say(f"$ cd {folder}")
    stage.say(f"$ export {EXPORTS}")
    shell.command("chmod 711 .")
    heading(console, "Our node: two people, a role, a group, and two who read elsewhere")
    world.make_node()
    heading(console, "Postfix before it and behind it, with the lines that our node prints for it")
    world.make_mx()
    heading(console, "The world: another Postfix, of ann's, carol's and dave's domain")
    world.make_world()
    heading(console, "A letter, with all that is changed easily; and how brian and freda read")
    world.make_people()
    heading(console, "All of it runs")
    world.start()
    letters = Letters(shell, world)
    for title, step in steps(letters):
        heading(console, title)
        step()
    return letters
