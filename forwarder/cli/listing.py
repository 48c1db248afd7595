"""`list`: the addresses there are."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json


def list_(
    glob: Annotated[str | None, typer.Argument(metavar="[GLOB]", help='Such as "*@pobox.example".')] = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """List the addresses.

    Those that have a file of their own. Exit 1 if none matches the GLOB.
    """
    from forwarder.cli import entries
    from forwarder.cli.folder import open_folder

    return entries.print_list(open_folder(config), glob, json)
