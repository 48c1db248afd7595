"""Why a mailbox's mail goes where it goes: the same routes, decision and expansion as for real, and nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from forwarder.agent.decide import Decider, Decision, at_rest
from forwarder.agent.routes import Cold, Entry, Expansion, Routes
from forwarder.model import FEATURES, Mailbox, Notification, Outcome, Peer, Route
from forwarder.plugin import Case, Plan, Pull, Resend, Step, Work
from forwarder.ports import Answer, Found
from forwarder.wire.outcome import DEFERRED

ROUNDS = 16

Answers = dict[Mailbox, Answer]


@dataclass(frozen=True, slots=True)
class Explained:
    """What a store would meet. outcome: the answer where no strategy is asked. expansions: of each Resend."""

    peer: str
    outcome: Outcome | None
    decision: Decision | None = None
    expansions: Mapping[Step, Expansion] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """answer: what the files say. stores: a store of today and one of 2004."""

    answer: Answer
    route: Route | None
    stores: tuple[Explained, ...]


class Explainer:
    """Over the very rooms that the dispatcher uses."""

    def __init__(self, routes: Routes, decider: Decider) -> None:
        self._routes = routes
        self._decider = decider

    async def explain(self, notification: Notification, at: datetime) -> Explanation:
        mailbox = notification.recipient
        known = self._routes.known(mailbox)
        fresh: Answers = dict(await self._routes.read(frozenset((mailbox,)))) if known is None else {mailbox: known}
        answer = fresh[mailbox]
        route = answer.route if isinstance(answer, Found) else None
        stores = [
            await self._meet(peer, features, notification, at, fresh)
            for peer, features in (("today", FEATURES), ("2004", frozenset[str]()))
        ]
        return Explanation(answer, route, tuple(stores))

    async def _meet(
        self,
        name: str,
        features: frozenset[str],
        notification: Notification,
        at: datetime,
        fresh: dict[Mailbox, Answer],
    ) -> Explained:
        entry = self._routes.entry(notification.recipient, fresh)
        if isinstance(entry, Outcome):
            return Explained(name, entry)
        assert isinstance(entry, Entry)
        if rest := at_rest(entry.route, at):
            return Explained(name, rest)
        case = Case(notification, entry.route, Peer("", features=features), at, (), entry.memory)
        decision = self._decider.decide(entry, case)
        return Explained(name, None, decision, await self._expand(entry, decision.plan, fresh, at))

    async def _expand(self, entry: Entry, plan: Plan, fresh: Answers, at: datetime) -> Mapping[Step, Expansion]:
        found: dict[Step, Expansion] = {}
        for step in resends(plan):
            for _ in range(ROUNDS):
                expansion = self._routes.expand(entry, step.to, fresh, at.timestamp())
                if not isinstance(expansion, Cold):
                    found[step] = expansion
                    break
                fresh.update(await self._routes.read(expansion.mailboxes))
            else:
                found[step] = Expansion((), Outcome(DEFERRED, text="too deep"))
        return found


def resends(plan: Plan) -> list[Resend]:
    """The Resends of a plan, those that its Work may lead to included."""
    steps: list[Step] = []
    for step in plan.steps:
        steps += [step, *(step.may if isinstance(step, Work) else ())]
    return [step for step in steps if isinstance(step, Resend)]


def too_big(plan: Plan, size: int | None) -> list[Pull]:
    """The pulls that a message of this size (octets) would be refused by."""
    pulls = [step for step in plan.steps if isinstance(step, Pull)]
    return [step for step in pulls if size is not None and size > step.max_size]
