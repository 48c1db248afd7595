"""Ports in memory: all that a strategy or a screen gets of the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta

import trio

from forwarder.model import Notification
from forwarder.plugin import Log, PeerError, Ports, Texts
from forwarder.testing.values import NOON

SLICE = 64 << 10


class TurnedClock:
    """A clock that stands until it is turned."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now

    def __call__(self) -> datetime:
        return self._now

    def turn(self, by: timedelta) -> None:
        self._now += by


class MemoryLog:
    """Keeps what was logged: (event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))


class MemorySource:
    """A sender's store that holds the given bodies by key. Remove one: it was dealt with or withdrawn."""

    def __init__(self, bodies: Mapping[bytes, bytes] | None = None) -> None:
        self.bodies = dict(bodies or {})

    async def still_there(self, notification: Notification, /) -> bool:
        await trio.lowlevel.checkpoint()
        return notification.identifier in self.bodies

    async def head(self, notification: Notification, /, limit: int = 65536) -> bytes:
        await trio.lowlevel.checkpoint()
        head, end, _ = self._body(notification).partition(b"\r\n\r\n")
        return (head + end)[:limit]

    @asynccontextmanager
    async def body(self, notification: Notification, /, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        async with aclosing(self._slices(self._body(notification), limit)) as slices:
            yield slices

    async def _slices(self, body: bytes, limit: int) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(body), SLICE):
            if at + len(body[at : at + SLICE]) > limit:
                raise PeerError(f"the message is longer than {limit} octets")
            await trio.lowlevel.checkpoint()
            yield body[at : at + SLICE]

    def _body(self, notification: Notification) -> bytes:
        if notification.identifier not in self.bodies:
            raise PeerError("no such message")
        return self.bodies[notification.identifier]


class MemoryTexts:
    """TXT records by name. A name in `silent` gets no answer; `asked`: each look-up that would have gone out."""

    def __init__(self, records: Mapping[str, Sequence[str]] | None = None) -> None:
        self.records = dict(records or {})
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self._known: dict[str, tuple[str, ...]] = {}

    def known(self, name: str, /) -> tuple[str, ...] | None:
        return self._known.get(name)

    async def find(self, name: str, /) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if name not in self._known:
            self.asked.append(name)
            if name in self.silent:
                raise PeerError(f"no nameserver answers for {name}")
            self._known[name] = tuple(self.records.get(name, ()))
        return self._known[name]

    def forget(self) -> None:
        """Their TTL has passed."""
        self._known.clear()


async def _no_network(host: str, port: int) -> trio.SocketStream:
    raise PeerError(f"there is no network in a test: {host} port {port}")


def make_ports(
    bodies: Mapping[bytes, bytes] | None = None,
    *,
    log: Log | None = None,
    now: Callable[[], datetime] | None = None,
    texts: Texts | None = None,
) -> Ports:
    """A plugin's ports in memory: these bodies at the sender's store, a clock that stands at NOON, no network."""
    return Ports(MemorySource(bodies), log or MemoryLog(), now or TurnedClock(), _no_network, texts or MemoryTexts())
