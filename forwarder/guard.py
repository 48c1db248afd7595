"""The guard between the core and its plugins: nothing passes but lawful answers, and every fault is counted.

Laws: a plugin that raises, hangs, floods or lies becomes `Defer` for its own addresses (the sender's store is the
queue) and a number in `faults`; the others do not notice. A slow one rests, so that it costs them 5 % at most. What
never returns cannot be helped here: a plan runs in the loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import trio

from forwarder.laws import unlawful
from forwarder.model import Route
from forwarder.plugin import (
    Again,
    Case,
    Defer,
    Log,
    Objection,
    Options,
    PeerError,
    Plan,
    Ports,
    Strategy,
    StrategySpec,
    Work,
    Works,
)

SLOWEST = 0.05  # seconds of one plan
REST = 20  # a slow strategy rests so many times what it took
HARM = (Exception, SystemExit)  # what a plugin's code may throw at us; Cancelled and Ctrl-C pass
PLANS = 10_000  # found lawful and kept: they are frozen
WORK_DEADLINE = 300.0  # seconds of one work(); it is called again


class Faults(NamedTuple):
    """What a plugin was caught at: how often since the start, and the last time."""

    times: int
    last: str


class Guard:
    """Calls plugins and lets nothing of them through but lawful answers. Knows whose class is whose by `owned`."""

    def __init__(self) -> None:
        self.faults: dict[str, Faults] = {}
        self._owners: WeakKeyDictionary[type, str] = WeakKeyDictionary()
        self._resting: dict[str, float] = {}
        self._lawful: dict[int, Plan] = {}

    def plan(self, strategy: Strategy, case: Case, log: Log) -> Plan:
        """The strategy's plan; Defer(32) if it raises, is unlawful (`laws`), or takes over 50 ms twice running.

        A single slow call may be the machine's, not the plugin's, and a plan is pure: so it is asked once more.
        """
        if self._resting and self._rests(strategy):
            return Plan((Defer(32),), note=f"plugin {self._owner(strategy)} was slow and rests")
        start = time.perf_counter()
        try:
            plan = strategy.plan(case)
            if time.perf_counter() - start > SLOWEST:
                start = time.perf_counter()
                plan = strategy.plan(case)
                if (took := time.perf_counter() - start) > SLOWEST:
                    return self._slow(strategy, took, log)
            if id(plan) in self._lawful:
                return plan
            wrong = unlawful(plan)
        except HARM as error:
            wrong = f"raised {told(error)}"
        return self._keep_lawful(plan) if wrong is None else self._defer(strategy, wrong, log)

    def _keep_lawful(self, plan: Plan) -> Plan:
        """A strategy that answers with one and the same plan need not have it checked each time."""
        if not plan.remember:
            if len(self._lawful) >= PLANS:
                self._lawful.clear()
            self._lawful[id(plan)] = plan
        return plan

    async def work(self, strategy: Strategy, case: Case, work: Work, log: Log) -> Plan | Again | None:
        """The plugin's own deed. Raises PeerError, also for a fault of the plugin: then it is owed another try.

        A plan that work() gives is lawful and holds nothing but what `work.may` declares.
        """
        try:
            if not isinstance(strategy, Works):
                raise TypeError(f"has no work() for {work.name!r}")
            with trio.fail_after(WORK_DEADLINE):
                result = await strategy.work(case, work)
            wrong = _unlawful_result(result, work)
        except PeerError:
            raise
        except HARM as error:
            wrong = f"work {work.name!r} raised {told(error)}"
        if wrong is not None:
            raise PeerError(self._count(self._owner(strategy), wrong, log))
        return result

    def owned(self, spec: StrategySpec[Any], plugin: str) -> StrategySpec[Any]:
        """The same spec, its functions guarded: what they raise becomes an objection, or a strategy that defers."""

        def make(route: Route, options: Options, ports: Ports) -> Strategy:
            try:
                strategy = spec.make(route, options, ports)
                self._owners[type(strategy)] = plugin
            except HARM as error:
                return _Unmade(self._count(plugin, f"make raised {told(error)}", ports.log))
            return strategy

        def objections(route: Route, options: Options) -> Sequence[Objection]:
            try:
                return tuple(spec.objections(route, options))
            except HARM as error:
                return (Objection("strategy", self._count(plugin, f"objections raised {told(error)}", None)),)

        def records(route: Route, options: Options) -> Sequence[str]:
            try:
                return tuple(spec.records(route, options)) if spec.records else ()
            except HARM as error:
                self._count(plugin, f"records raised {told(error)}", None)
                return ()

        guarded = replace(spec, make=make, objections=objections)
        return replace(guarded, records=records) if spec.records else guarded

    def _rests(self, strategy: Strategy) -> bool:
        owner = self._owner(strategy)
        until = self._resting.get(owner)
        if until is None or time.perf_counter() < until:
            return until is not None
        del self._resting[owner]
        return False

    def _slow(self, strategy: Strategy, took: float, log: Log) -> Plan:
        self._resting[self._owner(strategy)] = time.perf_counter() + REST * took
        return self._defer(strategy, f"a plan took {took * 1000:.0f} ms, at most {SLOWEST * 1000:.0f}", log)

    def _defer(self, strategy: Strategy, wrong: str, log: Log) -> Plan:
        return Plan((Defer(32),), note=self._count(self._owner(strategy), wrong, log))

    def _owner(self, strategy: Strategy) -> str:
        return self._owners.get(type(strategy), type(strategy).__module__)

    def _count(self, plugin: str, wrong: str, log: Log | None) -> str:
        """Counts a fault and says it in a sentence. Logs the first, second, fourth, eighth: a flood fills no disk."""
        text = f"plugin {plugin}: {wrong}"
        known = self.faults.get(plugin)
        count = known.times + 1 if known else 1
        self.faults[plugin] = Faults(count, text)
        if log and count & (count - 1) == 0:
            log.info("plugin.fault", plugin=plugin, fault=wrong, count=count)
        return text


@dataclass(frozen=True, slots=True)
class _Unmade:
    """Stands in for a strategy that could not be made; its addresses defer."""

    why: str

    def plan(self, case: Case, /) -> Plan:
        return Plan((Defer(32),), note=self.why)


def told(error: BaseException) -> str:
    """An exception in one line of at most 300 characters."""
    return f"{type(error).__name__}: {error}"[:300]


def _unlawful_result(result: object, work: Work) -> str | None:
    if result is None:
        return None
    if isinstance(result, Again):
        zoned = isinstance(result.at, datetime) and result.at.tzinfo is not None
        return None if zoned else f"work {work.name!r}: Again needs a datetime with its zone (UTC)"
    wrong = unlawful(result)
    if wrong is None and isinstance(result, Plan):
        wrong = next((f"{step} is not in its `may`" for step in result.steps if step not in work.may), None)
    return wrong and f"work {work.name!r}: {wrong}"[:300]
