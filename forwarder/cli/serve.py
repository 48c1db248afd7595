"""`serve`: the daemon, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config


def serve(
    config: Config = None,
    debug: Annotated[bool, typer.Option("--debug", help="Also log what happens to each message.")] = False,
) -> int:
    """Run the daemon until SIGTERM, then drain; SIGHUP reloads. Exit 2: cannot start; 1: another runs, disk fails."""
    import trio

    from forwarder.cli.errors import No, Wrong, peel
    from forwarder.cli.folder import open_folder
    from forwarder.daemon.run import log_to_stderr, serve
    from forwarder.daemon.state import StateInUse
    from forwarder.storage.database import DISK_FAULTS, DatabaseUnfit

    settings = open_folder(config).settings
    log_to_stderr(debug=debug)
    try:
        trio.run(serve, settings)
    except StateInUse as error:
        raise No(f"forwarder: {error}") from None
    except BaseException as error:
        fault = peel(error)
        if isinstance(fault, DatabaseUnfit):
            raise Wrong(f"forwarder: {fault}") from None
        if isinstance(fault, DISK_FAULTS):
            raise No(f"forwarder: the database in {settings.state}: {fault}") from None
        raise
    return 0
