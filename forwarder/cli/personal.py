"""What `read`, `send`, `sent`, `unsend` share: me.toml opened, Trio around, peers' failures as lines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from forwarder.cli.errors import No, Wrong
from forwarder.plugin import PeerError
from forwarder.ports import Gone
from forwarder.reader.desk import Desk
from forwarder.reader.notebook import Item, NotebookError
from forwarder.reader.opening import opened

T = TypeVar("T")


def at_desk(me: str | None, config: str | None, work: Callable[[Desk], Awaitable[T]]) -> T:
    """Runs `work` at the reader's desk. Raises Complaint, ConfigErrors."""

    async def run() -> T:
        async with opened(me, config) as desk:
            return await work(desk)

    try:
        return trio.run(run)
    except PeerError as error:
        raise No(f"forwarder: {error}") from None
    except NotebookError as error:
        raise Wrong(f"forwarder: the notebook: {error} (reader.db, see --me)") from None


def waiting(desk: Desk, number: int) -> Item:
    """The item of a number. Raises No."""
    item = desk.notebook.item(number)
    if item is None:
        raise No(f"forwarder: no item {number} waits (see `forwarder read`)")
    return item


async def fetch(desk: Desk, item: Item, write: Callable[[bytes], object], limit: int) -> int:
    """The message, to `write`. Raises No: its store has it no more, and the item has left the list."""
    try:
        return await desk.fetch(item, write, limit)
    except Gone:
        raise No(f"forwarder: {item.number}: already handled or withdrawn") from None
