"""`unsend`: withdraw what I sent, for one recipient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwarder.cli.options import Config, Json, Me

if TYPE_CHECKING:
    from forwarder.reader.desk import Desk


def unsend(
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="As `send` printed it.")],
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Cancel a message at my store.

    Under this handle it can be read no more.
    """
    from forwarder.cli import personal, tracking

    async def work(desk: Desk) -> dict[str, Any]:
        (chosen,) = tracking.chosen(desk, handle, 2)
        return await tracking.cancel(desk, chosen)

    return tracking.print_cancelled(personal.at_desk(me, config, work), json)
