"""`fsck`: the state held against itself and the address files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from forwarder.cli.options import Config, Json


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Put right what is safe, and say what was done.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every body and compare its SHA-256.")] = False,
    config: Config = None,
    json: Json = False,
) -> int:
    """Check database, bodies and catalogue against each other; with a running daemon, by the daemon.

    Exit 0 if all is fine or was repaired, 1 if problems are left.
    """
    from forwarder.cli.folder import Folder, open_folder
    from forwarder.cli.output import print_json
    from forwarder.cli.progress import progress
    from forwarder.cli.resting import HOURS, at_rest

    def look(folder: Folder, resting: bool, step: Callable[[], None]) -> dict[str, Any]:
        if not resting:
            said = folder.ask("fsck", patience=HOURS, repair=repair, deep=deep)
            return {key: said[key] for key in ("checked", "problems", "left")}
        import time
        from functools import partial

        import trio

        from forwarder.daemon.checkup import check_at_rest

        specs = folder.plugins.strategies
        checking = partial(check_at_rest, folder.settings, specs, time.time, repair=repair, deep=deep, step=step)
        return dict(trio.run(checking).said)

    folder = open_folder(config)
    with at_rest(folder.settings.state) as resting, progress("checking") as step:
        said = look(folder, resting, step)
    if json:
        print_json(said)
    else:
        _print(said, repair)
    return 1 if said["left"] else 0


def _print(said: dict[str, Any], repair: bool) -> None:
    from forwarder.cli.output import print_line

    for problem in said["problems"]:
        print_line(f"{'repaired' if problem['repaired'] else 'problem'}  {problem['kind']}: {problem['text']}")
    counted = ", ".join(f"{count} {name}" for name, count in said["checked"].items() if count)
    if not said["problems"]:
        print_line(f"all is fine: {counted or 'nothing there yet'}")
    elif said["left"]:
        hint = "these need a person (docs/operations.md)" if repair else "--repair puts right what is safe"
        print_line(f"{said['left']} problems left of {len(said['problems'])}; {hint}")
