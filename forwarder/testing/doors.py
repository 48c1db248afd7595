"""The doors of bridges in memory: what services and carriers get of a node (forwarder/bridges.py)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

import trio

from forwarder.bridges import (
    Answer,
    Failed,
    Failure,
    Gone,
    Item,
    Load,
    Never,
    Reader,
    ServicePorts,
    Submission,
    SubmissionRefused,
)
from forwarder.model import Mailbox, Notification, Outcome, Peer, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.testing.memory import SLICE, make_ports
from forwarder.testing.values import NOON, make_notification

ACCEPTED, DUPLICATE, NOUSER, PERMANENT = 0, 1, 48, 3
ROOM = 1 << 40
RIGHT = "right"


class MemoryLook:
    """What is told of each address, as text; of all others 48. An exception is raised."""

    def __init__(self, answers: Mapping[str, Answer | Exception] | None = None) -> None:
        self.answers = dict(answers or {})

    async def __call__(self, mailbox: Mailbox, /) -> Answer:
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(str(mailbox.folded), Answer(NOUSER, "no such mailbox"))
        if isinstance(answer, Exception):
            raise answer
        return answer


class MemorySpool:
    """`gone`: it was aborted. fault: raised by `write`."""

    def __init__(self, fault: OSError | None = None) -> None:
        self.octets = b""
        self.gone = False
        self.fault = fault

    async def write(self, octets: bytes, /) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        self.octets += octets

    async def abort(self) -> None:
        self.gone = True

    async def head(self, octets: int, /) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.octets[:octets]

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.octets).digest()


class MemorySubmit:
    """A store of our own. outcomes: by recipient, as text; of all others 0. fault: raised instead, nothing is taken.

    taken: each submission with its octets, those that were withdrawn for their outcome too; a delivery that is known by
    its `once` is answered 1 and not taken again.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.fault: Exception | None = None
        self.taken: list[tuple[Submission, bytes]] = []
        self._known: set[bytes] = set()

    async def __call__(self, submission: Submission, /) -> Sequence[Outcome]:
        await trio.lowlevel.checkpoint()
        spool = submission.spool
        assert isinstance(spool, MemorySpool)
        assert len(submission.once) == len(submission.to)
        if self.fault is not None:
            if isinstance(self.fault, SubmissionRefused):
                await spool.abort()
            raise self.fault
        fresh = [mark not in self._known for mark in submission.once]
        if any(fresh):
            self.taken.append((submission, spool.octets))
        outcomes = [
            self.outcomes.get(str(to), Outcome(ACCEPTED)) if new else Outcome(DUPLICATE)
            for to, new in zip(submission.to, fresh, strict=True)
        ]
        for mark, outcome in zip(submission.once, outcomes, strict=True):
            if outcome.code // 16 != PERMANENT:
                self._known.add(mark)
        return outcomes


class MemoryFailures:
    """What is to be reported. `told` is set by each `done`; `wait` ends when something was added."""

    def __init__(self, *failures: Failure) -> None:
        self.open = {failure.number: failure for failure in failures}
        self.reported: list[int] = []
        self._news = trio.Event()

    def add(self, failure: Failure) -> None:
        self.open[failure.number] = failure
        self._news.set()

    async def due(self, limit: int = 100, /) -> Sequence[Failure]:
        await trio.lowlevel.checkpoint()
        return list(self.open.values())[:limit]

    async def done(self, number: int, /) -> None:
        await trio.lowlevel.checkpoint()
        del self.open[number]
        self.reported.append(number)

    async def wait(self) -> None:
        await self._news.wait()
        self._news = trio.Event()


@dataclass
class Carriage:
    """A row of what was carried. to: whoever is not yet believed to have it; returns: as Load's; ended: who was."""

    to: list[Mailbox]
    returns: str | None = None
    ended: list[Mailbox] = field(default_factory=list)


class MemoryCarryFailed:
    """Rows of what was carried, by number. told: each report on a target that it ended."""

    def __init__(self, rows: Mapping[int, Carriage] | None = None) -> None:
        self.rows = dict(rows or {})
        self.told: list[tuple[int, Mailbox | None, Never]] = []

    async def __call__(self, number: int, mailbox: Mailbox | None, never: Never, /) -> Failed:
        await trio.lowlevel.checkpoint()
        row = self.rows.get(number)
        if row is None:
            return Failed(False, None)
        may_be = [to for to in row.to if mailbox is None or to.folded == mailbox.folded]
        ended = may_be if mailbox is not None or len(may_be) == 1 else []
        row.to = [to for to in row.to if to not in ended]
        row.ended += ended
        if ended:
            self.told.append((number, mailbox, never))
        named = mailbox is not None and mailbox.folded in {to.folded for to in (*row.to, *row.ended)}
        return Failed(bool(ended), row.returns, named)


def make_item(number: int, store: str = "store.example", mailbox: str = "brian@pobox.example") -> Item:
    """What waits for a reader; number: makes its key."""
    notification = make_notification(mailbox, store=store, key=number.to_bytes(16, "big"))
    return Item(parse_mailbox(mailbox).folded, notification, b"%d" % number)


class MemoryMailbag:
    """What waits for readers, and the stores that hold it: a Login. The password of everybody is "right".

    in_clear: whether passwords may come without TLS. bodies: by key; remove one: it was dealt with by somebody else.
    """

    def __init__(self, *bodies: bytes, store: str = "store.example") -> None:
        self.items: list[Item] = []
        self.bodies: dict[bytes, bytes] = {}
        self.in_clear = True
        self.slice = SLICE
        self.done: list[tuple[list[Item], list[Item]]] = []
        self._numbers = count(1)
        for body in bodies:
            self.put(body, store)

    def put(self, body: bytes, store: str = "store.example", mailbox: str = "brian@pobox.example") -> Item:
        item = make_item(next(self._numbers), store, mailbox)
        self.items.append(item)
        self.bodies[item.notification.identifier] = body
        return item

    async def reach(self, item: Item) -> bytes:
        """Its body, from its store."""
        await trio.lowlevel.checkpoint()
        if item.notification.identifier not in self.bodies:
            raise Gone
        return self.bodies[item.notification.identifier]

    async def slices(self, item: Item) -> AsyncGenerator[bytes, None]:
        body = await self.reach(item)
        for at in range(0, len(body), self.slice):
            await trio.lowlevel.checkpoint()
            yield body[at : at + self.slice]

    def reader(self, account: str = "brian") -> MemoryReader:
        return MemoryReader(self, account)

    def clear(self, peer: Peer, /) -> bool:
        return peer.tls or self.in_clear

    async def __call__(self, user: str, password: str, peer: Peer, /) -> Reader | None:
        await trio.lowlevel.checkpoint()
        return self.reader(user) if password == RIGHT else None


class MemoryReader:
    """Reads a mailbag."""

    def __init__(self, bag: MemoryMailbag, account: str) -> None:
        self.bag = bag
        self.account = account

    async def waiting(self) -> Sequence[Item]:
        await trio.lowlevel.checkpoint()
        return list(self.bag.items)

    async def size(self, item: Item, /) -> int:
        return len(await self.bag.reach(item))

    async def head(self, item: Item, /) -> bytes:
        head, end, _ = (await self.bag.reach(item)).partition(b"\r\n\r\n")
        return head + end

    def body(self, item: Item, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return _opened(self.bag.slices(item))

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        await trio.lowlevel.checkpoint()
        self.bag.done.append((list(items), list(gone)))
        self.bag.items = [item for item in self.bag.items if item not in (*items, *gone)]


def make_load(
    *to: str,
    body: bytes | Exception = b"Subject: tea\r\n\r\nAt four.\r\n",
    number: int = 7,
    notification: Notification | None = None,
    returns: str | None = None,
    local: bool = False,
    since: datetime = NOON,
    tries: int = 0,
) -> Load:
    """What a carrier is given, native unless `returns` says otherwise. An exception: what its body raises."""
    targets = tuple(map(parse_mailbox, to or ["bob@isp.example"]))
    opens = _body(body)
    return Load(number, notification or make_notification(), targets, returns, local, since, tries, opens)


def _body(body: bytes | Exception) -> Callable[[int], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
    async def slices(limit: int) -> AsyncGenerator[bytes, None]:
        await trio.lowlevel.checkpoint()
        if isinstance(body, Exception):
            raise body
        if len(body) > limit:
            raise PeerError(f"the message is longer than {limit} octets")
        for at in range(0, len(body), SLICE):
            yield body[at : at + SLICE]

    return lambda limit: _opened(slices(limit))


@asynccontextmanager
async def _opened(slices: AsyncGenerator[bytes, None]) -> AsyncIterator[AsyncIterator[bytes]]:
    async with aclosing(slices) as octets:
        yield octets


async def _nobody(account: str, password: str, address: str) -> bool:
    return False


def make_service_ports(**fields: Any) -> ServicePorts:
    """A service's ports in memory: nobody is here, nothing waits. fields: those of ServicePorts that differ."""
    ports = make_ports()
    usual: dict[str, Any] = {field.name: getattr(ports, field.name) for field in dataclasses.fields(ports)}
    usual |= {"node": "node.example", "look": MemoryLook(), "verify": _nobody, "login": MemoryMailbag()}
    usual |= {"spool": MemorySpool, "room": lambda: ROOM, "submit": MemorySubmit(), "failures": MemoryFailures()}
    usual |= {"carry_failed": MemoryCarryFailed(), "tls": None, "clear_login": lambda address: True}
    return ServicePorts(**(usual | fields))
