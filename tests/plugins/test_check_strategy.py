"""check_strategy finds each broken law and says which; what is in `testing` behaves as the real ports would."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import trio

from forwarder.model import Mailbox, Route, parse_mailbox
from forwarder.plugin import (
    Again,
    Case,
    Deposit,
    Objection,
    Options,
    PeerError,
    Plan,
    Ports,
    Refuse,
    Resend,
    Strategy,
    StrategySpec,
    Work,
)
from forwarder.testing import KEY, MemorySource, TurnedClock, check_strategy, make_notification, make_ports, make_route

BOB, FREDA = parse_mailbox("bob@staff.example"), parse_mailbox("freda@staff.example")
ROUTE = make_route(strategy="rota", kind="role", to=["bob@staff.example", "freda@staff.example"])


def spec(strategy: type[Any]) -> StrategySpec[Options]:
    def make(route: Route, options: Options, ports: Ports) -> Strategy:
        made: Strategy = strategy()
        return made

    return StrategySpec("rota", Options, make, lambda route, options: ())


class Honest:
    def plan(self, case: Case, /) -> Plan:
        return Plan((Resend(case.earlier or (BOB,), sticky=True), Work("ring", may=(Resend((FREDA,)),))))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        await trio.sleep(3600)  # a turned clock: no test waits for it
        return Plan((Resend((FREDA,)),))


class Illegal(Honest):
    def plan(self, case: Case, /) -> Plan:
        return Plan((Refuse(), Deposit(("bob",))))


class Moody(Honest):
    ticks = itertools.count()

    def plan(self, case: Case, /) -> Plan:
        return Plan((Refuse(text=str(next(self.ticks))),))


@dataclass
class Counting(Honest):
    seen: list[str] = field(default_factory=list)

    def plan(self, case: Case, /) -> Plan:
        self.seen.append(case.notification.sender)
        return Plan((Refuse(),))


class Growing(Honest):
    def plan(self, case: Case, /) -> Plan:
        self.last = case
        return Plan((Refuse(),))


class Slotted(Honest):
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def plan(self, case: Case, /) -> Plan:
        self.count += 1
        return Plan((Refuse(),))


class Scribbling(Honest):
    def plan(self, case: Case, /) -> Plan:
        case.memory["next"] = b"1"  # type: ignore[index]
        return Plan((Refuse(),))


class Fickle(Honest):
    def plan(self, case: Case, /) -> Plan:
        return Plan((Resend((FREDA,) if case.memory else (BOB,), sticky=True),), remember={"n": b"1"})


class Undeclared(Honest):
    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        return Plan((Deposit(("bob",)),))


class Workless:
    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("ring"),))


class Slow(Honest):
    def plan(self, case: Case, /) -> Plan:
        time.sleep(0.0001)
        return Plan((Refuse(),))


def test_an_honest_strategy_passes() -> None:
    check_strategy(spec(Honest), ROUTE)


@pytest.mark.parametrize(
    ("strategy", "law"),
    [
        (Illegal, "Refuse stands alone"),
        (Moody, "equal cases must give equal plans"),
        (Counting, r"plan changed self\.seen"),
        (Growing, r"plan changed self\.last"),
        (Slotted, r"plan changed self\.count"),
        (Scribbling, "case's memory"),
        (Fickle, "a repeat of a sticky Resend to bob@staff.example went to freda@staff.example"),
        (Undeclared, "not in its `may`"),
        (Workless, "has no work"),
        (Slow, "1000 plans took"),
    ],
)
def test_a_broken_law_is_named(strategy: type[Any], law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_strategy(spec(strategy), ROUTE)


def test_a_route_that_is_objected_to_is_no_place_to_check_at() -> None:
    def objects(route: Route, options: Options) -> Sequence[Objection]:
        return (Objection("kind", "a rota is a role"),)

    whole = spec(Honest)
    with pytest.raises(AssertionError, match="kind: a rota is a role"):
        check_strategy(StrategySpec("rota", Options, whole.make, objects), ROUTE)


async def test_the_memory_source_is_a_store() -> None:
    source = MemorySource({KEY: b"Subject: tea\r\n\r\n" + b"x" * 100_000})
    notification = make_notification()
    assert await source.still_there(notification)
    assert await source.head(notification) == b"Subject: tea\r\n\r\n"
    async with source.body(notification, limit=1 << 20) as slices:
        assert sum([len(piece) async for piece in slices]) == 100_016
    async with source.body(notification, limit=1000) as slices:
        with pytest.raises(PeerError, match="longer than 1000 octets"):
            await anext(slices)
    async with source.body(notification, limit=1 << 20) as slices:
        await anext(slices)  # a reader may stop early
    source.bodies.clear()
    assert not await source.still_there(notification)
    with pytest.raises(PeerError):
        await source.head(notification)


async def test_there_is_no_network_and_time_is_turned_by_hand() -> None:
    clock = TurnedClock()
    ports = make_ports(now=clock)
    noon = ports.now()
    clock.turn(timedelta(hours=4))
    assert ports.now() - noon == timedelta(hours=4)
    with pytest.raises(PeerError, match="no network"):
        await ports.connect("localhost", 25)


def test_makers_make_what_is_asked_for() -> None:
    route = make_route("Sales@Pobox.example", to=["bob@staff.example"], owner="brian")
    assert (route.address, route.entry, route.owner) == (
        Mailbox("sales", "pobox.example"),
        "sales@pobox.example",
        "brian",
    )
    assert make_notification(hops=3).hops == 3
