"""Our message store on real files: keys, bodies, ends, restarts, races (protocol 4; docs/states.md)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from forwarder.model import Mailbox, Outcome, parse_mailbox
from forwarder.ports import Child, Copy, Full, Verdict
from forwarder.storage.bodies import SMALL, Bodies
from forwarder.storage.copies import StoredCopies
from forwarder.storage.database import Database, Migration
from forwarder.storage.message_rows import Envelope, OverLimit, OverQuota, Submitted
from forwarder.storage.message_schema import SCHEMA
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas
from forwarder.storage.sweeping import Sweeping
from forwarder.store.letters import letter
from forwarder.store.machine import Read, Told

DAY = 86400
BRIAN, BOB, FREDA = (parse_mailbox(f"{name}@pobox.example") for name in ("brian", "bob", "freda"))
BODY = b"From: Toby <toby@store.example>\r\nSubject: x\r\n\r\nhello\r\n"
LARGE = BODY + bytes(SMALL)


class House:
    """A store in a folder, and a clock that the test turns."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.now = 1_800_000_000
        self._nursery = nursery
        self.schema: Sequence[Migration] = SCHEMA

    async def start(self) -> None:
        self.database = Database(self.folder / "state.db", self.schema)
        await self.database.open()
        await self._nursery.start(self.database.run)
        self.messages = StoredMessages(self.database, self.folder / "bodies", lambda: float(self.now))
        await self.messages.open()
        self.copies = StoredCopies(self.messages, Quotas(10_000, 6_000, 3_000))
        self.sweeping = Sweeping(self.database, self.messages.bodies, lambda: float(self.now), self.messages.tell)

    async def restart(self) -> None:
        await self.database.close()
        await self.start()

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "bodies").rglob("*") if path.is_file())

    @property
    def bodies(self) -> list[str]:
        """Names of files, and for small ones the numbers of their messages."""
        connection = apsw.Connection(str(self.folder / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        small = [str(number) for (number,) in connection.execute("SELECT message FROM small_body ORDER BY message")]
        connection.close()
        return self.files + small

    async def submit(
        self,
        *recipients: Mailbox,
        body: bytes = BODY,
        lifetime: int = 30 * DAY,
        lists: tuple[str, ...] = (),
        **more: Any,
    ) -> Submitted:
        upload = self.messages.upload()
        await upload.write(body)
        made = letter("toby", upload.size, upload.sha256, upload.claimed, self.now + lifetime)
        mark = repr((recipients, lists, upload.sha256)).encode()
        envelope = Envelope("toby", recipients, lists, made, self.now + lifetime, mark, 10_000)
        return await self.messages.submit(upload, envelope._replace(**more))

    async def copy(self, key: bytes = b"k" * 16, body: bytes = BODY, **more: Any) -> Sequence[bytes]:
        """Keys of its copies, as the database has them."""
        upload = self.copies.upload()
        await upload.write(body)
        made = letter(str(BRIAN), upload.size, upload.sha256, None, self.now + 30 * DAY)
        order = Copy(
            *("store.example", key, b"source", BRIAN, str(BRIAN), (BOB, FREDA), (), False, "after_readers", False),
            *(made, self.now + 30 * DAY),
        )
        await self.copies.keep(upload, order._replace(**more))
        return await self.database.read(_all_keys)

    async def opens(self, key: bytes) -> bool:
        held = await self.messages.find(key)
        return held is not None and self.messages.opens(held)

    async def read(self, key: bytes) -> bytes:
        held = await self.messages.find(key)
        assert held is not None
        return await self.messages.read(held, [(0, held.size)])

    async def due(self) -> list[str]:
        return [str(due.recipient) for due in (await self.messages.due(100, ()))[0]]


def _all_keys(c: apsw.Connection) -> list[bytes]:
    return [key for (key,) in c.execute("SELECT identifier FROM message_key ORDER BY number")]


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    await made.start()
    yield made
    await made.database.close()


async def test_each_recipient_gets_a_key_of_his_own_and_is_due_at_once(house: House) -> None:
    keys = (await house.submit(BRIAN, BOB, BRIAN)).keys
    assert len(set(keys)) == 3
    assert await house.due() == [str(BRIAN), str(BOB), str(BRIAN)]
    assert await house.read(keys[1]) == BODY


async def test_the_same_within_10_minutes_gets_the_first_keys_and_later_new_ones(house: House) -> None:
    first = await house.submit(BRIAN, lists=("news",))
    assert await house.submit(BRIAN, lists=("news",)) == first
    assert len(house.bodies) == 1
    assert await house.submit(BOB) != first
    house.now += 601
    assert await house.submit(BRIAN, lists=("news",)) != first


async def test_a_clock_that_is_set_back_holds_nothing_up(house: House) -> None:
    """What lists show is told by seconds that only grow; what is due, and what counts as the same, by the clock."""
    await house.submit(BRIAN)
    house.now += 365 * DAY
    first = await house.submit(BOB, body=b"Subject: ahead\n\nx", lifetime=DAY)
    await house.copy(body=b"Subject: ahead\n\ny")
    house.now -= 365 * DAY
    assert await house.submit(BOB, body=b"Subject: ahead\n\nx", lifetime=DAY) != first
    assert await house.due() == [str(BRIAN), str(BOB)]
    await house.copy(b"l" * 16, body=b"Subject: back\n\ny")
    assert [owed.number for owed in (await house.copies.owed(10))[0]] == [5]
    assert await house.due() == [str(BRIAN), str(BOB), str(BOB), str(FREDA)]


async def test_all_stands_after_a_restart_times_included(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    number = (await house.messages.due(1, ()))[0][0].number
    await house.messages.settle(number, Verdict("taken", code=0))
    await house.messages.silence((await house.submit(BOB)).keys[0])
    await house.restart()
    assert await house.due() == []
    house.now += DAY - 1
    assert await house.due() == []
    house.now += 1
    assert await house.due() == [str(BRIAN)]
    assert await house.read(key) == BODY


async def test_a_small_body_lies_beside_its_row_and_a_large_one_in_a_file(house: House) -> None:
    (small,) = (await house.submit(BRIAN, body=bytes(SMALL), quota=1 << 20)).keys
    assert (house.files, house.bodies) == ([], ["1"])
    (large,) = (await house.submit(BRIAN, body=bytes(SMALL) + b"x", quota=1 << 20)).keys
    assert (len(house.files), len(house.bodies)) == (1, 2)
    await house.restart()
    assert (await house.read(small), await house.read(large)) == (bytes(SMALL), bytes(SMALL) + b"x")
    for key in (small, large):
        held = await house.messages.find(key)
        assert held is not None
        assert (
            await house.messages.read(held, [(2, 3), (SMALL - 1, 9)]) == bytes(3) + (await house.read(key))[SMALL - 1 :]
        )


async def test_a_small_body_that_an_older_version_kept_in_a_file_is_read_and_leaves_as_it_did(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    name = "ab" + "0" * 30
    house.messages.bodies.path(name).parent.mkdir()
    house.messages.bodies.path(name).write_bytes(BODY)
    await house.database.commit(
        lambda c: c.execute("DELETE FROM small_body; UPDATE message SET file=?", (name,)) and None, point="older"
    )
    await house.restart()
    await house.sweeping.sweep()
    assert await house.read(key) == BODY
    await house.messages.unpin(key, None)
    house.now += 601
    await house.sweeping.sweep()
    assert house.bodies == []


async def test_an_upload_that_ends_early_leaves_nothing(house: House) -> None:
    upload = house.messages.upload()
    await upload.write(bytes(SMALL + 1))
    assert len(house.bodies) == 1
    await upload.abort()
    assert house.bodies == []


async def test_what_a_crash_left_is_swept_and_what_is_kept_is_not(house: House) -> None:
    (key,) = (await house.submit(BRIAN, body=LARGE, quota=1 << 20)).keys
    await house.submit(BRIAN, quota=1 << 20)
    torn = house.messages.upload()
    await torn.write(bytes(SMALL + 1))
    orphan = house.messages.upload()
    await orphan.write(bytes(SMALL + 1))  # renamed, and then the power went
    await house.messages.bodies.land(orphan)
    await house.sweeping.sweep()
    assert len(house.bodies) == 4, "what is landing at this moment is no orphan"
    await house.restart()
    await house.sweeping.sweep()
    assert len(house.bodies) == 2
    assert await house.read(key) == LARGE
    await torn.abort()


@pytest.mark.parametrize("piece", [1_000, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL + 7])
async def test_a_body_is_kept_whole_in_whatever_pieces_it_comes(house: House, piece: int) -> None:
    body = BODY + bytes(range(256)) * 400
    upload = house.messages.upload()
    for at in range(0, len(body), piece):
        await upload.write(body[at : at + piece])
    assert await upload.head(len(body)) == body
    envelope = Envelope("toby", (BRIAN,), (), b"letter", house.now + DAY, b"mark", 1 << 20)
    (key,) = (await house.messages.submit(upload, envelope)).keys
    assert await house.read(key) == body


@pytest.mark.parametrize("body", [BODY, LARGE])
async def test_a_commit_that_fails_leaves_no_body(house: House, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise apsw.FullError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(house.database, "commit", fails)
        with pytest.raises(OSError, match="No space left"):
            await house.submit(BRIAN, body=body)
        with pytest.raises(OSError, match="No space left"):
            await house.copy(body=body)
    assert house.bodies == []
    assert await house.due() == []


async def test_quota_and_the_limits_of_a_day_are_all_or_nothing(house: House) -> None:
    await house.submit(BRIAN, BOB)
    with pytest.raises(OverQuota):
        await house.submit(BRIAN, body=b"x" * 100, quota=150)
    with pytest.raises(OverLimit):
        await house.submit(BRIAN, BOB, body=b"y", per_day=3)
    with pytest.raises(OverLimit):
        await house.submit(FREDA, body=b"y", recipients_per_day=2)
    assert len(house.bodies) == 1
    await house.submit(BRIAN, body=b"y", per_day=3, recipients_per_day=2)
    house.now += DAY + 1
    await house.submit(FREDA, body=b"z", per_day=1)


async def test_a_freed_message_gives_its_quota_back(house: House) -> None:
    (key,) = (await house.submit(BRIAN, body=b"x" * 100)).keys
    await house.messages.unpin(key, None)
    await house.submit(BRIAN, body=b"y" * 100, quota=150)


# -- the ends of a key


async def test_twenty_unpins_at_once_have_one_winner(house: House) -> None:
    for turn in range(10):
        (key,) = (await house.submit(BRIAN, body=b"%d" % turn)).keys
        winners: list[int] = []

        async def unpin(reader: int, key: bytes = key, winners: list[int] = winners) -> None:
            if await house.messages.unpin(key, None):
                winners.append(reader)

        async with trio.open_nursery() as nursery:
            for reader in range(20):
                nursery.start_soon(unpin, reader)
        assert len(winners) == 1


async def test_of_linked_keys_the_first_unpin_kills_the_others_and_we_know_whose_it_was(house: House) -> None:
    readers = tuple(Mailbox(f"r{n}", "staff.example") for n in range(20))
    keys = await house.copy(to=readers, linked=True)
    winners: list[bytes] = []

    async def unpin(key: bytes) -> None:
        if closed := await house.messages.unpin(key, None):
            assert closed.others == 19
            winners.append(key)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(unpin, key)
    assert len(winners) == 1
    assert not any([await house.opens(key) for key in keys])
    whose = await house.database.read(
        lambda c: c.execute(
            "SELECT DISTINCT w.identifier FROM message_key k JOIN message_key w ON w.number = k.winner"
        ).fetchall()
    )
    assert whose == [(winners[0],)]


async def test_in_a_group_one_unpins_and_the_others_still_read(house: House) -> None:
    one, other = await house.copy()
    assert await house.messages.unpin(one, None)
    assert not await house.opens(one)
    assert await house.read(other) == BODY


async def test_a_repeated_unpin_is_fine_for_the_account_that_unpinned_alone(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    assert await house.messages.unpin(key, "bob")
    assert await house.messages.unpin(key, "bob")
    assert await house.messages.unpin(key, "freda") is None
    assert await house.messages.unpin(key, None) is None


@pytest.mark.parametrize("body", [BODY, LARGE])
async def test_a_body_leaves_the_disk_ten_minutes_after_its_last_pin(house: House, body: bytes) -> None:
    one, other = (await house.submit(BRIAN, BOB, body=body, quota=1 << 20)).keys
    await house.messages.unpin(one, None)
    house.now += DAY
    await house.sweeping.sweep()
    assert await house.read(other) == body
    assert await house.messages.kept() == (1, len(body))
    await house.messages.unpin(other, None)
    assert await house.messages.kept() == (0, 0)
    house.now += 599
    await house.sweeping.sweep()
    assert len(house.bodies) == 1
    house.now += 2
    await house.sweeping.sweep()
    assert house.bodies == []


async def test_sweeping_ends_with_the_database_and_fails_nobody(house: House) -> None:
    await house.submit(BRIAN)
    await house.database.close()
    with trio.fail_after(10):
        await house.sweeping.run()


async def test_a_lifetime_ends_to_the_second_with_or_without_a_sweep(house: House) -> None:
    (key,) = (await house.submit(BRIAN, lifetime=1000)).keys
    house.now += 999
    assert await house.opens(key)
    house.now += 1
    assert not await house.opens(key)
    assert await house.due() == []
    assert await house.messages.silence(key) is False
    assert await house.messages.unpin(key, None) is None
    delivery = await house.messages.track(key, "toby")
    assert delivery is not None and not delivery.pinned


async def test_tombstones_answer_for_30_days_and_then_are_gone(house: House) -> None:
    (key,) = (await house.submit(BRIAN, lifetime=1000)).keys
    house.now += 1000
    await house.sweeping.sweep()
    house.now += 30 * DAY - 1
    await house.sweeping.sweep()
    assert await house.messages.find(key) is not None
    assert await house.messages.track(key, "toby") is not None
    house.now += 2
    await house.sweeping.sweep()
    assert await house.messages.find(key) is None


async def test_the_read_status_only_rises(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    for read in (Read.readheaders, Read.summarised):
        held = await house.messages.find(key)
        assert held is not None
        await house.messages.served(held, read)
    delivery = await house.messages.track(key, "toby")
    assert delivery is not None and delivery.read is Read.readheaders


# -- handles and children


async def test_a_handle_dies_for_readers_and_lives_for_its_originator(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    (due,) = (await house.messages.due(1, ()))[0]
    children = [Child(BOB, BRIAN, "rna.example", b"t"), Child(FREDA, BRIAN)]
    assert await house.messages.hand_on(due.number, children, 16)
    await house.restart()
    assert not await house.opens(key)
    assert await house.messages.unpin(key, None) is None
    bob, freda = (await house.messages.due(9, ()))[0]
    assert (bob.recipient, bob.original, bob.rna, bob.token, bob.depth) == (BOB, BRIAN, "rna.example", b"t", 1)
    assert await house.read(bob.identifier) == BODY
    await house.messages.unpin(bob.identifier, None)
    delivery = await house.messages.track(key, "toby")
    assert delivery is not None
    assert (delivery.told, delivery.pinned, delivery.redirectedto) == (Told.silenced, True, (BOB, FREDA))
    assert await house.messages.cancel(key, "toby")
    assert not await house.opens(freda.identifier)


async def test_a_ring_is_not_followed(house: House) -> None:
    await house.submit(BRIAN)
    (due,) = (await house.messages.due(1, ()))[0]
    assert await house.messages.hand_on(due.number, [Child(BOB, BRIAN)], 16)
    (child,) = (await house.messages.due(1, ()))[0]
    assert not await house.messages.hand_on(child.number, [Child(Mailbox("BRIAN", "pobox.example"), BRIAN)], 16)
    assert await house.due() == [str(BOB)]


async def test_handles_are_their_own_accounts(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    assert await house.messages.track(key, "mallory") is None
    assert not await house.messages.cancel(key, "mallory")
    assert await house.opens(key)


async def test_agents_that_have_enough_are_passed_over(house: House) -> None:
    await house.submit(BRIAN, parse_mailbox("x@isp.example"))
    assert [str(due.recipient) for due in (await house.messages.due(9, {"pobox.example"}))[0]] == ["x@isp.example"]


# -- copies of others' messages


async def test_a_copy_is_kept_once_and_its_memory_with_it(house: House) -> None:
    assert await house.copies.pulled("store.example", b"k" * 16, BRIAN) is None
    await house.copy()
    await house.copy()
    assert len(house.bodies) == 1
    assert await house.copies.pulled("store.example", b"k" * 16, Mailbox("Brian", "pobox.example")) == Outcome(0)
    assert await house.copies.alike(BRIAN, (await _digest(house)), DAY) == 1


async def _digest(house: House) -> bytes:
    return await house.database.read(lambda c: next(c.execute("SELECT sha256 FROM message"))[0])


async def test_the_memory_of_an_order_outlives_its_last_sight_by_35_days(house: House) -> None:
    await house.copies.refuse("store.example", b"k" * 16, BRIAN, 49, None)
    house.now += 34 * DAY
    assert await house.copies.pulled("store.example", b"k" * 16, BRIAN) == Outcome(49)
    await house.submit(BOB)  # the sight rides on this commit
    house.now += 34 * DAY
    await house.sweeping.sweep()
    assert await house.copies.pulled("store.example", b"k" * 16, BRIAN) == Outcome(49)
    await house.submit(BOB, body=b"other")
    house.now += 36 * DAY
    await house.sweeping.sweep()
    assert await house.copies.pulled("store.example", b"k" * 16, BRIAN) is None


async def _owed(house: House) -> list[tuple[bool, bool]]:
    return [(owed.silence, owed.unpin) for owed in (await house.copies.owed(9))[0]]


@pytest.mark.parametrize(
    ("unpin", "shared", "at_once", "after_readers"),
    [
        ("after_copy", False, [(True, True)], []),
        ("after_readers", False, [(True, False)], [(False, True)]),
        ("after_copy", True, [], [(False, True)]),
        ("after_readers", True, [], [(False, True)]),
    ],
)
async def test_what_the_source_is_owed_and_when(
    house: House, unpin: str, shared: bool, at_once: list[tuple[bool, bool]], after_readers: list[tuple[bool, bool]]
) -> None:
    keys = await house.copy(unpin=unpin, shared=shared)
    assert await _owed(house) == at_once
    for owed in (await house.copies.owed(9))[0]:
        await house.copies.paid(owed.number, silence=owed.silence, unpin=owed.unpin)
    await house.messages.unpin(keys[0], None)
    assert await _owed(house) == []
    await house.messages.unpin(keys[1], None)
    await house.restart()
    assert await _owed(house) == after_readers


@pytest.mark.parametrize(
    ("unpin", "shared", "owed"),
    [
        ("after_copy", False, [(True, True)]),  # since the copy was kept, and it is owed still
        ("after_readers", False, [(True, True)]),
        ("after_copy", True, []),
        ("after_readers", True, []),
    ],
)
async def test_a_copy_whose_time_ends_leaves_no_pin_at_its_source_but_one_that_others_hold_too(
    house: House, unpin: str, shared: bool, owed: list[tuple[bool, bool]]
) -> None:
    """Our un-pin of a shared key would rob the others, and nobody of ours has said that he is done with it."""
    await house.copy(unpin=unpin, shared=shared, expires=house.now + 1000)
    house.now += 1001
    news = house.copies.news()
    await house.sweeping.sweep()
    assert news.is_set(), "who pays the debts is told"
    await house.restart()
    assert await _owed(house) == owed
    house.now += 31 * DAY
    await house.sweeping.sweep()
    assert await _owed(house) == owed, "what is owed outlives the copy's rows"


async def test_a_group_whose_time_ends_with_one_who_has_not_read_leaves_no_pin_either(house: House) -> None:
    bobs, _ = await house.copy(expires=house.now + 1000)
    ((owed,), _) = await house.copies.owed(9)
    await house.copies.paid(owed.number, silence=True, unpin=False)
    await house.messages.unpin(bobs, None)
    house.now += 1001
    await house.sweeping.sweep()
    assert await _owed(house) == [(False, True)]


async def test_a_source_that_knows_of_nothing_is_owed_nothing(house: House) -> None:
    await house.copy()
    await house.messages.withdraw(1)
    assert await _owed(house) == []


async def test_copies_of_an_older_version_leave_their_sources_alone_when_their_time_ends(house: House) -> None:
    """Whether others hold the key as well was not written then."""
    await house.database.close()
    (house.folder / "state.db").unlink()
    house.schema = [step for step in SCHEMA if step.name not in ("messages-2", "messages-3")]
    await house.start()
    await house.database.commit(_copy_of_before, point="test")
    house.schema = SCHEMA
    await house.restart()
    assert await house.copies.full(BRIAN, "store.example", "toby", 9_990) == "quota"
    assert not await house.messages.cancel(b"k" * 16, str(BRIAN))
    house.now += 2 * DAY
    await house.sweeping.sweep()
    assert await _owed(house) == []


def _copy_of_before(c: apsw.Connection) -> None:
    c.execute(
        """INSERT INTO message (account, file, size, sha256, headers, summary, letter, made, expires)
        VALUES ('brian@pobox.example', 'x', 100, x'00', 0, x'', x'', 0, 1800086400);
        INSERT INTO message_key (lookup, identifier, message, told, life, read, failures, follow)
        VALUES (?, ?, 1, 0, 0, 0, 0, 1);
        INSERT INTO source (message, notification, address, silence, unpin, held, since)
        VALUES (1, x'00', 'brian@pobox.example', 0, 0, 1, 0)""",
        (hashlib.sha256(b"k" * 16).digest()[:16], b"k" * 16),
    )


@pytest.mark.parametrize(
    ("store", "sender", "size", "limit"),
    [
        ("store.example", "toby", 600, None),
        ("store.example", "toby", 601, "quota_per_sender"),
        ("store.example", "vera", 3_600, None),
        ("store.example", "vera", 3_601, "quota_per_store"),
        ("store.exampl", "e toby", 7_600, None),  # a first message of another origin is let in as it is
        ("other.example", "toby", 7_600, None),
        ("other.example", "toby", 7_601, "quota"),
    ],
)
async def test_copies_have_quotas_of_their_address_its_store_and_its_sender(
    house: House, store: str, sender: str, size: int, limit: str | None
) -> None:
    """10,000 octets in all, 6,000 of one store, 3,000 of one sender there."""
    await house.copy(body=b"x" * 2_400, sender="toby")
    assert await house.copies.full(BRIAN, store, sender, size) == limit
    order: dict[str, Any] = {"store": store, "sender": sender, "key": b"o" * 16, "body": b"y" * size}
    if limit is None:
        await house.copy(**order)
        return
    with pytest.raises(Full, match=f"over the limit {limit}$"):
        await house.copy(**order)
    assert len(house.bodies) == 1
    assert await house.copies.full(FREDA, store, sender, size) is None, "another address has its own"


async def test_what_is_freed_gives_room_to_its_origin(house: House) -> None:
    keys = await house.copy(body=b"x" * 2_900, sender="toby")
    assert await house.copies.full(BRIAN, "store.example", "toby", 200) == "quota_per_sender"
    for key in keys:
        await house.messages.unpin(key, None)
    assert await house.copies.full(BRIAN, "store.example", "toby", 200) is None


async def test_copies_belong_to_their_address_and_to_no_account_that_is_named_like_it(house: House) -> None:
    keys = await house.copy(body=b"x" * 2_400)
    for key in keys:
        assert await house.messages.track(key, str(BRIAN)) is None
        assert not await house.messages.cancel(key, str(BRIAN))
        assert await house.opens(key)
    assert await house.messages.room(str(BRIAN)) == 0
    (own,) = (await house.submit(BOB, account=str(BRIAN), body=b"y" * 9_000, per_day=1)).keys
    assert await house.messages.cancel(own, str(BRIAN)), "its own messages are its own"
    assert await house.copies.full(BRIAN, "other.example", "vera", 7_600) is None, "nor do they take room of the other"


async def test_an_unpin_that_falls_due_while_the_silence_is_paid_is_not_lost(house: House) -> None:
    keys = await house.copy()
    ((owed,), _) = await house.copies.owed(9)
    for key in keys:
        await house.messages.unpin(key, None)
    await house.copies.paid(owed.number, silence=owed.silence, unpin=owed.unpin)
    assert await _owed(house) == [(False, True)]


# -- lists


async def test_a_public_list_shows_its_key_and_nobody_can_clear_it(house: House) -> None:
    submitted = await house.submit(lists=("news", "other"))
    assert submitted.listkey is not None
    for name in ("news", "other"):
        page = await house.messages.scan(name, None, 0, ())
        assert page is not None and page.keys == (submitted.listkey,)
    assert await house.messages.silence(submitted.listkey)
    assert await house.messages.unpin(submitted.listkey, None)
    assert await house.read(submitted.listkey) == BODY
    assert await house.messages.cancel(submitted.listkey, "toby")
    page = await house.messages.scan("news", None, 0, ())
    assert page is not None and page.keys == ()
    assert await house.messages.scan("unknown", None, 0, ()) is None


async def test_private_lists_have_a_view_and_keys_for_each_reader(house: House) -> None:
    bobs, fredas = await house.copy(to=(), readers=("bob", "freda"), unpin="after_copy")
    name = await house.messages.capability(str(BRIAN), "bob")
    for asked, account in ((str(BRIAN), "bob"), (name, None)):
        page = await house.messages.scan(asked, account, 0, [str(BRIAN)])
        assert page is not None and page.keys == (bobs,)
    await house.messages.unpin(bobs, "bob")
    assert (await house.messages.scan(name, None, 0, [str(BRIAN)])).keys == ()  # type: ignore[union-attr]
    assert (await house.messages.scan(str(BRIAN), "freda", 0, [str(BRIAN)])).keys == (fredas,)  # type: ignore[union-attr]
    assert await house.messages.scan(name, None, 0, []) is None, "no reader any more by the address file"
    assert await house.messages.scan(str(BRIAN), None, 0, [str(BRIAN)]) is None, "the address is for who logged in"


async def test_an_archive_outlives_its_readers_unpins_and_ends_with_its_time(house: House) -> None:
    keys = await house.copy(to=(), readers=("bob", "freda"))
    for key in keys:
        await house.messages.unpin(key, None)
    house.now += DAY
    await house.sweeping.sweep()
    assert len(house.bodies) == 1
    house.now += 30 * DAY
    await house.sweeping.sweep()
    house.now += 601
    await house.sweeping.sweep()
    assert house.bodies == []


async def test_in_a_role_the_unpin_frees_the_body(house: House) -> None:
    key, _ = await house.copy(to=(), readers=("bob", "freda"), linked=True)
    await house.messages.unpin(key, None)
    house.now += 601
    await house.sweeping.sweep()
    assert house.bodies == []


async def test_a_capability_can_be_changed_and_the_old_one_opens_nothing(house: House) -> None:
    await house.copy(to=(), readers=("bob",))
    old = await house.messages.capability(str(BRIAN), "bob")
    new = await house.messages.capability(str(BRIAN), "bob", fresh=True)
    assert old != new
    assert await house.messages.scan(old, None, 0, [str(BRIAN)]) is None
    assert await house.messages.list_entry(new) == (str(BRIAN), "bob")


async def test_a_scan_never_ends_past_a_key_that_is_on_its_way_to_the_disk(house: House) -> None:
    await house.submit(lists=("news",))
    with house.messages.landing.stamped() as stamp:
        house.now += 5
        page = await house.messages.scan("news", None, 0, ())
        assert page is not None and page.end == stamp
    page = await house.messages.scan("news", None, 0, ())
    assert page is not None and page.end == house.now


async def test_a_sweep_that_failed_is_made_again_soon_then_less_often(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sweeping = Sweeping(Database(tmp_path / "state.db", SCHEMA), Bodies(tmp_path / "bodies"), lambda: 0.0)
    times: list[float] = []

    async def sweep() -> None:
        times.append(trio.current_time())
        if len(times) < 9:
            raise apsw.FullError("disk full")

    monkeypatch.setattr(sweeping, "sweep", sweep)
    nursery.start_soon(sweeping.run)
    await trio.sleep(7000)
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183, 183 + 3600]
    assert not sweeping.setback.last
