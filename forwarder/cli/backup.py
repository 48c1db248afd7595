"""`backup`: everything a node is, in a folder."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json

Into = Annotated[str, typer.Argument(metavar="DIR", help="The folder to make; it must not be there yet.")]


def backup(into: Into, config: Config = None, json: Json = False) -> int:
    """Back up state and configuration, while the daemon runs or not.

    DIR appears complete or not at all. It holds passwords and private keys. Exit 1 if it could not be made.
    """
    import time
    from pathlib import Path

    import apsw

    from forwarder.cli.errors import No
    from forwarder.cli.folder import open_folder
    from forwarder.cli.output import print_json, print_line, size_of
    from forwarder.cli.progress import progress
    from forwarder.cli.resting import HOURS, at_rest
    from forwarder.config.disk import Locked
    from forwarder.daemon.backup import CannotBackUp, back_up
    from forwarder.daemon.state import DATABASE
    from forwarder.storage.bodies import Bodies
    from forwarder.storage.generation import StrayLog, check

    folder, place = open_folder(config), Path(into).absolute()
    state = folder.settings.state
    with at_rest(state) as resting, progress("backing up") as step:
        if resting:
            try:
                check(state / DATABASE)
                said = dict(back_up(folder.settings, Bodies(state / "bodies"), place, int(time.time()), step))
            except (CannotBackUp, StrayLog, Locked, OSError, apsw.Error) as error:
                raise No(f"forwarder: {error}") from None
        else:
            said = folder.ask("backup", patience=HOURS, into=str(place))
            said.pop("ok")
    if json:
        print_json({"into": str(place), **said})
    else:
        print_line(f"{place}: {said['messages']} messages, {size_of(said['octets'])}, and the configuration")
        for name in said["damaged"]:
            print_line(f"without the body {name}: it is lost or damaged (forwarder fsck)")
    return 0
