"""At the store of an item: look, silence, retrieve, un-pin (protocol 4, recipient side).

Silence only what was saved, and never a key that others hold too (5.3: it would end the repeats they depend on).
errornosuchmessage is an answer: dealt with, withdrawn or expired. Retrieve goes on where it broke off.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import trio

from forwarder.model import SHA256, ContentDigest, Notification
from forwarder.net.sources import FETCH_SECONDS, SLICE, SLOWEST
from forwarder.plugin import PeerError
from forwarder.ports import Gone, NoService
from forwarder.reader.calls import Calls, Refused, Talk, expect, twice
from forwarder.reader.me import Me
from forwarder.reader.notebook import Item, Notebook
from forwarder.wire.msrap import QuerySize, Retrieve, Retrieved, Silence, Silenced, Size, UnPin, UnPinned, View
from forwarder.wire.notification import decode_notification

AT_ONCE = 8
"""Stores spoken to at the same time."""
IN_ALL = 30.0
"""Seconds for all that `read` does at stores before it prints."""


class TooLarge(PeerError):
    """The message has more octets than we asked for at most."""


class WrongDigest(PeerError):
    """What the store served is not what the notification announced."""


def notification_of(item: Item) -> Notification | None:
    """None for an item of a list, which has only its key. Raises MalformedPDU if the notebook was tampered with."""
    return None if item.octets is None else decode_notification(item.octets)


class Stores:
    """The stores of one person's items."""

    def __init__(self, calls: Calls, notebook: Notebook, me: Me) -> None:
        self._calls, self._notebook, self._me = calls, notebook, me

    @asynccontextmanager
    async def _at(self, item: Item) -> AsyncIterator[Talk]:
        notification = notification_of(item)
        if notification is not None:
            async with self._calls.store(notification) as talk:
                yield talk
            return
        entry = self._me.list_named(item.list or "")
        if entry is None:
            raise NoService("noservice", f"the list {item.list} is no more in {self._me.file}")
        async with self._calls.own(entry.where, "msrap", entry) as talk:
            yield talk

    async def alive(self, item: Item) -> bool:
        """Whether the store still has it; never changes the read status. Raises PeerError."""
        try:
            await twice(partial(self._look, item))
        except Gone:
            return False
        return True

    async def _look(self, item: Item) -> None:
        try:
            async with self._at(item) as talk:
                expect(await talk.ask(QuerySize(item.key)), Size, item.store)
        except Refused as refused:
            if not refused.legacy:
                raise
            async with self._at(item) as talk:
                expect(await talk.ask(Retrieve(item.key, View.nothing, 0, 0)), Retrieved, item.store)

    async def unpin(self, item: Item) -> bool:
        """True: un-pinned now. False: closed before, perhaps by us (protocol 4). Raises PeerError."""
        try:
            await twice(partial(self._unpin, item))
        except Gone:
            return False
        return True

    async def _unpin(self, item: Item) -> None:
        async with self._at(item) as talk:
            expect(await talk.ask(UnPin(item.key)), UnPinned, item.store)

    async def settle(self, missing: Iterable[Item]) -> list[Item]:
        """After a poll: silences what is new and not shared, looks after what is `missing`; the items that are dead.

        A store that cannot be asked now is asked at the next poll. Takes at most IN_ALL seconds.
        """
        dead: list[Item] = []
        gate = trio.CapacityLimiter(AT_ONCE)
        with trio.move_on_after(IN_ALL):
            async with trio.open_nursery() as nursery:
                for item in dict.fromkeys(missing):
                    nursery.start_soon(self._check, gate, item, dead)
                for item in self._notebook.items():
                    if not item.silenced and not _shared(item):
                        nursery.start_soon(self._silence, gate, item, dead)
        return dead

    async def _check(self, gate: trio.CapacityLimiter, item: Item, dead: list[Item]) -> None:
        async with gate:
            try:
                if not await self.alive(item):
                    dead.append(item)
            except PeerError:
                return

    async def _silence(self, gate: trio.CapacityLimiter, item: Item, dead: list[Item]) -> None:
        async with gate:
            try:
                async with self._at(item) as talk:
                    expect(await talk.ask(Silence(item.key)), Silenced, item.store)
                self._notebook.silenced(item.number)
            except Gone:
                dead.append(item)
            except PeerError:
                return

    async def fetch(self, item: Item, write: Callable[[bytes], object], limit: int) -> int:
        """The whole message in order, to `write`; its octets. Checked against the notification's digest at the end.

        Raises Gone, TooLarge, WrongDigest, PeerError; so too after FETCH_SECONDS and a second for each SLOWEST octets.
        """
        with trio.move_on_after(FETCH_SECONDS + limit / SLOWEST):
            return await self._fetch(item, write, limit)
        raise PeerError(f"{item.store}: the message comes too slowly")

    async def _fetch(self, item: Item, write: Callable[[bytes], object], limit: int) -> int:
        notification, hashed = notification_of(item), hashlib.sha256()
        offset, broke_at, whole = 0, -1, False
        while not whole:
            try:
                async with self._at(item) as talk:
                    while not whole:
                        data, whole = await _slice(talk, item, offset, limit)
                        hashed.update(data)
                        write(data)
                        offset += len(data)
            except (Refused, NoService, TooLarge):
                raise
            except PeerError:
                if offset == broke_at:
                    raise
                broke_at = offset
        _verify(notification.digest if notification else None, hashed.digest())
        return offset


def _shared(item: Item) -> bool:
    notification = notification_of(item)
    return notification is not None and notification.shared


async def _slice(talk: Talk, item: Item, offset: int, limit: int) -> tuple[bytes, bool]:
    """The octets from `offset` on that the store gives in one answer, and whether they are the last."""
    ask = min(SLICE, limit + 1 - offset)
    data, size = expect(await talk.ask(Retrieve(item.key, View.all, offset, ask)), Retrieved, item.store)
    end = offset + len(data)
    if end > limit or (size or 0) > limit:
        raise TooLarge(f"the message has {size or 'more'} octets, over the limit of {limit}")
    if len(data) > ask:
        raise Refused(f"{item.store}: more octets than asked for")
    if not data and size is not None and end < size:
        raise Refused(f"{item.store}: the message ends after {end} of {size} octets")
    return data, not data or end == size


def _verify(announced: ContentDigest | None, found: bytes) -> None:
    if announced and announced.algorithm == SHA256 and not hmac.compare_digest(announced.value, found):
        raise WrongDigest("the message is not the one that was announced: its SHA-256 differs from the notification's")
