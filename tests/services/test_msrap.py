"""MSRAP: a reader fetches, silences and un-pins (protocol 3.2, 4, 5.4, 5.5, 8.5)."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from forwarder.model import ContentDigest, Notification, Peer, ServiceLocation, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import Child, Copy, Gone
from forwarder.store.letters import letter
from forwarder.wire.msoap import Cancel, ReadStatus, SubmitEnvelope, SubmitMsgChunk, Track
from forwarder.wire.msrap import (
    QuerySize,
    Response,
    Retrieve,
    Retrieved,
    ScanList,
    Scanned,
    Silence,
    Silenced,
    Size,
    Split,
    UnPin,
    UnPinned,
    View,
)
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.rnasp import Status

from .store_house import DAY, StoreHouse, Talk

HEADER = b"From: Toby <toby@home.example>\r\nX-Other: x\r\nSubject: hello\r\n\r\n"
BODY = HEADER + b"dear all\r\n"
SUMMARY = b"From: Toby <toby@home.example>\r\nSubject: hello\r\n\r\n"
NONE = Response(False, Status.errornosuchmessage)
BRIAN = "brian@pobox.example"
MINUTES = "minutes@pobox.example"
MIB = 1 << 20


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[StoreHouse]:
    made = StoreHouse(tmp_path)
    await made.start(nursery)
    yield made
    await made.database.close()


async def submitted(house: StoreHouse) -> bytes:
    return (await house.submit(BODY, BRIAN)).identifiers[0]


async def read_status(house: StoreHouse, key: bytes) -> ReadStatus:
    answer = await (await house.originator()).say(Track(key))
    status: ReadStatus = answer.data.delivery.read
    return status


async def copied(
    house: StoreHouse,
    key: bytes = b"s" * 16,
    to: tuple[str, ...] = (BRIAN,),
    readers: tuple[str, ...] = (),
    **more: bool,
) -> list[bytes]:
    """A message pulled from store.example; the keys of its copies."""
    upload = house.copies.upload()
    await upload.write(BODY)
    address = parse_mailbox(MINUTES)
    source = encode_notification(Notification(ServiceLocation("store.example"), None, address, key, "toby"))
    ends = house.now + DAY
    made = letter(MINUTES, upload.size, upload.sha256, None, ends)
    targets = tuple(parse_mailbox(target) for target in to)
    order = Copy(
        *("store.example", key, source, address, MINUTES, targets, readers),
        *(more.get("linked", False), "after_copy" if readers else "after_readers", more.get("shared", False)),
        *(made, ends),
    )
    await house.copies.keep(upload, order)
    rows = await house.database.read(
        lambda c: c.execute("SELECT identifier FROM message_key ORDER BY number").fetchall()
    )
    return [bytes(key) for (key,) in rows]  # type: ignore[arg-type]


# -- views and sizes


@pytest.mark.parametrize(
    ("view", "octets", "status"),
    [
        (View.nothing, b"", ReadStatus.unread),
        (View.summaryonly, SUMMARY, ReadStatus.summarised),
        (View.headersonly, HEADER, ReadStatus.readheaders),
        (View.all, BODY, ReadStatus.readall),
    ],
)
async def test_each_view_has_its_octets_its_size_and_its_read_status(
    house: StoreHouse, view: View, octets: bytes, status: ReadStatus
) -> None:
    key = await submitted(house)
    answer = await house.reader().say(Retrieve(key, view, 0, 10_000))
    assert answer.data == Retrieved(octets, len(octets))
    assert await read_status(house, key) is status


@pytest.mark.parametrize("view", list(View))
async def test_pieces_of_a_view_are_pieces_of_its_octets_and_past_its_end_is_nothing(
    house: StoreHouse, view: View
) -> None:
    key = await submitted(house)
    reader = house.reader()
    whole = (await reader.say(Retrieve(key, view, 0, 10_000))).data
    for offset, length in (
        (0, 0),
        (0, 7),
        (10, 30),
        (max(len(whole.data) - 1, 0), 5),
        (len(whole.data), 5),
        (2**40, 5),
    ):
        answer = await reader.say(Retrieve(key, view, offset, length))
        assert answer.data == Retrieved(whole.data[offset:][:length], whole.size)


async def test_sizes_and_tests_of_existence_mark_nothing_as_read(house: StoreHouse) -> None:
    key = await submitted(house)
    reader = house.reader()
    digest = ContentDigest(1, hashlib.sha256(BODY).digest())
    assert (await reader.say(QuerySize(key))).data == Size(len(BODY), digest, house.now + DAY)
    assert (await reader.say(Retrieve(key, View.nothing, 0, 0))).data == Retrieved(b"", 0)
    assert (await reader.say(Retrieve(key, View.all, 0, 0))).data == Retrieved(b"", len(BODY))
    assert await read_status(house, key) is ReadStatus.unread


async def test_the_reserved_arm_is_unexpected(house: StoreHouse) -> None:
    answer = await house.reader().say(Split(bytes(16), 2))
    assert (answer.status.name, answer.abort) == ("errorunexpectedcommand", True)


# -- the ends


async def test_silence_keeps_the_pin_and_unpin_ends_it(house: StoreHouse) -> None:
    key = await submitted(house)
    reader = house.reader()
    assert (await reader.say(Silence(key))).data == Silenced()
    assert (await reader.say(Retrieve(key, View.all, 0, 100))).data == Retrieved(BODY, len(BODY))
    assert (await reader.say(UnPin(key))).data == UnPinned()


@pytest.mark.parametrize("end", ["never", "unpinned", "cancelled", "expired", "handed on"])
async def test_whatever_a_key_died_of_the_answer_is_the_same(house: StoreHouse, end: str) -> None:
    key = await submitted(house)
    if end == "never":
        key = bytes(16)
    elif end == "unpinned":
        await house.reader().say(UnPin(key))
    elif end == "cancelled":
        await (await house.originator()).say(Cancel(key))
    elif end == "expired":
        house.now += DAY
    else:
        (due,) = (await house.messages.due(1, ()))[0]
        brian, bob = parse_mailbox(BRIAN), parse_mailbox("bob@isp.example")
        await house.messages.hand_on(due.number, [Child(bob, brian)], 16)
    reader = house.reader()
    for command in (Retrieve(key, View.all, 0, 9), QuerySize(key), Silence(key), UnPin(key)):
        assert await reader.say(command) == NONE


async def test_a_session_that_had_octets_reads_on_for_ten_minutes_when_another_unpins(house: StoreHouse) -> None:
    key = await submitted(house)
    first, second, third = house.reader(), house.reader(), house.reader()
    await first.say(Retrieve(key, View.all, 0, 10))
    await third.say(Retrieve(key, View.all, 0, 0))
    assert (await second.say(UnPin(key))).data == UnPinned()
    assert (await first.say(Retrieve(key, View.all, 10, 1000))).data == Retrieved(BODY[10:], len(BODY))
    for command in (Silence(key), UnPin(key), QuerySize(key)):
        assert await first.say(command) == NONE
    for other in (second, third, house.reader()):
        assert await other.say(Retrieve(key, View.all, 10, 1000)) == NONE
    house.now += 601
    assert await first.say(Retrieve(key, View.all, 10, 1000)) == NONE


async def test_ones_own_unpin_and_the_senders_cancel_leave_no_grace(house: StoreHouse) -> None:
    key = await submitted(house)
    reader = house.reader()
    await reader.say(Retrieve(key, View.all, 0, 10))
    await reader.say(UnPin(key))
    assert await reader.say(Retrieve(key, View.all, 10, 10)) == NONE
    (other,) = (await house.submit(BODY + b"other", BRIAN)).identifiers
    await reader.say(Retrieve(other, View.all, 0, 10))
    await (await house.originator()).say(Cancel(other))
    assert await reader.say(Retrieve(other, View.all, 10, 10)) == NONE


async def test_ones_own_unpin_leaves_no_grace_for_keys_that_end_with_it(house: StoreHouse) -> None:
    """One session that reads by two members' keys of a role's copy: by un-pinning one it has un-pinned both."""
    first, second = await copied(house, to=(BRIAN, "bob@isp.example"), linked=True)
    reader, other = house.reader(), house.reader()
    for talk in (reader, other):
        await talk.say(Retrieve(second, View.all, 0, 10))
    assert (await reader.say(UnPin(first))).data == UnPinned()
    assert await reader.say(Retrieve(second, View.all, 10, 10)) == NONE
    assert (await other.say(Retrieve(second, View.all, 10, 10))).status.name == "noerror"


async def test_the_winner_of_a_race_may_ask_again_when_logged_in(house: StoreHouse) -> None:
    key = await submitted(house)
    for name, status in (("bob", "noerror"), ("bob", "noerror"), ("freda", "errornosuchmessage")):
        reader = house.reader()
        await reader.say(Authenticate(name, "right"))
        answer = await reader.say(UnPin(key))
        assert answer.status.name == status


@pytest.mark.parametrize(
    ("name", "password", "port"), [("bob", "wrong", 0), ("writer", "right", 0), ("bob", "right", 23)]
)
async def test_who_may_not_read_is_not_authenticated(house: StoreHouse, name: str, password: str, port: int) -> None:
    answer = await house.reader(port=port).say(Authenticate(name, password))
    assert (answer.status.name, answer.abort) == ("errornotauthenticated", False)


# -- copies of others' messages


async def test_before_a_copy_is_served_its_source_is_asked_once_a_minute(house: StoreHouse) -> None:
    (key,) = await copied(house)
    for _ in range(3):
        assert (await house.reader().say(Retrieve(key, View.all, 0, 999))).data.data == BODY
    assert house.looks == 1
    house.now += 61
    await house.reader().say(Retrieve(key, View.all, 0, 999))
    assert house.looks == 2


async def test_what_its_sender_took_back_is_taken_back_here(house: StoreHouse) -> None:
    (key,) = await copied(house)
    house.source = Gone()
    assert await house.reader().say(Retrieve(key, View.all, 0, 999)) == NONE
    house.source = PeerError("down")
    assert await house.reader().say(QuerySize(key)) == NONE


async def test_a_forwarder_that_pulls_from_us_hears_of_the_withdrawal_by_its_look(house: StoreHouse) -> None:
    """It asks by QuerySize whether its own copy may still be served: a chain of copies is taken back as one."""
    (key,) = await copied(house)
    house.source = Gone()
    assert await house.reader().say(QuerySize(key)) == NONE
    assert await house.reader().say(Silence(key)) == NONE
    assert await house.reader().say(UnPin(key)) == NONE


async def test_a_source_that_cannot_be_reached_keeps_nobody_from_our_copy(house: StoreHouse) -> None:
    (key,) = await copied(house)
    house.source = PeerError("down")
    assert (await house.reader().say(Retrieve(key, View.all, 0, 999))).data.data == BODY


@pytest.mark.parametrize("shared", [False, True])
async def test_a_copy_that_is_ours_alone_asks_nobody(house: StoreHouse, shared: bool) -> None:
    """An archive inside a role: another member's un-pin, or the source's own end, takes nothing from it."""
    (key,) = await copied(house, to=(), readers=("bob",), shared=shared)
    house.source = Gone()
    assert (await house.reader().say(Retrieve(key, View.all, 0, 999))).data.data == BODY
    assert house.looks == 0


# -- lists


async def test_a_private_list_is_its_address_for_its_reader_and_a_secret_for_others(house: StoreHouse) -> None:
    house.addresses.readers[MINUTES] = ("bob",)
    (key,) = await copied(house, to=(), readers=("bob",))
    secret = await house.messages.capability(MINUTES, "bob")
    shown = Scanned((key,), house.now)
    stranger, bob, freda = house.reader(), house.reader(), house.reader()
    await bob.say(Authenticate("bob", "right"))
    await freda.say(Authenticate("freda", "right"))
    assert (await bob.say(ScanList("Minutes@pobox.example", 0))).data == shown
    assert (await stranger.say(ScanList(secret, 0))).data == shown
    assert (await stranger.say(ScanList(secret, house.now + 1))).data == Scanned((), house.now)
    assert (await freda.say(ScanList(MINUTES, 0))).data == Scanned((), house.now)
    assert await stranger.say(ScanList(MINUTES, 0)) == NONE
    house.addresses.readers[MINUTES] = ("freda",)
    assert (await bob.say(ScanList(MINUTES, 0))).data == Scanned((), house.now)
    assert await stranger.say(ScanList(secret, 0)) == NONE


async def test_a_public_list_is_for_all(house: StoreHouse) -> None:
    key = (await house.submit(BODY, lists=("news",))).listidentifier
    assert key is not None
    assert (await house.reader().say(ScanList("news", 0))).data == Scanned((key,), house.now)


# -- guessing


async def test_after_20_guesses_an_address_waits_and_the_losers_of_a_race_do_not(
    house: StoreHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("forwarder.services.misses.trio.sleep", sleep)
    key = await submitted(house)
    await house.reader().say(UnPin(key))
    loser, guesser = house.reader("192.0.2.7"), house.reader("2001:db8::1")
    for _ in range(40):
        assert await loser.say(UnPin(key)) == NONE
    assert slept == []
    for n in range(25):
        assert await guesser.say(UnPin(n.to_bytes(16, "big"))) == NONE
    assert slept == [1.0, 2.0, 4.0, 8.0]
    await house.reader("2001:db8::2").say(QuerySize(key))
    assert len(slept) == 5, "its whole /64"
    inner = Talk(house.msrap.open(Peer("2001:db8::1", inner=True)), loser._room)
    await inner.say(QuerySize(key))
    assert len(slept) == 5, "ourselves we know"


# -- what is counted, and what it costs


async def test_bodies_served_are_counted_by_who_asked(house: StoreHouse) -> None:
    key = await submitted(house)
    reader, robot = house.reader(), house.reader(inner=True)
    await reader.say(Retrieve(key, View.headersonly, 0, 999))
    await reader.say(Retrieve(key, View.all, 0, 10))
    await reader.say(Retrieve(key, View.all, 10, 999))
    await reader.say(QuerySize(key))
    await robot.say(Retrieve(key, View.all, 0, 999))
    assert house.msrap.counters == {
        "retrieves": {"stranger": 3, "inner": 1},
        "bodies served": {"stranger": 1, "inner": 1},
    }


async def test_64_mib_pass_through_the_store_in_a_few_mib_of_memory(house: StoreHouse) -> None:
    piece = bytes(range(256)) * 4096
    talk = await house.originator()
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        await talk.say(SubmitEnvelope((parse_mailbox(BRIAN),), (), DAY))
        for n in range(64):
            digest.update(piece)
            answer = await talk.say(SubmitMsgChunk(n == 63, n * MIB, piece))
        (key,) = answer.data.identifiers
        reader, got = house.reader(), hashlib.sha256()
        for n in range(64):
            got.update((await reader.say(Retrieve(key, View.all, n * MIB, MIB))).data.data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got.digest() == digest.digest()
    assert (await reader.say(QuerySize(key))).data.digest == ContentDigest(1, digest.digest())
    assert peak < 12 * MIB
