"""Repeats and loops at the agent (protocol 5.0 a to g), where no other test of this room would miss the rule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from forwarder.agent import repeats
from forwarder.agent.item import Item
from forwarder.model import (
    Endpoint,
    Hop,
    Notification,
    Outcome,
    Redirect,
    ServiceLocation,
    parse_mailbox,
)
from forwarder.wire.notification import decode_notification, encode_notification

from .conftest import MAKERS
from .test_extensions import people
from .world import OF_2004, TODAY, World, build, notification, route

# -- repeats and loops


def named(clear: str | None, ssl: str | None, *, literal: str = "", key: int = 1) -> Notification:
    """As from a store that is named so."""
    places = (Endpoint(literal, 7102),) if literal else ()
    storessl = ServiceLocation(ssl) if ssl else None
    one = notification("brian@pobox.example", key)._replace(
        storeclear=ServiceLocation(clear, places), storessl=storessl
    )
    return decode_notification(encode_notification(one._replace(raw=b"")))


async def test_a_store_is_who_it_says_in_clear_else_over_tls(world: World) -> None:
    """One key of two stores is two messages; one store that changes how it is reached is one."""
    world.book.put(route("brian@pobox.example", "subscribe", readers=("brian",)))
    assert await world.code(named("store.example", None)) == 0
    assert await world.code(named("Store.Example", "other.example")) == 1
    assert await world.code(named("other.example", "store.example")) == 0
    assert await world.code(named(None, "store.example")) == 1
    assert await world.code(named(None, "third.example")) == 0
    assert [arrival.store for arrival in world.disk.arrivals] == ["store.example", "other.example", "third.example"]


def test_a_store_without_a_name_is_its_first_address() -> None:
    assert named(None, None, literal="192.0.2.7").store == "192.0.2.7:7102"
    assert named(None, "tls.example", literal="192.0.2.7").store == "tls.example"


async def test_the_recipient_of_a_repeat_is_folded_with_its_tag(world: World) -> None:
    entry = route("brian@pobox.example", "subscribe", readers=("brian",))
    world.book.put(entry)
    world.book.routes[parse_mailbox("brian+lists@pobox.example")] = entry
    assert await world.code(notification("brian@pobox.example")) == 0
    assert await world.code(notification("BRIAN@pobox.example")) == 1
    assert await world.code(notification("brian+lists@pobox.example")) == 0


async def test_our_mark_under_anothers_name_is_no_loop(world: World) -> None:
    """Nor is our name with the mark of another of our mailboxes: sales@ may lead to a list that leads to brian@."""
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    await world.code(notification("brian@pobox.example"))
    [(_, _, [sent])] = world.wires.sent
    [ours] = sent.trace
    forged = ours._replace(by="mx.elsewhere.example")
    elsewhere = ours._replace(rcpt=b"8 octets")
    assert await world.code(notification("brian@pobox.example", 2, trace=(forged,))) == 0
    assert await world.code(notification("brian@pobox.example", 3, trace=(elsewhere,))) == 0
    assert await world.code(notification("brian@pobox.example", 4, trace=(ours,))) == 50


async def test_two_that_meet_before_the_commit_are_one(world: World) -> None:
    world.book.put(
        route("brian@pobox.example", "subscribe", readers=("brian",)),
        route("sales@pobox.example", to="a@one.example b@two.example", kind="role"),
    )
    world.book.warm |= set(world.book.routes)
    for address in ("brian@pobox.example", "sales@pobox.example"):
        await world.code(notification(address, 1))
        outcomes, _ = await world.notify(notification(address, 2), notification(address, 2))
        assert [(outcome.code, outcome.retryafter) for outcome in outcomes] == [(0, None), (35, 300)]
    assert len(world.disk.arrivals) == len(world.disk.debts) == 2


async def test_after_13_hours_the_store_repeats_and_within_11_it_only_asks_again(world: World) -> None:
    world.book.put(route("brian@pobox.example", "subscribe", readers=("brian",)))
    for hours, code in ((0, 0), (11, 1), (2, 0), (11, 1), (2, 0)):
        world.now[0] += hours * 3600
        assert await world.code(notification("brian@pobox.example")) == code
    assert len(world.disk.arrivals) == 3


async def test_what_was_not_told_is_told_for_a_quarter_of_an_hour(world: World) -> None:
    names = people(world, 2)
    says = {"u0": Outcome(0), "u1": Outcome(32)}
    world.wires.script = lambda n: says[n.recipient.localpart]
    _, failed = await world.notify(*(notification(name) for name in names), peer=OF_2004)
    assert failed
    world.wires.sent.clear()
    world.now[0] += 14 * 60
    assert await world.code(notification(names[0])) == 0
    assert world.wires.sent == []
    assert await world.code(notification(names[1])) == 32
    assert world.wires.recipients() == ["u1@isp.example"], "what was put off is decided anew"
    world.now[0] += 2 * 60
    assert await world.code(notification(names[0])) == 0
    assert world.wires.recipients() == ["u1@isp.example", "u0@isp.example"]


async def test_what_was_not_told_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "UNTOLD_MOST", 3)
    memory = repeats.Repeats("mx.example", b"secret", hops=8, remembered=0, clock=lambda: 0.0)
    identities = [("store.example", bytes([number]), parse_mailbox("u@isp.example")) for number in range(5)]
    for identity in identities:
        memory.keep_untold(identity, Outcome(0))
    assert list(memory.untold) == identities[2:]


async def test_a_redirect_is_no_remembered_answer(world: World) -> None:
    """A batch of 2004 that failed as a whole: the single that follows may come from a store that follows."""
    world.book.put(
        route("moved@pobox.example", "tells", "moved@isp.example"),
        route("busy@pobox.example", to="busy@isp.example"),
    )
    world.wires.script = lambda n: Outcome(32)
    identity = ("store.example", (1).to_bytes(16, "big"), parse_mailbox("moved@pobox.example"))
    for code in (16, 32, 35):
        item = Item(notification("moved@pobox.example"), TODAY, datetime.fromtimestamp(0, UTC), lambda *_: None)
        item.identity = identity
        world.dispatcher.late(item, Outcome(code))
        world.dispatcher._keep_untold([item], [Outcome(code)])
    assert world.dispatcher._repeats.untold == {}
    world.dispatcher.late(item, Outcome(0))
    assert list(world.dispatcher._repeats.untold) == [identity]


async def test_rows_are_known_again_after_a_restart(nursery: trio.Nursery, world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    reborn = build(nursery, dict(MAKERS), disk=world.disk)
    reborn.book.put(*world.book.routes.values())
    reborn.dispatcher._repeats.recall(await world.disk.sights(0))
    assert await reborn.code(notification("sales@pobox.example")) == 1
    assert await reborn.code(notification("sales@pobox.example", 2)) == 0


def test_the_memory_of_rows_is_bounded_oldest_first_and_says_so() -> None:
    struck: list[str] = []
    memory = repeats.Repeats("mx.example", b"secret", hops=8, remembered=3, clock=lambda: 0.0)
    memory.struck = lambda name, who: struck.append(name)
    identities = [("store.example", bytes([number]), parse_mailbox("u@isp.example")) for number in range(5)]
    for identity in identities:
        memory.saw(identity, 7)
    assert [memory.taken(identity) is not None for identity in identities] == [False, False, True, True, True]
    assert struck == ["remembered", "remembered"]


# -- loops, and what a mark tells


async def test_hops_are_the_greater_of_counter_and_trace(world: World) -> None:
    """A forwarder of 2004 keeps neither, one of another make perhaps one of them."""
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))

    def passed(count: int) -> tuple[Hop, ...]:
        return tuple(Hop(f"mx{number}.example", None, 1_700_000_000, 3) for number in range(count))

    for number, (trace, hops, code) in enumerate([(8, None, 52), (7, None, 0), (8, 1, 52), (1, 8, 52), (7, 1, 0)]):
        assert await world.code(notification("brian@pobox.example", number, trace=passed(trace), hops=hops)) == code


def test_our_mark_tells_nobody_else_which_mailbox_it_was() -> None:
    def node(secret: bytes) -> repeats.Repeats:
        return repeats.Repeats("mx.example", secret, hops=8, remembered=0, clock=lambda: 0.0)

    brian, vera = parse_mailbox("brian@pobox.example"), parse_mailbox("vera@pobox.example")
    mark = node(b"one").mark(brian)
    assert mark == node(b"one").mark(brian)
    assert len({mark, node(b"one").mark(vera), node(b"two").mark(brian)}) == 3
    assert len(mark) == 8
    assert b"brian" not in mark


async def test_chains_follow_no_agent_named_beside_the_mailbox(world: World) -> None:
    """The word of a target leads us to the agent of its mailbox's own domain, and to no other."""
    world.book.put(route("brian@pobox.example", "chains", "brian@isp.example"))
    there = ServiceLocation("mx.elsewhere.example"), ServiceLocation(None, (Endpoint("192.0.2.7", 7101),))
    for number, rna in enumerate(there):
        elsewhere = Redirect(parse_mailbox("brian@new.example"), rna)
        world.wires.script = lambda n, to=elsewhere: Outcome(16, (to,))  # type: ignore[misc]
        assert await world.code(notification("brian@pobox.example", number)) == 49
    assert world.wires.recipients() == ["brian@isp.example"] * 2
