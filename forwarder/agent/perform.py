"""A plan becomes deeds. The steps of a whole tick are done together: one send per agent, one commit.

What is on disk before which answer:
* Resend to one target: nothing; the sender's store is the queue, the answer follows the target's.
* Resend to several, or sticky: the debt's row, then 0; the courier does the rest.
* Deposit: the inbox row. Pull, Work: the debt's row.
* Tell, Refuse, Defer: nothing, answered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from forwarder.agent.courier import Courier
from forwarder.agent.item import SOON, Item, from_failure
from forwarder.agent.limits import PullLimit, Struck, unheard
from forwarder.agent.links import Links
from forwarder.agent.marks import Marks
from forwarder.agent.repeats import Repeats, Taken, hops_of
from forwarder.agent.routes import Cold, Entry, Expansion, Fresh, Leg, Routes
from forwarder.agent.rows import Rows
from forwarder.agent.tick import Tick
from forwarder.model import (
    FOLLOWED,
    RESENT,
    SHARED,
    Mailbox,
    Notification,
    Outcome,
    Redirect,
    RedirectKind,
)
from forwarder.plugin import Decline, Defer, Deposit, Hold, PeerError, Plan, Pull, Refuse, Resend, Step, Tell, Work
from forwarder.ports import ByCarrier, Clock, Inbox, Ledger, Proven
from forwarder.wire.notification import MalformedPDU, decode_notification, splice
from forwarder.wire.outcome import (
    ACCEPTED,
    DEFERRED,
    REDIRECTED,
    REFUSED,
    UNVERIFIED,
    code_class,
    from_target,
)

STATELESS = 45.0
PER_HOP = 5.0
TOO_MUCH = Outcome(REFUSED, text="it carries too much that we do not know")
NOWHERE = Expansion(())
BY_CARRIER = Outcome(DEFERRED, text="by a carrier")

Inner = Callable[[bytes, Callable[[Outcome], None]], None]


class Performer:
    """The deeds of the alphabet. `inner` hands a spliced notification to the dispatcher in process (a leaf)."""

    def __init__(
        self,
        routes: Routes,
        links: Links,
        repeats: Repeats,
        courier: Courier,
        marks: Marks,
        inbox: Inbox,
        ledger: Ledger,
        tick: Tick,
        clock: Clock,
        inner: Inner,
        *,
        redirect_require_tls: bool = False,
        pulls: PullLimit | None = None,
        struck: Struck = unheard,
    ) -> None:
        self._routes = routes
        self._links = links
        self._courier = courier
        self._marks = marks
        self._tick = tick
        self._clock = clock
        self._inner = inner
        self._redirect_require_tls = redirect_require_tls
        self._struck = struck
        self._rows = Rows(repeats, courier, inbox, ledger, tick, clock, pulls)

    def perform(self, item: Item, plan: Plan, fresh: Fresh) -> Cold | None:
        """Starts every step; the item ends when all have. Cold: nothing was done yet, read these first."""
        entry = item.entry
        if entry is not None and entry.straight is not None and type(item.verdict) is not Hold:
            leg = self._routes.straight(entry, plan)
            if leg is not None:
                self._pass_straight(item, entry, leg)
                return None
        deeds: list[tuple[Step, Expansion]] = []
        for step in plan.steps:
            expansion = NOWHERE
            if type(step) is Resend:
                assert item.entry is not None
                expanded = self._routes.expand(item.entry, step.to, fresh, self._clock())
                if isinstance(expanded, Cold):
                    return expanded
                expansion = expanded
            deeds.append((step, expansion))
        if len(deeds) > 1:
            deeds = _beside_each_other(item, deeds)
        if plan.remember:
            self._rows.remember(item, plan.remember)
        for step, expansion in deeds:
            if type(step) is Resend:
                self._resend(item, step, expansion)
                if len(deeds) == 1 and not (step.sticky or step.chains or plan.remember) and item.entry is not None:
                    self._routes.remember_straight(item.entry, plan, expansion)
            else:
                self._do(item, step)
        return None

    def earlier(self, taken: Taken) -> tuple[Mailbox, ...]:
        """Where this key went before, for a strategy that sticks to its choice."""
        return self._courier.earlier(taken.debt) if taken.debt else ()

    def _do(self, item: Item, step: Step) -> None:
        if type(step) is Deposit:
            self._rows.deposit(item)
        elif type(step) is Pull:
            self._rows.owe(item, self._courier.pull_debt(item, step), once=True)
        elif type(step) is Work:
            self._rows.owe(item, self._courier.work_debt(item, step), once=True)
        elif type(step) is Tell:
            kind = RedirectKind.permanent if step.permanent else RedirectKind.temporary
            item.end(Outcome(REDIRECTED, _redirects(step, kind)))
        elif type(step) is Refuse:
            item.end(Outcome(step.code, text=step.text))
        elif type(step) is Defer:
            item.end(_deferred(step, item.at))
        else:
            assert type(step) is Decline
            item.end(SOON)

    # -- option 3

    def _resend(self, item: Item, step: Resend, expansion: Expansion) -> None:
        if expansion.refusal is not None:
            if expansion.limit:
                self._struck(expansion.limit, str(item.notification.recipient))
            item.end(expansion.refusal)
        elif not expansion.legs:
            item.end(Outcome(REFUSED))
        elif isinstance(item.verdict, Hold):
            item.end(Outcome(UNVERIFIED, retryafter=max(300, int(item.verdict.until.timestamp() - self._clock()))))
        elif all(leg.carried and not self._courier.carries(leg) for leg in expansion.legs):
            self._struck("no carrier", str(item.notification.recipient))
            item.end(SOON)
        elif (
            step.sticky
            or (len(expansion.legs) > 1 and not step.stateless)
            or any(leg.carried for leg in expansion.legs)
        ):
            self._owe_to(item, expansion.legs)
        elif len(expansion.legs) == 1:
            self._pass_on(item, expansion.legs[0], RESENT, step.chains, item.end)
        else:
            self._pass_on_to_all(item, expansion.legs, step.chains)

    def _owe_to(self, item: Item, legs: tuple[Leg, ...]) -> None:
        if self._may_be_passed_on(item, legs):
            self._rows.owe(item, self._courier.resend_debt(item, legs), once=False)
        else:
            item.end(TOO_MUCH)

    def _may_be_passed_on(self, item: Item, legs: tuple[Leg, ...]) -> bool:
        """Asked before its row is owed: what can never be sent is refused, not acknowledged."""
        entry = item.entry
        assert entry is not None
        longest = max((leg.recipient for leg in legs), key=len)
        try:
            splice(item.notification, longest, original=entry.original, hop=entry.hop(self._clock(), SHARED))
        except MalformedPDU:
            return False
        return True

    def _pass_on_to_all(self, item: Item, legs: tuple[Leg, ...], chains: bool) -> None:
        """The seed's own form: answered when all targets have; any failure is temporary for the whole."""
        heard: list[Outcome] = []

        def told(outcome: Outcome) -> None:
            heard.append(outcome)
            if len(heard) < len(legs):
                return
            if BY_CARRIER in heard:  # one of them is owed durably, and so they all are; the same key, harmless
                self._owe_to(item, legs)
            else:
                failed = [outcome for outcome in heard if code_class(outcome.code)]
                item.end(Outcome(DEFERRED, retryafter=failed[0].retryafter or 300) if failed else Outcome(ACCEPTED))

        for leg in legs:
            self._pass_on(item, leg, SHARED, chains, told)

    def _pass_straight(self, item: Item, entry: Entry, leg: Leg) -> None:
        """`_pass_on` for the one way that nearly all notifications go."""
        notification = item.notification
        try:
            hop = entry.hop(self._clock(), RESENT)
            item.octets = splice(notification, leg.recipient, original=entry.original, hop=hop)
        except MalformedPDU:
            item.end(TOO_MUCH)
            return
        item.target, item.by_carrier = leg.mailbox, self._owe_instead
        item.since = self._tick.time()
        item.deadline = item.since + (_patience(notification) if notification.trace or notification.hops else STATELESS)
        self._links.carry(item, leg.mailbox.domain)

    def carry(self, item: Item, carrier: str) -> None:
        """A message of our own store, for a mailbox elsewhere that has no agent."""
        leg = self._marks.leg(item.notification.recipient)._replace(via=carrier)
        self._rows.owe(item, self._courier.resend_debt(item, (leg,)), once=False)

    def _owe_instead(self, item: Item) -> None:
        """Its one target has no agent: owed, whatever the plan says of state (bridges.md 2)."""
        self._owe_to(item, (self._marks.leg(item.target),))

    def _pass_on(self, item: Item, leg: Leg, how: int, chains: bool, told: Callable[[Outcome], None]) -> None:
        entry, notification = item.entry, item.notification
        assert entry is not None
        try:
            hop = entry.hop(self._clock(), how)
            octets = splice(notification, leg.recipient, original=entry.original, hop=hop)
        except MalformedPDU:
            told(TOO_MUCH)
            return
        if leg.leaf:
            self._inner(octets, lambda outcome: told(from_target(outcome)))
            return
        deadline = self._tick.time() + _patience(notification)

        def heard(answer: Outcome | PeerError) -> None:
            if isinstance(answer, ByCarrier) and not leg.via:
                if how == RESENT:
                    self._owe_to(item, (leg,))
                else:
                    told(BY_CARRIER)
            elif isinstance(answer, PeerError):
                told(from_failure(answer))
            elif chains and answer.code == REDIRECTED and len(answer.redirects) == 1 and self._trusts(answer):
                self._follow(octets, answer.redirects[0], deadline, told)
            else:
                told(from_target(answer))

        self._links.offer(leg.mailbox, octets, heard, deadline=deadline, redirect=chains)

    def _trusts(self, answer: Outcome) -> bool:
        return not self._redirect_require_tls or isinstance(answer, Proven)

    def _follow(self, sent: bytes, redirect: Redirect, deadline: float, told: Callable[[Outcome], None]) -> None:
        """`chains`: the same key, to where the target points, one hop more; never a second time."""
        leg = self._marks.leg(redirect.mailbox)
        if leg.leaf or redirect.rna is not None:
            told(Outcome(REFUSED))
            return
        try:
            notification = decode_notification(sent)
            octets = self._marks.spliced(notification, notification.recipient, leg, FOLLOWED)
        except MalformedPDU:
            told(Outcome(REFUSED, text="it has grown too big"))
            return

        def heard(answer: Outcome | PeerError) -> None:
            told(from_failure(answer) if isinstance(answer, PeerError) else from_target(answer))

        self._links.offer(leg.mailbox, octets, heard, deadline=deadline)


def _beside_each_other(item: Item, deeds: list[tuple[Step, Expansion]]) -> list[tuple[Step, Expansion]]:
    """The item has as many parts as deeds; a Tell among them is none, it goes with the answer."""
    for deed in deeds:
        if type(deed[0]) is Tell:
            item.moved = _redirects(deed[0], RedirectKind.copy)
    others = [deed for deed in deeds if type(deed[0]) is not Tell]
    item.split(len(others))
    return others


def _patience(notification: Notification) -> float:
    """Seconds for a stateless forward: the inner hop always answers before the outer gives up (protocol 2)."""
    if notification.hops is None and not notification.trace:
        return STATELESS
    return max(PER_HOP, STATELESS - PER_HOP * hops_of(notification))


def _redirects(tell: Tell, kind: RedirectKind) -> tuple[Redirect, ...]:
    ttl = int(tell.ttl.total_seconds()) if tell.ttl is not None else None
    tokens = tell.tokens or (b"",) * len(tell.to)
    return tuple(
        Redirect(mailbox, None, kind, ttl, token or None) for mailbox, token in zip(tell.to, tokens, strict=True)
    )


def _deferred(step: Defer, now: datetime) -> Outcome:
    wait = 300 if step.until is None else max(300, int((step.until - now).total_seconds()))
    return Outcome(step.code, retryafter=wait)
