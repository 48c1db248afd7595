"""`why`: where an address's mail goes, and by which line."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Address, Config, Json


def why(
    address: Address,
    sender: Annotated[str, typer.Option("--from", metavar="SENDER@STORE", help="As if it came from there.")] = "",
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help='As if it were so big ("30MiB").')] = "",
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="As if it came then (RFC 3339).")] = "",
    config: Config = None,
    json: Json = False,
) -> int:
    """Show which file and line wins for an address, and what would be sent where; sends nothing. Exit 1: nobody."""
    from forwarder.cli.explaining import Question, print_explanation

    return print_explanation(Question(address, sender, size, at), config, json)
