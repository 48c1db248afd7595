"""What a door for today's mail programs reads by: what waits, for whom, and one COMMIT when he is done."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from forwarder.bridges import Gone, Item, Reader
from forwarder.daemon.state import SCHEMA
from forwarder.model import Endpoint, Mailbox, Notification, Peer, Route, ServiceLocation, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import Account, Answer, Arrival, BodySize, Copy, Debt, Found, NotOurs
from forwarder.services.reading import Readings
from forwarder.storage.caps import InboxLimits
from forwarder.storage.copies import StoredCopies
from forwarder.storage.database import Database
from forwarder.storage.inbox import Inbox
from forwarder.storage.ledger import UNPIN, Ledger
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas
from forwarder.storage.reading import StoredReading
from forwarder.store.letters import letter
from forwarder.wire.notification import decode_notification, encode_notification

NOW = 1_800_000_000
DAY = 86400
HERE = Peer("127.0.0.1", 4000)
BOX, SALES, HELD = (parse_mailbox(f"{name}@pobox.example") for name in ("box", "sales", "held"))


class Accounts:
    """ports.Accounts: everybody's password is "right"."""

    def __init__(self) -> None:
        self.on = {name: frozenset({"read"}) for name in ("bob", "freda")} | {"toby": frozenset({"originate"})}

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        return await self.find(name) if password == "right" else None

    async def find(self, name: str) -> Account | None:
        return Account(name, self.on[name], {}) if name in self.on else None


class Addresses:
    """ports.Addresses and ports.Catalogue, the files in a dictionary."""

    generation = 1

    def __init__(self) -> None:
        readers = {BOX: ("bob",), SALES: ("bob", "freda"), HELD: ("bob", "freda")}
        self.readers: dict[str, tuple[str, ...]] = {str(mailbox): names for mailbox, names in readers.items()}

    def hosted(self, domain: str) -> bool:
        return domain == "pobox.example"

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        raise AssertionError("a reader waits for the disk")

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        routes = {mailbox: await self.entry(str(mailbox)) for mailbox in mailboxes}
        return {mailbox: Found(route) if route else NotOurs() for mailbox, route in routes.items()}

    async def entry(self, entry: str) -> Route | None:
        readers = self.readers.get(entry)
        return None if readers is None else Route(parse_mailbox(entry), entry, "subscribe", readers=readers)

    async def read_by(self, account: str) -> Sequence[str]:
        return [str(BOX), str(SALES), "gone@pobox.example"]  # out of date, as a catalogue may be


class Sources:
    """ports.Sources: `says` of each key."""

    def __init__(self) -> None:
        self.says: dict[bytes, BodySize | bytes | Exception] = {}

    def _said(self, notification: Notification) -> Any:
        said = self.says[notification.identifier]
        if isinstance(said, Exception):
            raise said
        return said

    async def look(self, notification: Notification) -> BodySize:
        return BodySize(*self._said(notification)[:3])

    async def head(self, notification: Notification, limit: int) -> bytes:
        return bytes(self._said(notification)[:limit])

    @asynccontextmanager
    async def body(self, notification: Notification, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        said = self._said(notification)

        async def slices() -> AsyncIterator[bytes]:
            yield said

        yield slices()


class House:
    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "state.db", SCHEMA)
        self.inbox = Inbox(self.database, InboxLimits(0, 0, 0, 0), lambda: float(NOW))
        self.ledger = Ledger(self.database)
        self.messages = StoredMessages(self.database, folder / "bodies", lambda: float(NOW))
        self.copies = StoredCopies(self.messages, Quotas(10_000))
        self.accounts, self.addresses, self.sources = Accounts(), Addresses(), Sources()
        self.owed: list[tuple[Debt, Notification]] = []
        self.readings = Readings(
            self.accounts,
            self.addresses,
            self.addresses,
            self.inbox,
            StoredReading(self.inbox, self.ledger, self.messages),
            self.sources,  # type: ignore[arg-type]  # a reader neither silences nor un-pins
            lambda peer: peer.tls or peer.address.startswith("127."),
            lambda debt, notification: self.owed.append((debt, notification)),
            lambda sender: "pobox.example",
            lambda: float(NOW),
        )

    async def start(self, nursery: trio.Nursery) -> None:
        await self.database.open()
        await nursery.start(self.database.run)
        for part in (self.inbox, self.ledger, self.messages):
            await part.open()

    async def deposit(self, to: Mailbox, key: int, store: str = "store.example") -> None:
        told = trio.Event()
        made = Notification(ServiceLocation(store), None, to, key.to_bytes(16, "big"), "toby", 1234)
        arrival = Arrival(
            str(to), to, store, made.identifier, encode_notification(made), Endpoint("192.0.2.1", 4711), NOW
        )
        self.inbox.deposit_soon([arrival], lambda _: told.set())
        await told.wait()

    async def hold(self, key: bytes = b"k" * 16, *, linked: bool = True, **more: Any) -> None:
        """A copy on the private lists of bob and freda."""
        upload = self.copies.upload()
        await upload.write(b"Subject: held\r\n\r\n")
        made = letter(str(HELD), upload.size, upload.sha256, None, NOW + DAY)
        order = Copy(
            *("store.example", key, b"source", HELD, str(HELD), (), ("bob", "freda"), linked, "after_readers", False),
            *(made, NOW + DAY),
        )
        await self.copies.keep(upload, order._replace(**more))

    async def reader(self, user: str = "bob") -> Reader:
        found = await self.readings(user, "right", HERE)
        assert found is not None
        return found

    async def waits(self, user: str = "bob") -> list[str]:
        return [str(item.mailbox) for item in await (await self.reader(user)).waiting()]

    async def rows(self) -> list[Debt]:
        return list(await self.ledger.open_debts())


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path)
    await made.start(nursery)
    yield made
    await made.database.close()


def keys(items: Sequence[Item]) -> list[int]:
    return [int.from_bytes(item.notification.identifier, "big") for item in items]


# -- who gets in


@pytest.mark.parametrize(
    ("user", "password", "address"),
    [
        ("bob", "wrong", "127.0.0.1"),
        ("nobody", "right", "127.0.0.1"),
        ("toby", "right", "127.0.0.1"),
        ("bob", "right", "192.0.2.1"),
        ("bob/nonsense", "right", "127.0.0.1"),
        ("bob/box@other.example", "right", "127.0.0.1"),
        ("freda/box@pobox.example", "right", "127.0.0.1"),
    ],
)
async def test_whoever_may_not_read_here_is_refused_whatever_the_reason(
    house: House, user: str, password: str, address: str
) -> None:
    assert await house.readings(user, password, Peer(address, 4000)) is None


async def test_a_password_over_tls_may_come_from_anywhere(house: House) -> None:
    far = Peer("192.0.2.1", 4000)
    assert [house.readings.clear(peer) for peer in (far, far._replace(tls=True), HERE)] == [False, True, True]
    assert await house.readings("bob", "right", far._replace(tls=True)) is not None


# -- what waits


async def test_it_waits_in_the_inbox_and_on_the_lists_each_with_what_reads_it(house: House) -> None:
    await house.deposit(BOX, 1)
    await house.deposit(SALES, 2)
    await house.hold()
    reader = await house.reader()
    assert reader.account == "bob"
    box, sales, held = await reader.waiting()
    assert (box.mailbox, sales.mailbox, held.mailbox) == (BOX, SALES, HELD)
    assert keys([box, sales]) == [1, 2]
    assert (held.notification.store, held.notification.recipient) == ("pobox.example", HELD)
    found = await house.messages.find(held.notification.identifier)
    assert found is not None and house.messages.opens(found)


async def test_each_reads_his_own_and_what_is_a_roles(house: House) -> None:
    await house.deposit(BOX, 1)
    await house.deposit(SALES, 2)
    assert await house.waits("freda") == [str(SALES)]


async def test_who_named_one_mailbox_sees_nothing_else(house: House) -> None:
    await house.deposit(BOX, 1)
    await house.deposit(SALES, 2)
    await house.hold()
    assert await house.waits("bob/Sales@POBOX.example") == [str(SALES)]
    assert await house.waits("bob/held@pobox.example") == [str(HELD)]


async def test_an_address_that_was_taken_from_him_shows_nothing_more(house: House) -> None:
    await house.deposit(SALES, 1)
    await house.hold()
    reader = await house.reader()
    house.addresses.readers[str(SALES)] = house.addresses.readers[str(HELD)] = ("freda",)
    assert await reader.waiting() == []


async def test_there_are_more_than_a_page_holds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.services.reading.PAGE", 2)
    for key in range(1, 6):
        await house.deposit(BOX, key)
    assert keys(await (await house.reader()).waiting()) == [1, 2, 3, 4, 5]
    monkeypatch.setattr("forwarder.services.reading.MOST", 3)
    assert keys(await (await house.reader()).waiting()) == [1, 2, 3, 4]


# -- reading


async def test_size_head_and_body_are_the_stores_own_and_gone_and_down_are_told_apart(house: House) -> None:
    for key in (1, 2, 3):
        await house.deposit(BOX, key)
    reader = await house.reader()
    one, two, three = await reader.waiting()
    house.sources.says = {
        one.notification.identifier: BodySize(77, None, None),
        two.notification.identifier: Gone(),
        three.notification.identifier: PeerError("down"),
    }
    assert await reader.size(one) == 77
    house.sources.says[one.notification.identifier] = BodySize(None, None, None)
    assert await reader.size(one) == 1234
    with pytest.raises(Gone):
        await reader.size(two)
    with pytest.raises(PeerError):
        await reader.head(three)
    with pytest.raises(Gone):
        async with reader.body(two):
            raise AssertionError("nothing to read")
    house.sources.says[one.notification.identifier] = b"Subject: x\r\n\r\nbody"
    assert await reader.head(one) == b"Subject: x\r\n\r\nbody"
    async with reader.body(one) as slices:
        assert [piece async for piece in slices] == [b"Subject: x\r\n\r\nbody"]


# -- done


async def test_done_is_one_commit_for_inbox_lists_and_what_is_owed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deposit(BOX, 1)
    await house.hold()
    reader = await house.reader()
    items = await reader.waiting()
    points: list[str] = []
    commit = house.database.commit

    async def counted(job: Any, *, point: str = "") -> Any:
        points.append(point)
        return await commit(job, point=point)

    monkeypatch.setattr(house.database, "commit", counted)
    await reader.done(items)
    assert [point for point in points if not point.startswith("inbox.")] == ["reader.done"]
    assert await reader.waiting() == []
    [debt] = await house.rows()
    assert (debt.kind, debt.key, debt.store) == (UNPIN, items[0].notification.identifier, "store.example")
    assert decode_notification(debt.octets) == items[0].notification
    [(owed, notification)] = house.owed
    assert (owed.number, notification) == (debt.number, items[0].notification)
    assert not await opens(house, items[1])


async def opens(house: House, item: Item) -> bool:
    found = await house.messages.find(item.notification.identifier)
    return found is not None and house.messages.opens(found)


async def test_in_a_role_it_is_done_for_everybody(house: House) -> None:
    await house.deposit(SALES, 1)
    bob, freda = await house.reader(), await house.reader("freda")
    await bob.done(await bob.waiting())
    assert await freda.waiting() == []


@pytest.mark.parametrize("linked", [True, False])
async def test_on_lists_it_is_done_for_whose_keys_are_linked(house: House, linked: bool) -> None:
    await house.hold(linked=linked)
    bob, freda = await house.reader(), await house.reader("freda")
    await bob.done(await bob.waiting())
    assert await bob.waiting() == []
    assert len(await freda.waiting()) == (0 if linked else 1)


async def test_our_own_un_pin_owes_the_source_of_a_copy_its_own(house: House) -> None:
    await house.hold()
    reader = await house.reader()
    await reader.done(await reader.waiting())
    [owed] = (await house.copies.owed(9))[0]
    assert owed.unpin


async def test_what_its_store_has_no_more_is_cleared_and_owes_nothing(house: House) -> None:
    await house.deposit(BOX, 1)
    await house.deposit(BOX, 2)
    reader = await house.reader()
    first, second = await reader.waiting()
    await reader.done([first], [second])
    assert await reader.waiting() == []
    assert [debt.key for debt in await house.rows()] == [first.notification.identifier]


async def test_two_sessions_that_are_done_with_the_same_disturb_nothing(house: House) -> None:
    await house.deposit(SALES, 1)
    await house.hold()
    bob, freda = await house.reader(), await house.reader("freda")
    his, hers = await bob.waiting(), await freda.waiting()
    await bob.done(his)
    await freda.done(hers)
    assert {debt.key for debt in await house.rows()} == {his[0].notification.identifier}


async def test_what_was_taken_from_him_meanwhile_stays_with_those_who_read_it_now(house: House) -> None:
    await house.deposit(SALES, 1)
    await house.deposit(BOX, 2)
    await house.hold()
    reader, freda = await house.reader(), await house.reader("freda")
    items = await reader.waiting()
    house.addresses.readers[str(SALES)] = house.addresses.readers[str(HELD)] = ("freda",)
    await reader.done(items)
    assert [int.from_bytes(debt.key, "big") for debt in await house.rows()] == [2]
    assert [str(item.mailbox) for item in await freda.waiting()] == [str(SALES), str(HELD)]


async def test_a_disk_that_fails_leaves_all_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.deposit(BOX, 1)
    await house.hold()
    reader = await house.reader()
    items = await reader.waiting()

    def full(connection: apsw.Connection, debts: Sequence[Debt]) -> Sequence[int]:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(house.ledger, "accept", full)
    with pytest.raises(PeerError):
        await reader.done(items)
    assert await reader.waiting() == items
    assert (await house.rows(), house.owed) == ([], [])
