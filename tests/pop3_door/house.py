"""A mailbox in memory, and a client that says lines: what the tests of the door share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio
import trio.testing

from forwarder.model import Peer, parse_mailbox
from forwarder.testing import MemoryLog, make_notification
from forwarder_pop3_door.checks import Checks
from forwarder_pop3_door.reading import Gone, Item, PeerError, Reader
from forwarder_pop3_door.visit import House, Visit

TEA = b"From: toby@home.example\r\nSubject: tea\r\n\r\nAt four.\r\n.\r\n..and a dot\r\n"
BUN = b"Subject: buns\r\n\r\none\r\ntwo\r\nthree\r\n"


def make_item(number: int, store: str = "store.example", mailbox: str = "brian@pobox.example") -> Item:
    key = number.to_bytes(16, "big")
    return Item(parse_mailbox(mailbox).folded, make_notification(mailbox, store=store, key=key), b"%d" % number)


class Mailbag:
    """What waits at a node, and the stores that hold it; a `Login` too. Everything that is asked of it is noted."""

    def __init__(self, *bodies: bytes, store: str = "store.example") -> None:
        self.items: list[Item] = []
        self.bodies: dict[bytes, bytes] = {}
        for body in bodies:
            self.put(body, store)
        self.down: set[str] = set()
        """Stores that answer nothing but a refusal..."""
        self.silent: set[str] = set()
        """... or nothing at all."""
        self.torn: dict[bytes, int] = {}
        """Keys whose body breaks after so many octets."""
        self.faulty: set[bytes] = set()
        """Keys whose body shows a fault of ours."""
        self.slice = 64 << 10
        self.in_clear = True
        self.commit: Exception | None = None
        self.asked: list[Item] = []
        self.read: list[Item] = []
        self.done: list[tuple[list[Item], list[Item]]] = []
        self.most_stores = 0
        self._being_asked: list[str] = []

    def put(self, body: bytes, store: str = "store.example", mailbox: str = "brian@pobox.example") -> Item:
        item = make_item(len(self.items) + 1, store, mailbox)
        self.items.append(item)
        self.bodies[item.notification.identifier] = body
        return item

    def lose(self, number: int) -> Item:
        """Somebody else has dealt with it."""
        item = self.items[number - 1]
        del self.bodies[item.notification.identifier]
        return item

    async def reach(self, item: Item) -> bytes:
        self._being_asked.append(item.notification.store)
        self.most_stores = max(self.most_stores, len(set(self._being_asked)))
        try:
            await trio.lowlevel.checkpoint()
            if item.notification.store in self.silent:
                await trio.sleep_forever()
            if item.notification.store in self.down:
                raise PeerError(f"{item.notification.store} refuses")
            if item.notification.identifier not in self.bodies:
                raise Gone
            return self.bodies[item.notification.identifier]
        finally:
            self._being_asked.remove(item.notification.store)

    def reader(self, account: str = "brian") -> MemoryReader:
        return MemoryReader(self, account)

    def clear(self, peer: Peer, /) -> bool:
        return peer.tls or self.in_clear

    async def __call__(self, user: str, password: str, peer: Peer, /) -> Reader | None:
        await trio.lowlevel.checkpoint()
        if password == "busy":
            raise PeerError("too many tries")
        return self.reader(user) if password == "right" else None


class MemoryReader:
    def __init__(self, bag: Mailbag, account: str) -> None:
        self.bag = bag
        self.account = account

    async def waiting(self) -> Sequence[Item]:
        await trio.lowlevel.checkpoint()
        return list(self.bag.items)

    async def size(self, item: Item, /) -> int:
        self.bag.asked.append(item)
        return len(await self.bag.reach(item))

    async def head(self, item: Item, /) -> bytes:
        head, end, _ = (await self.bag.reach(item)).partition(b"\r\n\r\n")
        return head + end

    @asynccontextmanager
    async def body(self, item: Item, /) -> AsyncIterator[AsyncIterator[bytes]]:
        self.bag.read.append(item)
        async with aclosing(self._slices(item)) as slices:
            yield slices

    async def _slices(self, item: Item) -> AsyncGenerator[bytes, None]:
        body, key = await self.bag.reach(item), item.notification.identifier
        if key in self.bag.faulty:
            raise RuntimeError("a fault of ours")
        end = self.bag.torn.get(key, len(body))
        for at in range(0, end, self.bag.slice):
            await trio.lowlevel.checkpoint()
            yield body[at : min(at + self.bag.slice, end)]
        if key in self.bag.torn:
            raise PeerError("torn")

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        await trio.lowlevel.checkpoint()
        if self.bag.commit is not None:
            raise self.bag.commit
        self.bag.done.append((list(items), list(gone)))
        self.bag.items = [item for item in self.bag.items if item not in (*items, *gone)]


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
