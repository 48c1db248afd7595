"""Rules of protocol 5.0 and 8 at the agent that no other test of this room would miss (tests/house/rules.py)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from forwarder.agent import links, repeats
from forwarder.agent.item import Item
from forwarder.agent.owed import Member
from forwarder.agent.screens import Guarded
from forwarder.model import (
    SHARED,
    Endpoint,
    Hop,
    Notification,
    Outcome,
    Peer,
    Redirect,
    ServiceLocation,
    parse_mailbox,
)
from forwarder.plugin import Ask, Case, Pass, Verdict
from forwarder.ports import Agent, Heard, Nobody, NoService, Results
from forwarder.wire.notification import decode_notification, encode_notification

from .conftest import MAKERS
from .world import OF_2004, TODAY, World, build, notification, route


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


def people(world: World, count: int = 3) -> list[str]:
    names = [f"u{number}@pobox.example" for number in range(count)]
    world.book.put(*(route(name, to=name.replace("pobox", "isp")) for name in names))
    return names


# -- batches


async def test_an_answer_without_results_ends_the_batches_though_it_was_a_yes(world: World) -> None:
    names = people(world)
    await world.notify(notification(names[0], 1))
    world.wires.legacy.add("isp.example")
    await world.notify(*(notification(name, 2) for name in names))
    world.wires.sent.clear()
    await world.notify(*(notification(name, 3) for name in names))
    assert [len(items) for _, _, items in world.wires.sent] == [1, 1, 1]


async def test_another_count_of_results_decides_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too few for a batch: each goes again by itself. One too many for a single: come again."""
    names = people(world)
    await world.notify(*(notification(name, 1) for name in names))
    sizes: list[int] = []

    async def answer(agent: Agent, lane: str, items: list[Notification], done: Callable[[Heard], None]) -> None:
        await trio.lowlevel.checkpoint()
        world.wires.busy[agent.name, lane] -= 1
        sizes.append(len(items))
        said = {3: [0, 0], 1: [49]}[len(items)] if items[0].identifier[-1] == 2 else [0, 0]
        done(Results(tuple(map(Outcome, said))))

    monkeypatch.setattr(world.wires, "_answer", answer)
    outcomes, _ = await world.notify(*(notification(name, 2) for name in names))
    assert [outcome.code for outcome in outcomes] == [49, 49, 49]
    assert sizes == [3, 1, 1, 1]
    outcomes, _ = await world.notify(notification(names[0], 3))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)


# -- peers of 2004


@pytest.mark.parametrize(("shared", "failed"), [(False, False), (True, True)])
async def test_a_full_mailbox_may_drop_only_a_key_that_nobody_else_holds(
    world: World, shared: bool, failed: bool
) -> None:
    people(world)
    world.wires.script = lambda n: Outcome(33)
    trace = (Hop("mx.other.example", None, 1_700_000_000, SHARED),) if shared else ()
    outcomes, told = await world.notify(notification("u0@pobox.example", trace=trace), peer=OF_2004)
    assert outcomes[0].code == 33
    assert told is failed


# -- several targets


async def test_a_target_without_a_domain_is_left_alone_for_the_whole_day(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Its domain appears after an hour: the back-off would have come round by then."""
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.where.missing["one.example"] = NoService("baddomain", "NXDOMAIN")
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    del world.where.missing["one.example"]
    for hours, there in ((2, False), (21, False), (2, True)):
        world.now[0] += hours * 3600
        await trio.sleep(3601)
        await settled()
        assert ("a@one.example" in world.wires.recipients()) is there


async def test_one_refusal_of_several_is_no_refusal_of_the_role(world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    says = {"one.example": Outcome(48), "two.example": Outcome(0, retransmit=700_000)}
    world.wires.script = lambda n: says[n.recipient.domain]
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert await world.code(notification("sales@pobox.example")) == 1
    world.now[0] += 13 * 3600
    assert await world.code(notification("sales@pobox.example")) == 0
    assert world.wires.recipients().count("a@one.example") == 1


@pytest.mark.parametrize(("promised", "kept"), [(3600, False), (86399, False), (86400, True)])
def test_a_promise_of_less_than_a_day_is_none(promised: int, kept: bool) -> None:
    member = Member(parse_mailbox("a@one.example"))
    member.took(Outcome(0, retransmit=promised), 1000.0, repeat=True)
    assert (member.promised > 0) is kept
    assert (member.due == 0.0) is kept


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


# -- the order


class Counts:
    """A screen that lets all pass and counts."""

    judged = 0

    def judge(self, case: Case, /) -> Verdict | Ask:
        self.judged += 1
        return Pass()

    async def ask(self, case: Case, /) -> Verdict:
        raise AssertionError


@pytest.fixture
def screened(nursery: trio.Nursery) -> tuple[World, Counts]:
    screen = Counts()
    world = build(nursery, dict(MAKERS), screens=[Guarded("counts", "callback", screen, False)], rate=1)
    world.book.put(
        route("brian@pobox.example", to="brian@isp.example"),
        route("vera@pobox.example", "subscribe", readers=("vera",)),
    )
    return world, screen


async def test_a_limit_is_told_before_anybody_asks_for_whom_it_is(screened: tuple[World, Counts]) -> None:
    world, screen = screened
    for key in range(10):
        await world.code(notification("vera@pobox.example", key, sender=f"u{key}"))
    judged = screen.judged
    for address in ("nobody@pobox.example", "brian@elsewhere.example", "vera@pobox.example"):
        outcomes, _ = await world.notify(notification(address, 99))
        assert (outcomes[0].code, outcomes[0].text) == (35, "over the limit submitter_rate")
    assert (screen.judged, len(world.disk.arrivals)) == (judged, 10)


async def test_some_of_a_pdu_over_a_limit_go_no_further(screened: tuple[World, Counts]) -> None:
    """Half of the bucket is used: then each store and sender has its share."""
    world, screen = screened
    await world.notify(*(notification("vera@pobox.example", key, sender=f"u{key}") for key in range(6)))
    outcomes, _ = await world.notify(*(notification("vera@pobox.example", key, sender="loud") for key in range(20, 24)))
    codes = [outcome.code for outcome in outcomes]
    assert codes.count(35) == 2
    assert len(world.disk.arrivals) == screen.judged == 6 + codes.count(0)


async def test_a_loop_costs_no_screen_and_neither_does_what_is_under_way(screened: tuple[World, Counts]) -> None:
    world, screen = screened
    assert await world.code(notification("brian@pobox.example", 1, hops=9)) == 52
    assert screen.judged == 0
    world.wires.delay = lambda n: 0.05
    outcomes, _ = await world.notify(notification("brian@pobox.example", 2), notification("brian@pobox.example", 2))
    assert [outcome.code for outcome in outcomes] == [0, 35]
    assert screen.judged == 1


async def test_what_was_taken_before_is_screened_again(screened: tuple[World, Counts]) -> None:
    """It may be on a list by now."""
    world, screen = screened
    assert await world.code(notification("vera@pobox.example")) == 0
    assert await world.code(notification("vera@pobox.example")) == 1
    assert screen.judged == 2


# -- what strangers learn


async def test_nobody_is_told_why_we_could_not_connect(world: World) -> None:
    """Else we would be a port scanner for who names our targets (8.3)."""
    people(world)
    told: list[Outcome] = []
    for why in ("192.168.7.1:22: private address", "192.168.7.1:7101: connection refused", "no answer"):
        kind = "forbidden" if "private" in why else "noserver"
        world.where.missing["isp.example"] = NoService(kind, why)  # type: ignore[arg-type]
        outcomes, _ = await world.notify(notification("u0@pobox.example", len(told)))
        told.append(outcomes[0])
    assert told == [Outcome(32, retryafter=300)] * 3
    assert world.links.forbidden == {}


async def test_status_names_a_target_that_we_may_not_connect_to(world: World) -> None:
    people(world)
    world.where.missing["isp.example"] = NoService("forbidden", "192.168.7.1:7101: private address")
    outcomes, _ = await world.notify(notification("u0@pobox.example"))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)
    assert world.links.forbidden == {"isp.example": "192.168.7.1:7101: private address"}


@pytest.mark.parametrize(("kind", "named", "code"), [("person", False, 16), ("role", False, 48), ("role", True, 16)])
async def test_members_are_named_only_where_the_address_says_so(
    world: World, kind: str, named: bool, code: int
) -> None:
    to = "a@one.example" if kind == "person" else "a@one.example b@two.example"
    world.book.put(route("sales@pobox.example", to=to, kind=kind, state="moved", tell_members=named))
    outcomes, _ = await world.notify(notification("sales@pobox.example"))
    assert (outcomes[0].code, bool(outcomes[0].redirects)) == (code, code == 16)


# -- what one agent may get of us at once


async def out_at_once(world: World, count: int) -> int:
    """Sessions that carry something, when so many notifications wait for one agent that does not answer."""
    people(world, count)
    world.wires.script = lambda n: None
    for number in range(count):
        world.dispatcher.receive([notification(f"u{number}@pobox.example", 7)], TODAY, lambda outcomes, failed: None)
        await trio.sleep(0.05)
    await trio.sleep(1)
    return sum(lane == "main" for _, lane, _ in world.wires.sent)


async def test_an_agent_of_today_gets_four_sessions(world: World, autojump_clock: trio.testing.MockClock) -> None:
    people(world)
    await world.notify(notification("u0@pobox.example"))
    world.wires.sent.clear()
    assert await out_at_once(world, 30) == 4


async def test_an_agent_of_2004_gets_sixteen(world: World, autojump_clock: trio.testing.MockClock) -> None:
    assert await out_at_once(world, 30) == 16


async def test_a_queue_to_an_agent_that_is_known_is_bounded_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "QUEUE", 5)
    struck: list[tuple[str, str]] = []
    world.links.struck = lambda name, who: struck.append((name, who))
    people(world)
    await world.notify(notification("u0@pobox.example"))
    world.wires.script = lambda n: None
    told: list[Outcome] = []
    for key in range(10, 50):
        world.dispatcher.receive(
            [notification("u0@pobox.example", key)], TODAY, lambda outcomes, failed: told.append(outcomes[0])
        )
    await settled()
    assert {(outcome.code, outcome.text) for outcome in told} == {(35, "over the limit agent queue")}
    assert set(struck) == {("agent queue", "isp.example")}
    assert world.links.waiting + len(told) == 40


async def test_an_address_has_so_many_targets_and_its_own_file_may_say_fewer(world: World) -> None:
    """All or nothing: the first fifty of fifty-one would be an accident."""
    for number, (count, limits, code) in enumerate([(50, {}, 0), (51, {}, 32), (3, {"targets": 3}, 0)]):
        to = " ".join(f"u{target}@isp.example" for target in range(count))
        world.book.put(route(f"many{number}@pobox.example", to=to, kind="role", limits=limits))
        assert await world.code(notification(f"many{number}@pobox.example")) == code
    world.book.put(route("few@pobox.example", to="a@isp.example b@isp.example", kind="role", limits={"targets": 1}))
    [outcome], _ = await world.notify(notification("few@pobox.example"))
    assert (outcome.code, outcome.text) == (32, "over the limit targets")


async def test_forwards_are_opened_so_deep(world: World) -> None:
    world.book.put(*(route(f"n{depth}@pobox.example", to=f"n{depth + 1}@pobox.example") for depth in range(12)))
    [outcome], _ = await world.notify(notification("n0@pobox.example"))
    assert (outcome.code, outcome.text) == (32, "over the limit depth")
    assert world.wires.sent == []


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


# -- forged names


async def test_a_forger_shuts_out_nobody_else(nursery: trio.Nursery) -> None:
    """He names an innocent store and sender until they are refused him; from their own store they still come in."""
    world = build(nursery, dict(MAKERS), rate=2)
    world.book.put(route("vera@pobox.example", "subscribe", readers=("vera",)))
    forger = Peer("198.51.100.7", 1000, features=TODAY.features)
    codes = [await world.code(notification("vera@pobox.example", key), peer=forger) for key in range(20)]
    assert codes[-1] == 35
    assert await world.code(notification("vera@pobox.example", 99)) == 0


# -- what a Hop says


async def test_what_goes_straight_is_marked_as_what_goes_round(world: World) -> None:
    """The second notification takes the short way of a plan that is known."""
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    for key in (1, 2, 3):
        assert await world.code(notification("brian@pobox.example", key)) == 0
    assert [n.trace[0].how for _, _, items in world.wires.sent for n in items] == [3, 3, 3]


async def test_one_key_for_several_is_marked_so_without_a_row_too(world: World) -> None:
    world.book.put(route("sales@pobox.example", "stateless", "a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    assert [n.trace[0].how for _, _, items in world.wires.sent for n in items] == [2, 2]
    assert world.disk.debts == {}


async def test_a_repeat_that_was_passed_on_counts_as_taken_anew(world: World) -> None:
    """Twelve hours from then: a ring would turn once an hour else."""
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    for hours, code, sent in ((0, 0, 2), (13, 0, 4), (1, 1, 4), (10, 1, 4), (2, 0, 6)):
        world.now[0] += hours * 3600
        assert await world.code(notification("sales@pobox.example")) == code
        await settled()
        assert len(world.wires.recipients()) == sent


async def test_a_targets_redirect_that_we_follow_is_one_hop_more_and_says_so(world: World) -> None:
    world.book.put(route("brian@pobox.example", "chains", "brian@isp.example"))
    elsewhere = Redirect(parse_mailbox("brian@new.example"))
    world.wires.script = lambda n: Outcome(16, (elsewhere,)) if n.recipient.domain == "isp.example" else Outcome(0)
    assert await world.code(notification("brian@pobox.example")) == 0
    sent = [n for _, _, items in world.wires.sent for n in items]
    assert [[hop.how for hop in n.trace] for n in sent] == [[3], [3, 1]]
    assert [n.hops for n in sent] == [1, 2]
    assert sent[0].identifier == sent[1].identifier


# -- the plain answers


async def test_an_empty_batch_is_answered_at_once_and_well(world: World) -> None:
    for peer in (TODAY, OF_2004):
        assert await world.notify(peer=peer) == ([], False)


async def test_an_address_that_is_off_is_asked_again_tomorrow(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example", state="off"))
    [outcome], _ = await world.notify(notification("brian@pobox.example"))
    assert (outcome.code, outcome.retryafter) == (32, 86400)


@pytest.mark.parametrize(("tell", "code"), [(True, 48), (False, 0)])
async def test_strangers_learn_who_exists_only_where_the_domain_tells(
    world: World, monkeypatch: pytest.MonkeyPatch, tell: bool, code: int
) -> None:
    monkeypatch.setattr(world.book, "_find", lambda mailbox: Nobody(tell=tell))
    assert await world.code(notification("nobody@pobox.example")) == code
