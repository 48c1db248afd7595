"""A plugin that raises, hangs, floods or lies harms nobody but itself: Defer(32), counted, said once in a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import trio

from forwarder import guard as guarding
from forwarder.guard import Guard
from forwarder.model import parse_mailbox
from forwarder.plugin import (
    Again,
    Case,
    Decline,
    Defer,
    Deposit,
    Options,
    PeerError,
    Plan,
    Pull,
    Refuse,
    Resend,
    Step,
    StrategySpec,
    Tell,
    Work,
)
from forwarder.testing import MemoryLog, make_case, make_ports, make_route

BOB = parse_mailbox("bob@staff.example")
DEFERRED = (Defer(32),)
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # what a careless plugin gives


@dataclass
class Does:
    """A strategy that does whatever it is given."""

    what: Callable[[Case], object]

    def plan(self, case: Case, /) -> Plan:
        return cast("Plan", self.what(case))


def guarded(what: Callable[[Case], object], guard: Guard | None = None, log: MemoryLog | None = None) -> Plan:
    return (guard or Guard()).plan(Does(what), make_case(), log or MemoryLog())


def test_a_lawful_plan_passes_as_the_very_same_object() -> None:
    plan = Plan((Resend((BOB,)),), note="on it goes")
    assert guarded(lambda case: plan) is plan


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("x"), RecursionError(), MemoryError(), SystemExit(3)])
def test_what_raises_defers(error: BaseException) -> None:
    def raises(case: Case) -> Plan:
        raise error

    plan = guarded(raises)
    assert plan.steps == DEFERRED
    assert type(error).__name__ in plan.note


def test_ctrl_c_passes() -> None:
    def interrupted(case: Case) -> Plan:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "NoneType"),
        ("refuse", "str"),
        (Resend((BOB,)), "Resend"),
        (Plan(()), "at least one step"),
        (Plan(cast("Any", [Resend((BOB,))])), "tuple"),
        (Plan(cast("Any", ("resend",))), "no step"),
        (Plan((Resend(()),)), "at least one mailbox"),
        (Plan((Resend(cast("Any", ("bob@staff.example",))),)), "not a Mailbox"),
        (Plan((Resend(cast("Any", "bob@staff.example")),)), "tuple"),
        (Plan((Deposit(()),)), "at least one account"),
        (Plan((Pull(),)), "`to` or `readers`"),
        (Plan((Pull(to=(BOB,), unpin=cast("Any", "now")),)), "unpin"),
        (Plan((Pull(to=(BOB,), max_size=-1),)), "max_size"),
        (Plan((Refuse(32),)), "class 3"),
        (Plan((Refuse(0),)), "class 3"),
        (Plan((Defer(48),)), "class 2"),
        (Plan((Defer(32, until=NAIVE),)), "zone"),
        (Plan((Work("ring", at=NAIVE),)), "zone"),
        (Plan((Work("ring", payload=bytes(65537)),)), "payload"),
        (Plan((Tell((BOB,), tokens=(b"a", b"b")),)), "one for each"),
        (Plan((Tell((BOB,), tokens=(bytes(65),)),)), "64"),
        # alone-steps stand alone; only a Tell may stand beside a Deposit or a Resend
        (Plan((Refuse(), Resend((BOB,)))), "stands alone"),
        (Plan((Defer(), Deposit(("bob",)))), "stands alone"),
        (Plan((Decline("no"), Decline("no"))), "stands alone"),
        (Plan((Tell((BOB,)), Tell((BOB,)))), "stands alone"),
        (Plan((Tell((BOB,)), Pull(to=(BOB,)))), "stands alone"),
        (Plan((Tell((BOB,)), Work("ring"))), "stands alone"),
        # floods
        (Plan((Resend((BOB,) * 1001),)), "1001 targets"),
        (Plan((Deposit(("bob",) * 1001),)), "1001 readers"),
        (Plan((Resend((BOB,) * 600), Resend((BOB,) * 600))), "1200 targets"),
        (Plan((Work("ring"),) * 1001), "at most 1000"),
        (Plan((Tell((BOB,) * 11),)), "11 targets"),
        (Plan((Resend((BOB,)),), note="x" * 501), "note"),
        (Plan((Resend((BOB,)),), remember={"x": bytes(65536)}), "65537 octets"),
        (Plan((Resend((BOB,)),), remember=cast("Any", {"x": "y"})), "bytes"),
        (Plan((Refuse(49, text="x" * 501),)), "text"),
    ],
)
def test_what_lies_or_floods_defers(answer: object, why: str) -> None:
    plan = guarded(lambda case: answer)
    assert plan.steps == DEFERRED
    assert why in plan.note


@pytest.mark.parametrize(
    "steps",
    [
        (Tell((BOB,)), Deposit(("bob",))),
        (Resend((BOB,)), Tell((BOB,))),
        (Resend((BOB,)), Deposit(("bob",)), Pull(to=(BOB,)), Work("ring")),
        (Resend((BOB,) * 1000),),
    ],
)
def test_what_may_stand_together_passes(steps: tuple[Step, ...]) -> None:
    assert guarded(lambda case: Plan(steps)).steps == steps


def hang(case: Case) -> Plan:
    time.sleep(0.06)
    return Plan((Resend((BOB,)),))


def test_what_hangs_defers_and_rests_so_that_the_others_do_not_notice() -> None:
    guard, log = Guard(), MemoryLog()
    assert guarded(hang, guard, log).steps == DEFERRED
    start = time.perf_counter()
    resting = guarded(hang, guard, log)
    assert time.perf_counter() - start < 0.05
    assert resting.steps == DEFERRED
    assert "rests" in resting.note


def test_what_has_rested_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "REST", 0)
    guard = Guard()
    guarded(hang, guard)
    assert guarded(lambda case: Plan((Refuse(),)), guard).steps == (Refuse(),)


def test_one_slow_call_may_be_the_machines_and_is_asked_once_more() -> None:
    calls: list[Case] = []

    def slow_once(case: Case) -> Plan:
        calls.append(case)
        return hang(case) if len(calls) == 1 else Plan((Refuse(),))

    guard = Guard()
    assert guarded(slow_once, guard).steps == (Refuse(),)
    assert guard.faults == {}


def lies(case: Case) -> object:
    return None


def test_faults_are_counted_by_plugin_and_logged_ever_more_rarely() -> None:
    guard, log = Guard(), MemoryLog()
    made = guard.owned(
        StrategySpec("liar", Options, lambda route, options, ports: Does(lies), lambda *_: ()), "pinocchio"
    )
    strategy = made.make(make_route(), Options(), make_ports())
    for _ in range(100):
        guard.plan(strategy, make_case(), log)
    assert guard.faults["pinocchio"].times == 100
    assert "NoneType" in guard.faults["pinocchio"].last
    assert [fields["count"] for _, fields in log.lines] == [1, 2, 4, 8, 16, 32, 64]


def test_what_make_objections_and_records_raise_stays_with_the_plugin() -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("oops")

    guard = Guard()
    spec = guard.owned(StrategySpec("zero", Options, broken, broken, broken), "zero")
    assert spec.records is not None
    assert guard.plan(spec.make(make_route(), Options(), make_ports()), make_case(), MemoryLog()).steps == DEFERRED
    (objection,) = spec.objections(make_route(), Options())
    assert "ZeroDivisionError" in objection.text
    assert spec.records(make_route(), Options()) == ()
    assert guard.faults["zero"].times == 3


@dataclass
class Worker:
    """A strategy whose deed ends as told."""

    ends: object

    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("ring", may=(Resend((BOB,)),)),))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        await trio.lowlevel.checkpoint()
        if isinstance(self.ends, BaseException):
            raise self.ends
        return cast("Plan | Again | None", self.ends)


LATER = Again(datetime(2026, 1, 2, tzinfo=UTC), "nobody answered")


@pytest.mark.parametrize("result", [None, LATER, Plan((Resend((BOB,)),))])
async def test_work_that_keeps_its_word_passes(result: object) -> None:
    worker = Worker(result)
    work = cast("Work", worker.plan(make_case()).steps[0])
    assert await Guard().work(worker, make_case(), work, MemoryLog()) == result


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (Plan((Deposit(("bob",)),)), "not in its `may`"),
        (Plan(()), "at least one step"),
        ("done", "str"),
        (Again(NAIVE, "later"), "zone"),
        (ValueError("no"), "ValueError"),
    ],
)
async def test_work_that_breaks_it_is_owed_another_try(result: object, why: str) -> None:
    guard, worker = Guard(), Worker(result)
    work = cast("Work", worker.plan(make_case()).steps[0])
    with pytest.raises(PeerError, match=why):
        await guard.work(worker, make_case(), work, MemoryLog())
    assert sum(fault.times for fault in guard.faults.values()) == 1


async def test_a_failing_peer_is_no_fault_of_the_plugin() -> None:
    guard, worker = Guard(), Worker(PeerError("connection refused"))
    with pytest.raises(PeerError, match="connection refused"):
        await guard.work(worker, make_case(), Work("ring"), MemoryLog())
    assert guard.faults == {}


async def test_work_without_end_is_stopped(autojump_clock: object) -> None:
    class Endless(Worker):
        async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
            await trio.sleep_forever()

    with pytest.raises(PeerError, match="TooSlowError"):
        await Guard().work(Endless(None), make_case(), Work("ring"), MemoryLog())


async def test_a_strategy_without_work_is_told_so() -> None:
    with pytest.raises(PeerError, match="has no work"):
        await Guard().work(Does(lies), make_case(), Work("ring"), MemoryLog())


def test_the_guard_costs_little_on_the_good_path() -> None:
    if sys.gettrace() is not None:
        pytest.skip("a tracer is on")
    plan, case, log, guard = Plan((Resend((BOB,)),)), make_case(), MemoryLog(), Guard()
    strategy = Does(lambda case: plan)

    def cost(call: Callable[[], Plan]) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(2000):
                call()
            best = min(best, time.perf_counter() - start)
        return best / 2000

    over = cost(lambda: guard.plan(strategy, case, log)) - cost(lambda: strategy.plan(case))
    assert over < 1.5e-6 * 4  # measured 0.3 to 0.6 us on a quiet machine; four times the budget for a busy one
