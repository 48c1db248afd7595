"""`restore`: a backup becomes a node again."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json

Source = Annotated[str, typer.Argument(metavar="DIR", help="What `forwarder backup` made.")]
Force = Annotated[bool, typer.Option("--force", help="Where something is: keep it under another name.")]


def restore(source: Source, force: Force = False, config: Config = None, json: Json = False) -> int:
    """Restore a backup into the folder of --config (or $FORWARDER_CONFIG), which is not there yet, or empty.

    The backup is verified first. Exit 1 if it is damaged, if something is in the way, or if a daemon runs there.
    """
    import os
    from datetime import UTC, datetime
    from pathlib import Path

    from forwarder.cli.errors import No, Wrong
    from forwarder.cli.output import print_json, print_line, size_of
    from forwarder.config.settings import ENVIRONMENT
    from forwarder.daemon.restore import CannotRestore, NoBackup
    from forwarder.daemon.restore import restore as put_back
    from forwarder.daemon.state import StateInUse

    named = config or os.environ.get(ENVIRONMENT)
    if not named:
        raise Wrong(f"forwarder restore: into which folder? --config DIR (or ${ENVIRONMENT})")
    place = Path(named).absolute()
    try:
        said = put_back(Path(source).absolute(), place, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), force=force)
    except NoBackup as error:
        raise Wrong(f"forwarder: {error}") from None
    except CannotRestore as error:
        raise No(*(f"forwarder: {line}" for line in error.lines)) from None
    except StateInUse as error:
        raise No(f"forwarder: {error}") from None
    if json:
        print_json({"config": str(place), **said})
    else:
        print_line(f"{place}: {said['messages']} messages, {size_of(said['octets'])}, and the configuration")
        for kept in said["kept"]:
            print_line(f"what was there is kept as {kept}")
    return 0
