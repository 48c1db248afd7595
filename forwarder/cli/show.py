"""`show`: one address."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json


def show(address: Annotated[str, typer.Argument(metavar="ADDRESS")], config: Config = None, json: Json = False) -> int:
    """Show the entry that serves an address.

    Its file, strategy, targets or readers, limits and options.
    """
    from forwarder.cli import entries
    from forwarder.cli.folder import an_address, open_folder

    mailbox = an_address(address)
    folder = open_folder(config)
    return entries.print_entry(folder, folder.winner(mailbox), json)
