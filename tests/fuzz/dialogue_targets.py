"""Talks of commands that are all valid, in any order and with any numbers: a service never has an internal problem.

Beside that: what a session was told to be over is over for the next one too.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from forwarder.model import Endpoint, Mailbox, Notification, Outcome, Peer, Redirect, Route, ServiceLocation
from forwarder.ports import Arrival, Conversation
from forwarder.services.rnaqp import Rnaqp
from forwarder.services.rnasp import Rnasp
from forwarder.storage import inbox as inbox_room
from forwarder.storage.caps import InboxLimits
from forwarder.storage.database import Database
from forwarder.storage.inbox import Inbox
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.outcome import code_class
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP, Protocol

from ..agent.conftest import MAKERS  # noqa: TID252  # the agents and stores on memory that other tests have too
from ..agent.world import build, route  # noqa: TID252
from ..services.store_house import StoreHouse  # noqa: TID252
from .loop import Loop
from .target import Choices, Target

NUMBERS = [
    0,
    1,
    2,
    9,
    255,
    299,
    300,
    1000,
    65535,
    86400,
    1 << 20,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
SMALL = [0, 1, 2, 5, 20]
COMMANDS_MOST = 16
NOW = 1_800_000_000
BODIES = [b"From: a@b.example\r\nSubject: x\r\n\r\nhello\r\n", b"", b"\r\n", b"From", b"To: x\n" * 50]
ACCOUNTS = ["toby", "bob", "reader", "writer", "nobody", "", "a/b", "\0"]
PLACES = ["brian@pobox.example", "anna@isp.example", "BRIAN@pobox.example", '"a b"@x.example', "é@pobox.example"]
LISTS = ["news", "minutes@pobox.example", "x", "\0", "é", "a@b"]
MAILBOXES = [*(Mailbox(*place.replace('"', "").split("@")) for place in PLACES), Mailbox("\n", "pobox.example")]


def pick(choices: Choices, among: list[Any]) -> Any:
    return among[choices.below(len(among))]


def checked(protocol: Protocol, response: Any) -> Any:
    """As it comes through the codec; the peer is never told of a problem of ours."""
    octets = protocol.encode_response(response)
    assert len(octets) <= protocol.response_limit
    read = protocol.decode_response(octets)
    assert read.status.name not in ("errorinternalproblem", "errormalformedpdu", "errorcommandtimeout"), read
    return read


async def said(protocol: Protocol, conversation: Conversation, command: Any) -> Any:
    """What a command is answered, both through the codec."""
    octets = protocol.encode_command(command)
    assert len(octets) <= protocol.command_limit
    return checked(protocol, await conversation.answer(protocol.decode_command(octets)))


class Told:
    """What a callback was called with."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self._some = trio.Event()

    def tell(self, answer: Any) -> None:
        self.answers.append(answer)
        self._some.set()

    async def wait(self) -> None:
        await self._some.wait()


class StoreTalk:
    """An originator and two readers at one store."""

    def __init__(self, house: StoreHouse, choices: Choices, address: str) -> None:
        self.house, self.choices, self.address = house, choices, address
        self.writer = house.msoap.open(Peer(address))
        self.readers = [house.msrap.open(Peer(address)) for _ in range(2)]
        self.keys = [bytes(16), b"\xff" * 16]
        self.dead: set[bytes] = set()
        self.offset = 0

    async def run(self) -> None:
        await self.write(rnaqp.Authenticate("toby", "right"))
        for _ in range(COMMANDS_MOST):
            step = self.choices.below(8)
            if step == 0:
                self.house.now += min(pick(self.choices, NUMBERS), 1 << 20)
            elif step < 4:
                await self.write(self.for_writer())
            else:
                await self.read(self.choices.below(2), self.for_reader())
        for key in self.dead:
            fresh = self.house.msrap.open(Peer(self.address))
            command = msrap.Retrieve(key, msrap.View.all, 0, 10)
            assert (await said(MSRAP, fresh, command)).status is rnasp.Status.errornosuchmessage
        for talk in (self.writer, *self.readers):
            await talk.close()

    def for_writer(self) -> Any:
        choices = self.choices
        kind = choices.below(8)
        if kind == 0:
            return rnaqp.Authenticate(pick(choices, ACCOUNTS), pick(choices, ["right", "wrong", ""]))
        if kind < 3:
            some = tuple(pick(choices, MAILBOXES) for _ in range(choices.below(4)))
            lists = tuple(pick(choices, LISTS) for _ in range(choices.below(3)))
            return msoap.SubmitEnvelope(some, lists, pick(choices, NUMBERS))
        if kind < 6:
            offset = self.offset if choices.below(8) else pick(choices, NUMBERS)
            return msoap.SubmitMsgChunk(bool(choices.below(4)), offset, pick(choices, BODIES))
        return (msoap.Track if kind == 6 else msoap.Cancel)(pick(choices, self.keys))

    def for_reader(self) -> Any:
        choices = self.choices
        kind, key = choices.below(10), pick(choices, self.keys)
        if kind == 0:
            return rnaqp.Authenticate(pick(choices, ACCOUNTS), pick(choices, ["right", "wrong"]))
        if kind == 1:
            return msrap.ScanList(pick(choices, LISTS), pick(choices, NUMBERS))
        if kind == 2:
            return msrap.Silence(key)
        if kind == 3:
            return msrap.UnPin(key)
        if kind == 4:
            return msrap.QuerySize(key)
        if kind == 5:
            return msrap.Split(key, 1 + choices.below(1000))
        return msrap.Retrieve(key, msrap.View(choices.below(4)), pick(choices, NUMBERS), pick(choices, NUMBERS))

    async def write(self, command: Any) -> None:
        response = await said(MSOAP, self.writer, command)
        if isinstance(command, msoap.SubmitMsgChunk):
            going_on = response.status is msoap.Status.noerror and not command.islast
            self.offset = command.offset + len(command.data) if going_on else 0
        if isinstance(response.data, msoap.ChunkAnswer):
            self.keys += response.data.identifiers
        if isinstance(response.data, msoap.EnvelopeAnswer):
            assert len(response.data.recipients) == len(command.recipients)
            assert len(response.data.lists) == len(command.lists)
        if isinstance(response.data, msoap.Cancelled):
            self.dead.add(command.identifier)

    async def read(self, who: int, command: Any) -> None:
        if isinstance(command, msrap.Split):  # the one answer of MSRAP with an abort: an arm we reserve
            response = await self.readers[who].answer(command)
            assert response.status is rnasp.Status.errorunexpectedcommand
            return
        response = await said(MSRAP, self.readers[who], command)
        if isinstance(response.data, msrap.UnPinned):
            self.dead.add(command.identifier)
        if isinstance(response.data, msrap.Retrieved):
            assert len(response.data.data) <= max(0, min(command.length, response.data.size - command.offset))


async def _store(nursery: trio.Nursery, folder: Path) -> Callable[[bytes], Awaitable[None]]:
    house = StoreHouse(folder)
    await house.start(nursery)
    numbers = itertools.count()

    async def once(octets: bytes) -> None:
        number = next(numbers)
        await StoreTalk(house, Choices(octets), f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}").run()

    return once


ENTRIES = ["sales@pobox.example", "desk@pobox.example"]


class Book:
    """ports.Addresses and ports.Catalogue, of which RNAQP asks who reads what."""

    async def read_by(self, account: str) -> list[str]:
        return [*ENTRIES, "gone@pobox.example"]

    async def entry(self, entry: str) -> Route | None:
        readers = {ENTRIES[0]: ("bob", "reader"), ENTRIES[1]: ("reader",)}.get(entry)
        return None if readers is None else route(entry, "subscribe", readers=readers, kind="role")


async def _inbox(nursery: trio.Nursery, folder: Path) -> Callable[[bytes], Awaitable[None]]:
    database = Database(folder / "state.db", inbox_room.SCHEMA)
    await database.open()
    await nursery.start(database.run)
    inbox = Inbox(database, InboxLimits(40, 20, 0, 0), lambda: float(NOW))
    await inbox.open()
    await nursery.start(inbox.run)
    book: Any = Book()
    service = Rnaqp(StoreHouse(folder).accounts, book, book, inbox, lambda peer: True)

    async def once(octets: bytes) -> None:
        await InboxTalk(inbox, service, Choices(octets)).run()

    return once


class InboxTalk:
    """Stores that deposit, and two readers."""

    def __init__(self, inbox: Inbox, service: Rnaqp, choices: Choices) -> None:
        self.inbox, self.choices = inbox, choices
        self.readers = [service.open(Peer("192.0.2.1", 4000)) for _ in range(2)]
        self.cursors = [b"", b"\xff" * 8, b"x" * 40]
        self.cleared: set[bytes] = set()

    async def run(self) -> None:
        for reader, name in zip(self.readers, ("bob", "reader"), strict=True):
            await said(RNAQP, reader, rnaqp.Authenticate(name, "right"))
        for _ in range(COMMANDS_MOST):
            kind = self.choices.below(8)
            if kind < 3:
                await self.deposit()
            else:
                await self.ask(self.readers[self.choices.below(2)], kind)

    async def deposit(self) -> None:
        choices = self.choices
        entry = Mailbox(*pick(choices, ENTRIES).split("@"))
        told = Told()
        store, key = pick(choices, ["a.example", "b.example"]), choices.octets(1) * 16
        made = encode_notification(
            Notification(ServiceLocation(store), None, entry, key, "toby", pick(choices, NUMBERS))
        )
        octets = b"\x30\x00" if not choices.below(16) else made
        arrival = Arrival(str(entry), entry, store, key, octets, Endpoint("192.0.2.1", 4711), NOW)
        self.inbox.deposit_soon([arrival], told.tell)
        await told.wait()
        assert isinstance(told.answers[0], list), told.answers

    async def ask(self, reader: Conversation, kind: int) -> None:
        choices, most = self.choices, pick(self.choices, [1, 2, 1000, 65535])
        if kind == 3:
            name, password = pick(choices, ACCOUNTS), pick(choices, ["right", "wrong"])
            await said(RNAQP, reader, rnaqp.Authenticate(name, password))
        elif kind == 4:
            response = await said(RNAQP, reader, rnaqp.RetrieveAndClear(most if choices.below(2) else None))
            if response.data is not None and hasattr(response.data, "items"):
                assert len(response.data.items) <= 1000
        elif kind == 5:
            some = tuple(pick(choices, self.cursors) for _ in range(choices.below(5)))
            response = await said(RNAQP, reader, rnaqp.Clear(some))
        else:
            after = pick(choices, [None, *self.cursors])
            response = await said(RNAQP, reader, rnaqp.Peek(after, most))
            if isinstance(response.data, rnaqp.Peeked):
                assert len(response.data.items) <= most
                self.cursors += [item.cursor for item in response.data.items if item.cursor is not None]


AGENT_ROUTES = [
    ("one", "stateless", "x@isp.example"),
    ("many", "rewrite_resend", "x@isp.example y@home.example one@pobox.example"),
    ("chain", "chains", "x@isp.example"),
    ("there", "redirect", "x@isp.example"),
    ("here", "subscribe", ""),
    ("both", "keep_and_tell", "x@isp.example"),
    ("two", "both", "x@isp.example"),
    ("pulls", "pull", "x@isp.example"),
    ("no", "declines", ""),
    ("later", "defers", ""),
    ("ring", "rewrite_resend", "gnir@pobox.example"),
    ("gnir", "stateless", "ring@pobox.example"),
]
NAMES = [*(name for name, _, _ in AGENT_ROUTES), "nobody", "ONE", "é"]
CODES = [0, 1, 2, 3, 16, 32, 33, 34, 35, 48, 49, 50, 51, 52, 53, 15, 31, 47, 63, 64, 255]


async def _agent(nursery: trio.Nursery, folder: Path) -> Callable[[bytes], Awaitable[None]]:
    world = build(nursery, dict(MAKERS))
    for name, strategy, to in AGENT_ROUTES:
        world.book.put(route(f"{name}@pobox.example", strategy, to, fallback="stateless" if name == "no" else None))
    service = Rnasp(world.dispatcher, name="mx.pobox.example")

    async def once(octets: bytes) -> None:
        choices = Choices(octets)
        codes = [pick(choices, CODES) for _ in range(3)]
        to = Redirect(Mailbox("z", pick(choices, ["isp.example", "pobox.example"])))
        world.wires.script = lambda n: Outcome(codes[n.identifier[0] % 3], (to,), codes[0] or None, codes[1] or None)
        world.wires.legacy = {"home.example"} if choices.below(2) else set()
        world.now[0] += pick(choices, SMALL) * 3600
        for _ in range(1 + choices.below(3)):
            await notified(service, choices)
        faults = [event for event in world.log.events if "error" in event[1]]
        assert not faults, faults
        world.log.events.clear()

    return once


async def notified(service: Rnasp, choices: Choices) -> None:
    """One PDU: one answer, a result for each that asked for them."""
    batch = tuple(arriving(choices) for _ in range(choices.below(5)))
    features = frozenset(word for word in ("results", "redirect", "moved") if choices.below(2))
    capabilities = rnasp.Capabilities(1, features, None) if choices.below(4) else None
    command = rnasp.decode_command(rnasp.encode_command(rnasp.Notify(batch, capabilities)))
    told = Told()
    service.receive(command, Peer("192.0.2.9", 1000), told.tell)
    await told.wait()
    await trio.lowlevel.checkpoint()
    assert len(told.answers) == 1
    response = RNASP.decode_response(RNASP.encode_response(told.answers[0]))
    if "results" in features and capabilities is not None:
        assert response.status is rnasp.Status.noerror
        assert response.data.results is not None
        assert len(response.data.results) == len(batch)
        for outcome in response.data.results:
            assert "redirect" in features or code_class(outcome.code) != 1
    else:
        assert response.data is None or getattr(response.data, "results", None) is None


def arriving(choices: Choices) -> Notification:
    to = Mailbox(pick(choices, NAMES), pick(choices, ["pobox.example"] * 4 + ["isp.example"]))
    expires = pick(choices, [None, None, None, 1, NOW + 10**7, (1 << 64) - 1])
    hops = pick(choices, [None, None, 0, 7, 8, 255])
    store = pick(choices, [ServiceLocation("a.example"), ServiceLocation("b.example"), ServiceLocation()])
    size = pick(choices, [None, *NUMBERS])
    return decode_notification(
        encode_notification(
            Notification(store, None, to, choices.octets(1) * 16, "toby", size, hops=hops, expires=expires)
        )
    )


TALKS = [bytes(range(0, 256, step)) for step in (1, 3, 7)] + [b"\3\1\0\0\5\3\1\0\1" * 5]
TARGETS = [
    Target("store_talk", lambda: Loop(_store, 400), TALKS, (), 200),
    Target("inbox_talk", lambda: Loop(_inbox, 1000), TALKS, (), 200),
    Target("agent_talk", lambda: Loop(_agent, 500), TALKS, (), 200),
]
