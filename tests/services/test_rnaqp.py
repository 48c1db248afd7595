"""RNAQP: what a reader is told, before and after he says who he is (protocol 3.2, 3.3 gap 17, 5.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

import pytest
import trio

from forwarder.model import ClientLocation, Endpoint, Mailbox, Notification, Peer, Route, ServiceLocation
from forwarder.ports import Account, Answer, Arrival, Waiting
from forwarder.services.rnaqp import Rnaqp
from forwarder.storage import inbox as inbox_room
from forwarder.storage.caps import InboxLimits
from forwarder.storage.database import Database
from forwarder.storage.inbox import Inbox
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.rnaqp import (
    Authenticate,
    Authenticated,
    Clear,
    Cleared,
    Command,
    Item,
    Peek,
    Peeked,
    Response,
    RetrieveAndClear,
    RetrievedAndCleared,
    decode_response,
    encode_response,
)
from forwarder.wire.rnasp import Status

NOW = 1_800_000_000
ENTRY = "sales@pobox.example"
REFUSED = Response(False, Status.errornotauthenticated)


class Accounts:
    """ports.Accounts: everybody's password is "right"."""

    def __init__(self) -> None:
        reads = frozenset({"read"})
        self.on = {"bob": reads, "freda": reads, "toby": frozenset({"originate"})}
        self.asked: list[str] = []

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        self.asked.append(address)
        return await self.find(name) if password == "right" else None

    async def find(self, name: str) -> Account | None:
        return Account(name, self.on[name], {}) if name in self.on else None


class Addresses:
    """ports.Addresses, its files in a dictionary."""

    generation = 1

    def __init__(self) -> None:
        route = Route(Mailbox("sales", "pobox.example"), ENTRY, "subscribe", readers=("bob", "freda"), kind="role")
        self.files = {ENTRY: route}

    def hosted(self, domain: str) -> bool:
        raise AssertionError("nobody asks for domains here")

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        raise AssertionError("a reader is no recipient")

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        raise AssertionError("a reader is no recipient")

    async def entry(self, entry: str) -> Route | None:
        return self.files.get(entry)


class Catalogue:
    """ports.Catalogue, out of date: it still names entries and readers that are gone."""

    async def read_by(self, account: str) -> Sequence[str]:
        return [ENTRY, "gone@pobox.example"]


def notification(key: int) -> bytes:
    store = ServiceLocation("store.example")
    made = Notification(store, None, Mailbox("sales", "pobox.example"), key.to_bytes(16, "big"), "toby", 1234)
    return encode_notification(made)


class World:
    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.accounts, self.addresses = Accounts(), Addresses()
        self.service = Rnaqp(
            self.accounts, self.addresses, Catalogue(), inbox, lambda peer: peer.address.startswith("127.")
        )

    async def deposit(self, *keys: int, octets: bytes | None = None) -> None:
        told = trio.Event()
        where, submitter = Mailbox("sales", "pobox.example"), Endpoint("192.0.2.1", 4711)
        arrivals = [
            Arrival(ENTRY, where, "store.example", key.to_bytes(16, "big"), octets or notification(key), submitter, NOW)
            for key in keys
        ]
        self.inbox.deposit_soon(arrivals, lambda _: told.set())
        await told.wait()

    async def talk(self, *commands: Command, account: str = "bob", address: str = "127.0.0.1") -> list[Response]:
        """The answers to these commands after a login, each as it comes through the codec."""
        session = self.service.open(Peer(address, 4000))
        answers = [await session.answer(command) for command in (Authenticate(account, "right"), *commands)]
        await session.close()
        for answer in answers:
            assert decode_response(encode_response(answer)) == answer
        return answers[1:] if answers[0] == Response(False, Status.noerror, Authenticated()) else answers


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    database = Database(tmp_path / "state.db", inbox_room.SCHEMA)
    await database.open()
    await nursery.start(database.run)
    inbox = Inbox(database, InboxLimits(0, 0, 0, 0), lambda: float(NOW))
    await inbox.open()
    yield World(inbox)
    await database.close()


def keys(response: Response) -> list[int]:
    assert isinstance(response.data, RetrievedAndCleared | Peeked)
    return [int.from_bytes(item.notification.identifier, "big") for item in response.data.items]


def cursors(response: Response) -> tuple[bytes, ...]:
    assert isinstance(response.data, Peeked)
    return tuple(item.cursor for item in response.data.items if item.cursor is not None)


@pytest.mark.parametrize("command", [RetrieveAndClear(), Peek(None, 10), Clear(())])
async def test_before_the_login_nothing_is_told(world: World, command: Command) -> None:
    await world.deposit(1)
    session = world.service.open(Peer("127.0.0.1", 4000))
    assert await session.answer(command) == REFUSED
    assert await session.answer(Authenticate("bob", "wrong")) == REFUSED
    assert await session.answer(command) == REFUSED


async def test_a_failed_login_ends_the_one_before(world: World) -> None:
    session = world.service.open(Peer("127.0.0.1", 4000))
    assert (await session.answer(Authenticate("bob", "right"))).status == Status.noerror
    assert await session.answer(Authenticate("freda", "wrong")) == REFUSED
    assert await session.answer(Peek(None, 10)) == REFUSED


async def test_who_may_not_read_cannot_log_in(world: World) -> None:
    assert await world.talk(account="toby") == [REFUSED]


async def test_a_password_in_clear_from_elsewhere_is_not_even_tried(world: World) -> None:
    assert await world.talk(address="192.0.2.7") == [REFUSED]
    assert world.accounts.asked == []
    await world.talk()
    assert world.accounts.asked == ["127.0.0.1"]


async def test_an_item_is_handed_over_as_it_came_with_submitter_and_time(world: World) -> None:
    await world.deposit(1)
    (answer,) = await world.talk(RetrieveAndClear())
    submitter = ClientLocation("192.0.2.1", 4711)
    item = Item(decode_notification(notification(1)), submitter, NOW)
    assert answer == Response(False, Status.noerror, RetrievedAndCleared((item,)))


async def test_retrieve_and_clear_forgets_what_it_handed_over_for_this_account(world: World) -> None:
    await world.deposit(1, 2, 3)
    first, rest, empty = await world.talk(RetrieveAndClear(2), RetrieveAndClear(), RetrieveAndClear())
    assert [keys(first), keys(rest), keys(empty)] == [[1, 2], [3], []]
    assert isinstance(first.data, RetrievedAndCleared) and first.data.more is True
    assert isinstance(rest.data, RetrievedAndCleared) and rest.data.more is None
    (hers,) = await world.talk(RetrieveAndClear(), account="freda")
    assert keys(hers) == [1, 2, 3]


async def test_peek_keeps_and_clear_removes_for_all(world: World) -> None:
    await world.deposit(1, 2, 3)
    page, again = await world.talk(Peek(None, 2), Peek(None, 2))
    assert page == again and keys(page) == [1, 2]
    assert isinstance(page.data, Peeked) and page.data.more is True
    rest, cleared = await world.talk(Peek(cursors(page)[-1], 2), Clear(cursors(page)[:1]))
    assert keys(rest) == [3]
    assert cleared == Response(False, Status.noerror, Cleared())
    (hers,) = await world.talk(Peek(None, 10), account="freda")
    assert keys(hers) == [2, 3]


async def test_an_answer_holds_a_thousand_items_and_says_that_there_is_more(world: World) -> None:
    await world.deposit(*range(1_001))
    page, taken, rest = await world.talk(Peek(None, 65_535), RetrieveAndClear(), RetrieveAndClear())
    assert len(keys(page)) == len(keys(taken)) == 1_000
    assert isinstance(page.data, Peeked) and page.data.more
    assert isinstance(taken.data, RetrievedAndCleared) and taken.data.more
    assert keys(rest) == [1_000]


async def test_a_reader_who_is_taken_off_the_file_reads_nothing_more(world: World) -> None:
    await world.deposit(1)
    session = world.service.open(Peer("127.0.0.1", 4000))
    await session.answer(Authenticate("bob", "right"))
    page = await session.answer(Peek(None, 10))
    assert keys(page) == [1]
    world.addresses.files[ENTRY] = Route(Mailbox("sales", "pobox.example"), ENTRY, "subscribe", readers=("freda",))
    assert keys(await session.answer(Peek(None, 10))) == []
    await session.answer(Clear(cursors(page)))
    assert keys(await session.answer(RetrieveAndClear())) == []
    (hers,) = await world.talk(Peek(None, 10), account="freda")
    assert keys(hers) == [1], "he could clear nothing either"


async def test_an_account_that_is_switched_off_is_out_at_once(world: World) -> None:
    session = world.service.open(Peer("127.0.0.1", 4000))
    await session.answer(Authenticate("bob", "right"))
    kept = world.accounts.on.pop("bob")
    assert await session.answer(Peek(None, 10)) == REFUSED
    world.accounts.on["bob"] = kept
    assert await session.answer(Peek(None, 10)) == REFUSED, "he must say again who he is"


async def test_a_row_that_cannot_be_read_stops_nobody(world: World) -> None:
    await world.deposit(1)
    await world.deposit(2, octets=b"no notification at all")
    await world.deposit(3)
    (page,) = await world.talk(Peek(None, 10))
    assert keys(page) == [1, 3]


async def test_answers_stay_below_the_frame_of_16_mib() -> None:
    octets = notification(1)
    heavy = Waiting(bytes(8), ENTRY, Mailbox("sales", "pobox.example"), octets, Endpoint("2001:db8::1", 65_535), NOW)
    item = Item(decode_notification(heavy.octets), ClientLocation(*heavy.submitter), heavy.at, heavy.cursor)
    full = Response(False, Status.noerror, Peeked((item,) * 1_000, True))
    around = len(encode_response(full)) - 1_000 * len(octets)
    assert around < 256 << 10, "what ANSWER_OCTETS leaves for cursors, submitters and headers"
