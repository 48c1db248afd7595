"""`sent`: what became of what I sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwarder.cli.options import Config, Json, Me

if TYPE_CHECKING:
    from forwarder.reader.desk import Desk


def sent(
    handle: Annotated[str | None, typer.Argument(metavar="[HANDLE]", help="As `send` printed it.")] = None,
    most: Annotated[int, typer.Option("--last", min=1, max=1000, help="How many, the newest first.")] = 50,
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Track what I sent.

    Asks the store: notified, read, still pinned, redirected where.
    """
    from forwarder.cli import personal, tracking

    async def work(desk: Desk) -> list[dict[str, Any]]:
        return await tracking.track(desk, tracking.chosen(desk, handle, most))

    return tracking.print_tracked(personal.at_desk(me, config, work), json)
