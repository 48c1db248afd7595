"""A mailbox in memory, and a client that says lines: what the tests of the door share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import trio
import trio.testing

from forwarder.bridges import Item, Reader
from forwarder.model import Peer
from forwarder.plugin import PeerError
from forwarder.testing import MemoryLog, MemoryMailbag, MemoryReader
from forwarder_pop3_door.checks import Checks
from forwarder_pop3_door.visit import House, Visit

TEA = b"From: toby@home.example\r\nSubject: tea\r\n\r\nAt four.\r\n.\r\n..and a dot\r\n"
BUN = b"Subject: buns\r\n\r\none\r\ntwo\r\nthree\r\n"


class Mailbag(MemoryMailbag):
    """One whose stores fail in all ways. Everything that is asked of it is noted."""

    def __init__(self, *bodies: bytes, store: str = "store.example") -> None:
        super().__init__(*bodies, store=store)
        self.down: set[str] = set()
        """Stores that answer nothing but a refusal..."""
        self.silent: set[str] = set()
        """... or nothing at all."""
        self.torn: dict[bytes, int] = {}
        """Keys whose body breaks after so many octets."""
        self.faulty: set[bytes] = set()
        """Keys whose body shows a fault of ours."""
        self.commit: Exception | None = None
        self.asked: list[Item] = []
        self.read: list[Item] = []
        self.most_stores = 0
        self._being_asked: list[str] = []

    def lose(self, number: int) -> Item:
        """Somebody else has dealt with it."""
        item = self.items[number - 1]
        del self.bodies[item.notification.identifier]
        return item

    async def reach(self, item: Item) -> bytes:
        self._being_asked.append(item.notification.store)
        self.most_stores = max(self.most_stores, len(set(self._being_asked)))
        try:
            if item.notification.store in self.silent:
                await trio.sleep_forever()
            if item.notification.store in self.down:
                raise PeerError(f"{item.notification.store} refuses")
            return await super().reach(item)
        finally:
            self._being_asked.remove(item.notification.store)

    async def slices(self, item: Item) -> AsyncGenerator[bytes, None]:
        key = item.notification.identifier
        if key in self.faulty:
            raise RuntimeError("a fault of ours")
        left = self.torn.get(key)
        async with aclosing(super().slices(item)) as slices:
            async for octets in slices:
                yield octets if left is None else octets[:left]
                left = None if left is None else max(left - len(octets), 0)
                if left == 0:
                    raise PeerError("torn")

    def reader(self, account: str = "brian") -> MemoryReader:
        return NotingReader(self, account)

    async def __call__(self, user: str, password: str, peer: Peer, /) -> Reader | None:
        if password == "busy":
            raise PeerError("too many tries")
        return await super().__call__(user, password, peer)


class NotingReader(MemoryReader):
    bag: Mailbag

    async def size(self, item: Item, /) -> int:
        self.bag.asked.append(item)
        return await super().size(item)

    def body(self, item: Item, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self.bag.read.append(item)
        return super().body(item)

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        if self.bag.commit is not None:
            raise self.bag.commit
        await super().done(items, gone)


class Talk:
    """A client that says lines and reads answers, over any stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._in = bytearray()

    async def line(self) -> str:
        """The next line; "" at the end."""
        while (end := self._in.find(b"\r\n")) < 0:
            data = await self.stream.receive_some(65536)
            if not data:
                assert not self._in, self._in
                return ""
            self._in += data
        line = bytes(self._in[:end])
        del self._in[: end + 2]
        return line.decode("latin-1")

    async def say(self, line: str) -> None:
        await self.stream.send_all(line.encode() + b"\r\n")

    async def ask(self, line: str) -> str:
        await self.say(line)
        return await self.line()

    async def lines(self) -> list[str]:
        """The lines of an answer after its first, un-stuffed."""
        found: list[str] = []
        while (line := await self.line()) != ".":
            if line == "" and await self._ended():
                raise EOFError(found)
            found.append(line.removeprefix("."))
        return found

    async def _ended(self) -> bool:
        if self._in:
            return False
        self._in += await self.stream.receive_some(65536)
        return not self._in

    async def many(self, line: str) -> list[str]:
        first = await self.ask(line)
        assert first.startswith("+OK"), first
        return await self.lines()

    async def rest(self) -> bytes:
        """All until the end."""
        while data := await self.stream.receive_some(65536):
            self._in += data
        return bytes(self._in)


class Room:
    """A house in memory: visits come over pairs of streams."""

    def __init__(self, nursery: trio.Nursery, bag: Mailbag, *, check_wait: float = 5, buffer: int = 1 << 20) -> None:
        self.log = MemoryLog()
        self.bag = bag
        self.checks = Checks(nursery, check_wait, self.log)
        self.house = House(bag, self.checks, None, buffer, self.log)
        self.ends: list[str] = []
        self.over = trio.Event()
        self._nursery = nursery

    async def come(self) -> Talk:
        """A client who has been greeted."""
        mine, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, Visit(self.house, theirs, Peer("192.0.2.1")))
        talk = Talk(mine)
        assert (await talk.line()).startswith("+OK ")
        return talk

    async def enter(self, user: str = "brian") -> Talk:
        talk = await self.come()
        assert (await talk.ask(f"USER {user}")).startswith("+OK")
        assert (await talk.ask("PASS right")).startswith("+OK")
        return talk

    async def _serve(self, visit: Visit) -> None:
        try:
            await visit.run()
            self.ends.append("clean")
        except Exception as error:
            self.ends.append(type(error).__name__)
        await visit.stream.aclose()
        self.over.set()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.log.lines if event == name]
