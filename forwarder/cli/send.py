"""`send`: originate a message at my store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwarder.cli.options import Config, Json, Me

if TYPE_CHECKING:
    from forwarder.reader.desk import Desk


def send(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ADDRESS...] [FILE]", help="More recipients; the message, stdin if none or -."),
    ] = None,
    to: Annotated[list[str], typer.Option("--to", metavar="ADDRESS", help="A recipient; may be repeated.")] = [],  # noqa: B006  # typer copies it
    lifetime: Annotated[str, typer.Option("--lifetime", help="How long the store shall keep it.")] = "30d",
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Submit a message at my store.

    Prints a handle for each recipient, for `sent` and `unsend`. The octets are sent as they are; what they lack is
    said, not invented.
    """
    from forwarder.cli import outgoing, personal

    recipients, file = outgoing.recipients(to, words or [])
    seconds = outgoing.seconds(lifetime)
    octets = outgoing.read_message(file)

    async def work(desk: Desk) -> dict[str, Any]:
        return await outgoing.submit(desk, recipients, octets, seconds)

    return outgoing.print_submitted(personal.at_desk(me, config, work), json)
