"""What is to be done with a notification at an entry: the one decision, for the dispatcher to perform and for `why` to
print. Pure: no clock but the case's, nothing waits."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from forwarder.agent.routes import Entry, Routes
from forwarder.model import Outcome, Peer, Route
from forwarder.plugin import Case, Decline, Defer, Plan, Refuse, Tell
from forwarder.ports import Strategies
from forwarder.wire.outcome import DEFERRED, NOUSER

A_DAY = 86400
UNSURE = frozenset({Decline, Tell})


class Decision(NamedTuple):
    """The plan, whose it is, and what the entry's own strategy said when it declined."""

    plan: Plan
    strategy: str
    declined: str = ""


def at_rest(route: Route, now: datetime) -> Outcome | None:
    """The answer of an address that acts no more, or not now (5.0 "Outcome to code")."""
    if route.state == "gone" or (route.expires is not None and route.expires <= now):
        return Outcome(NOUSER)
    if route.state == "off":
        return Outcome(DEFERRED, retryafter=A_DAY)
    return None


class Decider:
    """Asks the entry's strategy, and its fallback where that declines."""

    def __init__(self, routes: Routes, strategies: Strategies) -> None:
        self._routes = routes
        self._strategies = strategies

    def own(self, entry: Entry, case: Case) -> Plan | None:
        """The entry's own strategy's plan where that stands, as it nearly always does; None: `decide`."""
        strategy = entry.strategies.get(entry.route.strategy)
        if strategy is None or entry.route.state == "moved":
            return None
        plan = self._strategies.plan(strategy, case)
        return None if type(plan.steps[0]) in UNSURE else plan

    def decide(self, entry: Entry, case: Case) -> Decision:
        route = entry.route
        if route.state == "moved":
            return self._moved(entry, case)
        plan = self._plan(entry, case, route.strategy)
        if plan is None:
            return Decision(Plan((Defer(),), note=f"strategy {route.strategy} is not installed"), route.strategy)
        first = plan.steps[0]
        if type(first) is Decline:
            return self._fallback(entry, case, first.why)
        if type(first) is Tell and not _sayable(plan, case.peer):
            return self._fallback(entry, case, "the sender's store does not follow redirects")
        return Decision(plan, route.strategy)

    def _moved(self, entry: Entry, case: Case) -> Decision:
        route, peer = entry.route, case.peer
        if _may_name(route) and "redirect" in peer.features and not peer.inner:
            return Decision(Plan((Tell(route.to, permanent=True),), note="the address has moved"), "moved")
        if route.fallback is not None:
            return self._fallback(entry, case, "the address has moved")
        return Decision(Plan((Refuse(NOUSER),), note="the address has moved, and has no fallback"), "moved")

    def _fallback(self, entry: Entry, case: Case, why: str) -> Decision:
        name = entry.route.fallback
        if name is None:
            return Decision(
                Plan((Defer(),), note="declined, and the address has no fallback"), entry.route.strategy, why
            )
        plan = self._plan(entry, case._replace(memory=entry.memory_of(name)), name)
        if plan is None:
            plan = Plan((Defer(),), note=f"strategy {name} is not installed")
        elif type(plan.steps[0]) is Decline:
            plan = Plan((Defer(),), note=f"the fallback {name} declined too")
        return Decision(plan, name, why)

    def _plan(self, entry: Entry, case: Case, name: str) -> Plan | None:
        strategy = self._routes.strategy(entry, name)
        return None if strategy is None else self._strategies.plan(strategy, case)


def _may_name(route: Route) -> bool:
    """Where it went. Members of a role or a group are named by its strategy, or where it says `tell_members`."""
    return bool(route.to) and (route.kind == "person" or route.tell_members)


def _sayable(plan: Plan, peer: Peer) -> bool:
    """A lone Tell is for those who asked for redirects: code 16 goes to nobody else (5.2)."""
    lone_tell = len(plan.steps) == 1 and type(plan.steps[0]) is Tell
    return not lone_tell or ("redirect" in peer.features and not peer.inner)
