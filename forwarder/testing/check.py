"""`check_strategy`: a strategy held to its laws. Each broken one is an AssertionError that says which and where.

The laws (docs/plugins.md): equal cases give equal plans, from whichever instance; a plan is lawful (`forwarder.laws`);
`earlier` keeps the targets of a sticky Resend; every step from `work` is in its `may`; nothing of `self` or of the
case's memory changes; 1,000 plans take under 50 ms.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import trio
import trio.testing

from forwarder.laws import MAX_TEXT, unlawful
from forwarder.model import Mailbox, Route
from forwarder.plugin import (
    Again,
    Case,
    Objection,
    Options,
    PeerError,
    Plan,
    Ports,
    Resend,
    Strategy,
    StrategySpec,
    Work,
    Works,
)
from forwarder.testing.memory import make_ports
from forwarder.testing.values import EXTENDED, KEY, NOON, make_case, make_notification

PLANS, WITHIN = 1000, 0.05  # so many plans, seconds


def check_strategy(
    spec: StrategySpec[Any],
    route: Route,
    *,
    options: Mapping[str, object] | None = None,
    cases: Iterable[Case] = (),
    ports: Ports | None = None,
) -> None:
    """Raises AssertionError where the strategy breaks a law, at this route, with this table of options.

    It tries stores of 2004 and of today, hand-overs inside the forwarder, unknown and large sizes; give `cases` of your
    own for what your strategy looks at besides. Call it from a plain test function: `work` runs in a Trio of its own.
    """
    _Check(
        spec, route, options or {}, tuple(cases), ports or make_ports({KEY: b"Subject: tea\r\n\r\nAt four.\r\n"})
    ).all()


class _Check:
    """One strategy at one route."""

    def __init__(
        self,
        spec: StrategySpec[Any],
        route: Route,
        options: Mapping[str, object],
        cases: Sequence[Case],
        ports: Ports,
    ) -> None:
        self.spec, self.route, self.ports = spec, route, ports
        self.cases = (*_usual_cases(route), *cases)
        self.require(issubclass(spec.options, Options), "its options must be a subclass of Options")
        self.options = spec.options.model_validate(dict(options))

    def require(self, holds: bool, law: str) -> None:
        if not holds:
            raise AssertionError(f"{self.spec.name}: {law}")

    def all(self) -> None:
        self.declarations()
        strategy = self.make()
        for case in self.cases:
            plan = self.plan(strategy, case)
            self.sticks(strategy, case, plan)
            for work in (step for step in plan.steps if isinstance(step, Work)):
                self.works(strategy, case, work)
        self.speed(strategy)

    def make(self) -> Strategy:
        return self.spec.make(self.route, self.options, self.ports)

    def declarations(self) -> None:
        found = list(self.spec.objections(self.route, self.options))
        self.require(all(isinstance(one, Objection) for one in found), "objections must be Objections")
        texts = "; ".join(f"{one.key}: {one.text}" for one in found)
        self.require(not found, f"it objects to the route it is checked at: {texts}")
        for line in self.spec.records(self.route, self.options) if self.spec.records else ():
            self.require(isinstance(line, str) and "\n" not in line, f"a record is one line of a zone: {line!r}")

    def plan(self, strategy: Strategy, case: Case) -> Plan:
        before, memory = _attributes(strategy), dict(case.memory)
        plan = strategy.plan(case)
        wrong = unlawful(plan)
        self.require(wrong is None, f"{wrong}, for {_short(case)}")
        for other in (strategy, self.make()):
            again = other.plan(case)
            self.require(again == plan, f"equal cases must give equal plans: {plan}, then {again}, for {_short(case)}")
        after = _attributes(strategy)
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        self.require(not changed, f"plan changed self.{', self.'.join(changed)}: remember it by Plan.remember instead")
        self.require(dict(case.memory) == memory, "plan changed the case's memory: use Plan.remember instead")
        return plan

    def sticks(self, strategy: Strategy, case: Case, plan: Plan) -> None:
        chosen = tuple(to for step in plan.steps if isinstance(step, Resend) and step.sticky for to in step.to)
        if not chosen:
            return
        repeat = case._replace(
            earlier=chosen, now=case.now + timedelta(days=1), memory={**case.memory, **plan.remember}
        )
        again = strategy.plan(repeat)
        kept = tuple(to for step in again.steps if isinstance(step, Resend) for to in step.to)
        self.require(kept == chosen, f"a repeat of a sticky Resend to {_names(chosen)} went to {_names(kept)}")

    def works(self, strategy: Strategy, case: Case, work: Work) -> None:
        self.require(isinstance(strategy, Works), f"it plans Work {work.name!r} but has no work()")
        assert isinstance(strategy, Works)
        before = _attributes(strategy)
        try:
            result = trio.run(strategy.work, case, work, clock=trio.testing.MockClock(autojump_threshold=0))
        except PeerError:
            return
        self.require(before == _attributes(strategy), f"work {work.name!r} changed self: it may be dropped at any time")
        if result is None or isinstance(result, Again):
            return
        wrong = unlawful(result)
        self.require(wrong is None, f"work {work.name!r}: {wrong}")
        for step in result.steps:
            self.require(step in work.may, f"work {work.name!r} led to {step}, which is not in its `may`")

    def speed(self, strategy: Strategy) -> None:
        best = min(self._a_thousand(strategy) for _ in range(3))
        self.require(best < WITHIN, f"{PLANS} plans took {best * 1000:.0f} ms, at most {WITHIN * 1000:.0f}")

    def _a_thousand(self, strategy: Strategy) -> float:
        start = time.perf_counter()
        for at in range(PLANS):
            strategy.plan(self.cases[at % len(self.cases)])
        return time.perf_counter() - start


def _usual_cases(route: Route) -> Iterator[Case]:
    for size in (None, 0, 1234, 1 << 40):
        notification = make_notification(str(route.address), size=size)
        yield make_case(route, notification)
        yield make_case(route, notification, features=EXTENDED)
        yield make_case(route, notification, inner=True, now=NOON + timedelta(hours=12))


def _attributes(strategy: object) -> Mapping[str, tuple[int, str]]:
    """Its attributes as they are now, by identity and by what they show."""
    slots = [name for kind in type(strategy).__mro__ for name in getattr(kind, "__slots__", ())]
    names = {*slots, *getattr(strategy, "__dict__", {})} - {"__dict__", "__weakref__"}
    values = {name: getattr(strategy, name) for name in names if hasattr(strategy, name)}
    return {name: (id(value), repr(value)) for name, value in values.items()}


def _names(to: Sequence[Mailbox]) -> str:
    return ", ".join(map(str, to)) or "nobody"


def _short(case: Case) -> str:
    return repr(case)[:MAX_TEXT]
