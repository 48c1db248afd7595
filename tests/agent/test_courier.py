"""What is owed after the answer: each target of a role is served exactly once, retried alone, repeated daily."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import trio
import trio.testing

from forwarder.model import Mailbox, Notification, Outcome, Route
from forwarder.plugin import Again, Case, Deposit, Plan, Resend, Strategy, Work
from forwarder.ports import NoService
from forwarder.wire.notification import decode_notification

from .conftest import MAKERS
from .world import OF_2004, World, build, notification, route

FIVE = "a@one.example b@two.example c@three.example d@four.example e@five.example"


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


async def turned(world: World, seconds: float) -> None:
    """The clock on the wall and the loop's own, together."""
    world.now[0] += seconds
    await trio.sleep(3601)
    await settled()


async def test_a_role_is_answered_after_its_row_and_then_sent_to_each_with_one_key(world: World) -> None:
    world.book.put(route("sales@pobox.example", to=FIVE, kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    assert world.disk.debts[1].kind == "resend"
    await settled()
    sent = [items[0] for _, _, items in world.wires.sent]
    assert sorted(str(n.recipient) for n in sent) == sorted(FIVE.split())
    assert {n.identifier for n in sent} == {notification("x@y.example").identifier}
    assert {hop.how for n in sent for hop in n.trace} == {2}


async def test_a_full_disk_acknowledges_no_role_and_sends_nothing(world: World) -> None:
    world.book.put(route("sales@pobox.example", to=FIVE, kind="role"))
    world.disk.full = True
    assert await world.code(notification("sales@pobox.example")) == 32
    await settled()
    assert not world.wires.sent


async def test_one_refuses_one_stalls_three_take_it_exactly_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to=FIVE, kind="role"))
    says = {"one.example": Outcome(49), "two.example": Outcome(32)}
    world.wires.script = lambda n: says.get(n.recipient.domain, Outcome(0, retransmit=700_000))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    for _ in range(3):
        await turned(world, 600)
    counts = [world.wires.recipients().count(text) for text in FIVE.split()]
    assert counts[0] == 1
    assert counts[1] == 4
    assert counts[2:] == [1, 1, 1]
    says["two.example"] = Outcome(0, retransmit=700_000)
    await turned(world, 3600)
    assert not world.disk.debts[1].open


async def test_a_crash_after_the_answer_sends_what_is_still_owed_at_the_next_start(
    nursery: trio.Nursery, world: World
) -> None:
    world.book.put(route("sales@pobox.example", to=FIVE, kind="role"))
    world.wires.script = lambda n: None if n.recipient.domain == "five.example" else Outcome(0, retransmit=700_000)
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    restarted = build(nursery, MAKERS, disk=world.disk)
    await restarted.courier.load()
    await settled()
    assert restarted.wires.recipients() == ["e@five.example"]


async def test_a_target_that_promises_nothing_is_repeated_daily_for_a_week_while_the_store_has_the_message(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.wires.legacy |= {"one.example", "two.example"}
    assert await world.code(notification("sales@pobox.example"), peer=OF_2004) == 0
    await settled()
    for day in range(1, 4):
        await turned(world, 86400)
        assert len(world.wires.sent) == 2 + 2 * day
    world.disk.withdrawn = True
    await turned(world, 86400)
    assert len(world.wires.sent) == 8
    assert not world.disk.debts[1].open


async def test_the_daily_repeats_end_after_seven_days(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    for _ in range(10):
        await turned(world, 86400)
    assert world.wires.recipients().count("a@one.example") == 1 + 7
    assert not world.disk.debts[1].open


async def test_a_repeat_within_12_hours_does_nothing_a_later_one_is_passed_on_once_more(world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    says = {"one.example": Outcome(49)}
    world.wires.script = lambda n: says.get(n.recipient.domain, Outcome(0))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert await world.code(notification("sales@pobox.example")) == 1
    world.now[0] += 13 * 3600
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert world.wires.recipients().count("a@one.example") == 1
    assert world.wires.recipients().count("b@two.example") == 2


async def given_up(world: World) -> None:
    """A role of two: a@one.example cannot be reached for eight days, b@two.example has taken it."""
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.where.missing["one.example"] = NoService("noservice", "no SRV")
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    await turned(world, 8 * 86400)
    await settled()
    assert any(event == "given up" for event, _ in world.log.events)


async def test_a_target_that_was_given_up_is_owed_again_before_the_store_s_repeat_is_answered(
    nursery: trio.Nursery, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Killed right after the answer: the next start asks it, whatever the store does from then on."""
    await given_up(world)
    world.wires.script = lambda n: None
    assert await world.code(notification("sales@pobox.example")) == 0
    restarted = build(nursery, MAKERS, disk=world.disk)
    restarted.now[0] = world.now[0]
    await restarted.courier.load()
    await settled()
    assert "a@one.example" in restarted.wires.recipients()


async def test_a_repeat_that_was_answered_is_passed_on_after_a_crash_too(
    nursery: trio.Nursery, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    promised = {"two.example": Outcome(0, retransmit=700_000)}
    world.wires.script = lambda n: promised.get(n.recipient.domain, Outcome(0))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    world.now[0] += 13 * 3600
    world.wires.script = lambda n: None
    assert await world.code(notification("sales@pobox.example")) == 0
    restarted = build(nursery, MAKERS, disk=world.disk)
    restarted.now[0] = world.now[0]
    nursery.start_soon(restarted.courier.run)
    await restarted.courier.load()
    await settled()
    assert restarted.wires.recipients() == ["a@one.example"]


async def test_a_repeat_that_a_full_disk_could_not_take_is_no_duplicate_later(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    await given_up(world)
    world.disk.full = True
    assert await world.code(notification("sales@pobox.example")) == 32
    world.disk.full = False
    world.now[0] += 300
    assert await world.code(notification("sales@pobox.example")) == 0
    del world.where.missing["one.example"]
    await turned(world, 86400)
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert "a@one.example" in world.wires.recipients()


async def test_a_repeat_whose_row_is_forgotten_is_owed_anew(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """A message may live longer than its row; whoever was given up by then must hear of it still."""
    await given_up(world)
    del world.disk.debts[1]
    world.wires.script = lambda n: None
    assert await world.code(notification("sales@pobox.example")) == 0
    assert [debt.open for debt in world.disk.debts.values()] == [True]


async def test_a_row_that_cannot_be_read_at_its_repeat_is_owed_anew_and_leaves_nobody_waiting(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    await given_up(world)
    world.disk.debts[1] = world.disk.debts[1]._replace(state=b"{", open=False)
    world.wires.script = lambda n: None
    assert await world.code(notification("sales@pobox.example")) == 0
    assert [debt.open for debt in world.disk.debts.values()] == [False, True]
    assert world.dispatcher.waiting == 0


async def test_a_disk_that_fails_at_a_daily_repeat_ends_none(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()

    async def fails(_: Notification) -> None:
        raise OSError("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(world.disk, "look", fails)
        await turned(world, 86400)
        assert len(world.wires.sent) == 2
    await turned(world, 86400)
    assert len(world.wires.sent) == 4


async def test_when_every_target_refused_the_store_hears_it_at_its_next_repeat(world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.wires.script = lambda n: Outcome(48)
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert await world.code(notification("sales@pobox.example")) == 49


async def test_a_target_without_a_domain_is_tried_once_a_day(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.where.missing["one.example"] = NoService("baddomain", "NXDOMAIN")
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    await turned(world, 7200)
    assert "a@one.example" not in world.wires.recipients()
    del world.where.missing["one.example"]
    await turned(world, 86400)
    assert "a@one.example" in world.wires.recipients()


async def test_a_leaf_inside_a_role_is_its_own_strategy_s_and_knows_the_key_is_shared(world: World) -> None:
    world.book.put(
        route("sales@pobox.example", to="desk@pobox.example b@two.example", kind="role"),
        route("desk@pobox.example", "pull", "agency@press.example"),
    )
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    await settled()
    [order] = world.disk.pulled
    assert order.shared
    assert order.address == Mailbox("desk", "pobox.example")


class Rota:
    """A plugin: remembers whose turn it is; its Work deposits after an hour."""

    def __init__(self, route: Route) -> None:
        self.route = route

    def plan(self, case: Case, /) -> Plan:
        turn = int(case.memory.get("turn", b"0"))
        chosen = self.route.to[turn % len(self.route.to)]
        if case.earlier:
            return Plan((Resend(case.earlier, sticky=True),))
        return Plan((Resend((chosen,), sticky=True),), remember={"turn": b"%d" % (turn + 1)})


class Patient:
    """A plugin with work: asks for a second try, then deposits."""

    tries = 0

    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("later", b"payload", may=(Deposit(("brian",)),)),))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        Patient.tries += 1
        if Patient.tries == 1:
            return Again(case.now, "not yet")
        assert work.payload == b"payload"
        return Plan((Deposit(("brian",)),))


async def test_a_sticky_choice_holds_for_its_key_and_memory_moves_on(nursery: trio.Nursery) -> None:
    makers: dict[str, Callable[[Route], Strategy]] = {"rota": Rota}
    world = build(nursery, makers)
    world.book.put(route("desk@pobox.example", "rota", "a@one.example b@two.example", kind="role"))
    for key in (1, 2, 3):
        assert await world.code(notification("desk@pobox.example", key)) == 0
        await settled()
    assert world.wires.recipients() == ["a@one.example", "b@two.example", "a@one.example"]
    assert world.disk.memories["desk@pobox.example", "rota"] == {"turn": b"3"}
    world.now[0] += 13 * 3600
    assert await world.code(notification("desk@pobox.example", 2)) == 0
    await settled()
    assert world.wires.recipients()[-1] == "b@two.example"


async def test_work_is_committed_before_the_answer_and_done_until_it_says_so(nursery: trio.Nursery) -> None:
    makers: dict[str, Callable[[Route], Strategy]] = {"patient": lambda route: Patient()}
    world = build(nursery, makers)
    world.book.put(route("desk@pobox.example", "patient", readers=("brian",)))
    Patient.tries = 0
    assert await world.code(notification("desk@pobox.example")) == 0
    assert world.disk.debts[1].kind == "work"
    await settled()
    assert Patient.tries == 2
    assert len(world.disk.arrivals) == 1
    assert not world.disk.debts[1].open


async def test_what_a_target_asks_for_is_honoured_between_five_minutes_and_a_week(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    says = {"one.example": Outcome(32, retryafter=1), "two.example": Outcome(32, retryafter=1 << 40)}
    world.wires.script = lambda n: says.get(n.recipient.domain, Outcome(0))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    await turned(world, 200)
    assert len(world.wires.sent) == 2
    await turned(world, 101)
    assert world.wires.recipients().count("a@one.example") == 2
    says["two.example"] = Outcome(0)
    for _ in range(7):
        await turned(world, 86400)
    assert world.wires.recipients().count("b@two.example") == 2


async def test_the_trace_tells_what_became_of_each_target_and_giving_up_is_logged(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example c@three.example", kind="role"))
    says = {"two.example": Outcome(49), "three.example": Outcome(32)}
    world.wires.script = lambda n: says.get(n.recipient.domain, Outcome(0, retransmit=700_000))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    await turned(world, 8 * 86400)
    told = [line.split("\t")[4:] for line in world.disk.lines if "->" in line]
    assert ["-> a@one.example", "0", "taken"] in told
    assert ["-> b@two.example", "49", "refused"] in told
    assert ["-> c@three.example", "32", "given up"] in told
    [(_, fields)] = [event for event in world.log.events if event[0] == "given up"]
    assert (fields["entry"], fields["target"]) == ("sales@pobox.example", "c@three.example")


async def test_a_notification_that_would_outgrow_its_limit_is_refused_by_a_role_and_harms_no_other(
    nursery: trio.Nursery, world: World
) -> None:
    """It fits as it comes, and not with what a forwarder adds: no row may be left that cannot be sent."""
    world.book.put(
        route("sales@pobox.example", to="a@one.example b@two.example", kind="role"),
        route("desk@pobox.example", to="c@one.example d@two.example", kind="role"),
    )
    big = swollen("sales@pobox.example")
    outcomes, _ = await world.notify(big, notification("desk@pobox.example", 2))
    assert [outcome.code for outcome in outcomes] == [49, 0]
    await settled()
    assert sorted(world.wires.recipients()) == ["c@one.example", "d@two.example"]
    assert world.dispatcher.waiting == 0


async def test_a_row_that_cannot_be_sent_does_not_stop_a_start(nursery: trio.Nursery, world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    debt = world.disk.debts[1]
    owed = json.dumps([["a@one.example", 0, 0, 0, 0, 0], ["b@two.example", 0, 0, 0, 0, 0]]).encode()
    world.disk.debts[2] = debt._replace(number=2, octets=swollen("sales@pobox.example", 9).raw, state=owed, open=True)
    world.disk.debts[3] = debt._replace(number=3, state=owed, open=True)
    restarted = build(nursery, MAKERS, disk=world.disk)
    await restarted.courier.load()
    await settled()
    assert sorted(restarted.wires.recipients()) == ["a@one.example", "b@two.example"]
    assert not world.disk.debts[2].open


def swollen(to: str, key: int = 1) -> Notification:
    """It carries more that nobody knows than may be passed on (4 KiB), and is good itself."""
    content = notification(to, key).raw[2:]
    unknown = b"\x9e\x82" + (5000).to_bytes(2, "big") + bytes(5000)
    whole = content + unknown
    return decode_notification(b"\x30\x82" + len(whole).to_bytes(2, "big") + whole)


async def test_a_thousand_targets_that_answer_at_once_are_served_in_a_loop(world: World) -> None:
    """Hosted addresses that are off say so at once: nothing may nest once for each."""
    names = [f"u{number}@pobox.example" for number in range(1000)]
    world.book.put(*(route(name, "subscribe", state="gone") for name in names))
    world.book.put(route("all@pobox.example", to=" ".join(names), kind="role", limits={"targets": 1000}))
    assert await world.code(notification("all@pobox.example")) == 0
    await settled()
    assert not world.disk.debts[1].open
    assert not any("failed" in event or "not taken" in event for event, _ in world.log.events)
