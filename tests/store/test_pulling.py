"""Pulling (protocol 5.4, 5.5, 5.0 e): look, fetch, check, commit, and only then silence and un-pin."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from forwarder.model import ContentDigest, Hop, Notification, Origin, Outcome, ServiceLocation, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import BodySize, Full, Gone, NoService, PullOrder
from forwarder.store.pulling import Pulling
from forwarder.wire.notification import decode_notification, encode_notification

from .memory import START, MemoryCopies, MemorySources, clock

PRESS = parse_mailbox("press@pobox.example")
AGENCY = parse_mailbox("agency@press.example")
KEY = b"k" * 16
BODY = b"From: Toby <toby@store.example>\r\n\r\nhello\r\n"
DAY = 86400
MARK = Hop("mx1.pobox.example", b"r" * 16, int(START), 4)


def make_notification(**more: Any) -> Notification:
    store = ServiceLocation("store.example")
    made = Notification(store, None, PRESS, KEY, "toby")._replace(**more)
    return decode_notification(encode_notification(made))


def make_order(notification: Notification | None = None, **more: Any) -> PullOrder:
    notification = notification or make_notification()
    order = PullOrder(notification, str(PRESS), PRESS, (AGENCY,), (), False, "after_readers", 1000, None, False)
    return order._replace(**more)


class World:
    def __init__(self) -> None:
        self.copies, self.sources = MemoryCopies(), MemorySources()
        self.returns: str | None = None
        self.sources.hold(KEY, BODY)
        self.pulling = Pulling(
            self.copies,
            self.sources,
            clock,
            ours=lambda name: name == "pobox.example",
            hop=lambda address, how: MARK._replace(how=how),
            returns=self.came_from,
            lifetime=30 * DAY,
        )

    async def came_from(self, notification: Notification) -> str | None:
        return self.returns

    @property
    def asked(self) -> list[str]:
        return [name for _, name in self.sources.asked]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_copy_is_whole_and_says_where_it_came_from(autojump_clock: MockClock, world: World) -> None:
    notification = make_notification(trace=(MARK._replace(how=3),), hops=2, size=len(BODY))
    assert await world.pulling.pull(make_order(notification)) == Outcome(0)
    ((copy, octets),) = world.copies.kept
    assert octets == BODY
    letter = decode_notification(copy.letter)
    assert (letter.sender, letter.size, letter.original) == (str(PRESS), len(BODY), PRESS)
    assert letter.digest == ContentDigest(1, hashlib.sha256(BODY).digest())
    assert letter.origin == Origin(ServiceLocation("store.example"), "toby", hashlib.sha256(KEY).digest()[:6])
    assert [hop.how for hop in letter.trace] == [3, 4]
    assert letter.hops == 3
    assert copy.expires == int(START) + 30 * DAY


@pytest.mark.parametrize("returns", [None, "", "ann@x.example"])
async def test_a_copy_knows_whom_its_failure_is_reported_to(
    autojump_clock: MockClock, world: World, returns: str | None
) -> None:
    world.returns = returns
    await world.pulling.pull(make_order())
    ((copy, _),) = world.copies.kept
    assert copy.returns == returns


async def test_nothing_is_done_twice(autojump_clock: MockClock, world: World) -> None:
    assert await world.pulling.pull(make_order()) == Outcome(0)
    assert await world.pulling.pull(make_order()) == Outcome(1)
    assert world.asked == ["look", "body"]


async def test_its_life_is_the_shorter_of_the_sources_and_ours(autojump_clock: MockClock, world: World) -> None:
    soon, later = int(START) + 100, int(START) + 9 * DAY
    await world.pulling.pull(make_order(make_notification(expires=soon)))
    other = make_notification(identifier=b"o" * 16, expires=later)
    world.sources.hold(b"o" * 16, BODY)
    await world.pulling.pull(make_order(other, keep=DAY))
    assert [copy.expires for copy, _ in world.copies.kept] == [soon, int(START) + DAY]


async def test_an_archive_outlives_its_source(autojump_clock: MockClock, world: World) -> None:
    """keep = "7y" is a promise of ours about a body of ours, once the source was told that we hold it."""
    soon = int(START) + 30 * DAY
    await world.pulling.pull(make_order(make_notification(expires=soon), keep=2555 * DAY, unpin="after_copy"))
    other = make_notification(identifier=b"o" * 16, expires=soon)
    world.sources.hold(b"o" * 16, BODY)
    await world.pulling.pull(make_order(other, keep=2555 * DAY, unpin="after_readers"))
    assert [copy.expires for copy, _ in world.copies.kept] == [int(START) + 2555 * DAY, soon]


@pytest.mark.parametrize(
    ("size", "said", "body", "asked"),
    [
        (1001, None, BODY, []),
        (None, 1001, BODY, ["look"]),
        (None, None, b"x" * 1001, ["look", "body"]),
    ],
)
async def test_too_big_is_refused_and_remembered(
    autojump_clock: MockClock, world: World, size: int | None, said: int | None, body: bytes, asked: list[str]
) -> None:
    world.sources.bodies[KEY] = body
    world.sources.said[KEY] = BodySize(said, None, None)
    order = make_order(make_notification(size=size))
    assert await world.pulling.pull(order) == Outcome(49)
    assert await world.pulling.pull(order) == Outcome(49)
    assert (world.asked, world.copies.kept) == (asked, [])


async def test_where_there_is_no_room_nothing_is_fetched_and_the_limit_is_named(
    autojump_clock: MockClock, world: World
) -> None:
    struck: list[tuple[str, str]] = []
    world.pulling.struck = lambda limit, who: struck.append((limit, who))
    world.copies.limit = "quota_per_sender"
    with pytest.raises(Full, match="over the limit quota_per_sender"):
        await world.pulling.pull(make_order())
    assert (world.asked, struck) == (["look"], [("quota_per_sender", str(PRESS))])
    world.copies.limit = None
    assert await world.pulling.pull(make_order()) == Outcome(0), "and later there is room"
    assert world.copies.kept[0][0].sender == "toby"


async def test_octets_that_are_not_those_promised_are_not_kept(autojump_clock: MockClock, world: World) -> None:
    digest = ContentDigest(1, bytes(32))
    for notification in (make_notification(size=1), make_notification(digest=digest)):
        with pytest.raises(PeerError):
            await world.pulling.pull(make_order(notification))
    assert world.copies.kept == []
    assert await world.pulling.pull(make_order()) == Outcome(0), "and later may go better"


async def test_what_is_gone_at_the_source_ends_the_order(autojump_clock: MockClock, world: World) -> None:
    world.sources.fails["look"] = [Gone()]
    assert await world.pulling.pull(make_order()) == Outcome(53)
    assert await world.pulling.pull(make_order()) == Outcome(53)


async def test_a_store_that_the_address_filter_forbids_is_refused_for_good(
    autojump_clock: MockClock, world: World
) -> None:
    world.sources.fails["look"] = [NoService("forbidden", "private")]
    assert await world.pulling.pull(make_order()) == Outcome(49)
    world.sources.fails["look"] = [NoService("noserver", "down")]
    with pytest.raises(NoService):
        await world.pulling.pull(make_order(make_notification(identifier=bytes(16))))


async def test_a_key_of_ours_that_was_minted_for_this_mailbox_is_a_loop(
    autojump_clock: MockClock, world: World
) -> None:
    world.copies.ours[KEY] = PRESS
    ours = make_notification(storeclear=ServiceLocation("pobox.example"))
    assert await world.pulling.pull(make_order(ours)) == Outcome(50)
    assert world.asked == []


async def test_the_fourth_pull_of_the_same_octets_in_a_day_is_a_ring(autojump_clock: MockClock, world: World) -> None:
    codes = []
    for n in range(4):
        key = bytes([n]) * 16
        world.sources.hold(key, BODY)
        codes.append((await world.pulling.pull(make_order(make_notification(identifier=key)))).code)
    assert codes == [0, 0, 0, 50]


async def test_the_same_order_at_the_same_time_is_busy(autojump_clock: MockClock, world: World) -> None:
    outcomes = []

    async def pull() -> None:
        outcomes.append((await world.pulling.pull(make_order())).code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        nursery.start_soon(pull)
    assert sorted(outcomes) in ([0, 1], [0, 35])
    assert len(world.copies.kept) == 1


# -- what is owed to the source


async def test_after_copy_the_source_is_silenced_and_unpinned(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    nursery.start_soon(world.pulling.run)
    await world.pulling.pull(make_order(unpin="after_copy"))
    await trio.sleep(1)
    assert world.asked == ["look", "body", "silence", "unpin"]
    assert world.copies.debts == {}


async def test_after_readers_the_unpin_waits_for_them(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    nursery.start_soon(world.pulling.run)
    await world.pulling.pull(make_order())
    await trio.sleep(3 * DAY)
    assert world.asked == ["look", "body", "silence"]
    world.copies.read_by_all(1)
    await trio.sleep(1)
    assert world.asked[3:] == ["unpin"]


async def test_a_shared_key_is_left_alone_until_our_own_have_read(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    nursery.start_soon(world.pulling.run)
    await world.pulling.pull(make_order(unpin="after_copy", shared=True))
    await trio.sleep(DAY)
    assert world.asked == ["look", "body"]


async def test_debts_are_tried_again_with_back_off_and_given_up_after_7_days(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    nursery.start_soon(world.pulling.run)
    world.sources.fails["silence"] = [PeerError("down")] * 1000
    await world.pulling.pull(make_order())
    await trio.sleep(400)
    times = [round(at) for at, name in world.sources.asked if name == "silence"]
    assert times == [0, 30, 90, 210]
    await trio.sleep(30 * DAY)
    assert world.copies.debts == {}


async def test_a_source_whose_own_time_has_ended_is_not_asked(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    nursery.start_soon(world.pulling.run)
    await world.pulling.pull(make_order(make_notification(expires=int(START) + DAY)))
    await trio.sleep(2 * DAY)
    world.copies.read_by_all(1)
    await trio.sleep(1)
    assert world.asked == ["look", "body", "silence"]
    assert world.copies.debts == {}


async def test_gone_means_paid(autojump_clock: MockClock, nursery: trio.Nursery, world: World) -> None:
    nursery.start_soon(world.pulling.run)
    world.sources.fails["silence"] = [Gone()]
    await world.pulling.pull(make_order(unpin="after_copy"))
    await trio.sleep(1)
    assert world.asked == ["look", "body", "silence"]
    assert world.copies.debts == {}


async def test_a_disk_that_fails_keeps_no_source_waiting_for_long(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    tries: list[float] = []

    async def fails(*_: object, **__: object) -> None:
        tries.append(trio.current_time())
        raise OSError("input/output error")

    assert await world.pulling.pull(make_order()) == Outcome(0)
    with monkeypatch.context() as broken:
        broken.setattr(world.copies, "owed", fails)
        nursery.start_soon(world.pulling.run)
        await trio.sleep(3600)
    assert tries[:5] == [0, 1, 3, 7, 15]
    assert max(b - a for a, b in pairwise(tries)) <= 60
    assert world.pulling.setback.last == "OSError: input/output error"
    with monkeypatch.context() as broken:
        broken.setattr(world.copies, "paid", fails)
        await trio.sleep(120)
    assert "silence" in world.asked
    await trio.sleep(61)
    assert not world.copies.debts
    assert not world.pulling.setback.last
