"""One notification walks through: limits, route, repeats and loops, screens, the plan, the deeds, the outcome.

Reads top to bottom; `receive` takes a PDU's notifications, `_advance` takes one as far as it goes without waiting.
What must wait (cold files, screens that ask) goes on in one task for a whole tick, never in one for each notification.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import trio

from forwarder.agent.decide import Decider, at_rest
from forwarder.agent.expects import expected
from forwarder.agent.item import SOON, Item
from forwarder.agent.limits import Struck, SubmitterLimit, unheard
from forwarder.agent.perform import Performer
from forwarder.agent.repeats import TOO_FAR, Repeats, adds_a_hop
from forwarder.agent.routes import Cold, Entry, Fresh, Routes
from forwarder.agent.screens import Screens
from forwarder.agent.tick import Tick
from forwarder.agent.turn import PATIENCE, Turn
from forwarder.model import Mailbox, Notification, Outcome, Peer
from forwarder.plugin import Ask, Case, Defer, Log, Pass, Plan, Refuse, Verdict
from forwarder.ports import Answer as Looked
from forwarder.ports import Clock, Trace
from forwarder.wire.notification import MalformedPDU, decode_notification
from forwarder.wire.outcome import (
    BUSY,
    EXPIRED,
    REDIRECT,
    REFUSED,
    TEMPORARY,
    code_class,
    legacy_error,
)

NOTHING: Fresh = {}
COLD_ROUNDS = 16
IN_FLIGHT = Outcome(BUSY, retryafter=300)
OURSELVES = Peer("127.0.0.1", features=frozenset({"results"}), inner=True)

Answer = Callable[[Sequence[Outcome], bool], None]
"""Outcomes in order; True: a peer of 2004 is told errorinternalproblem for the whole PDU."""


class Dispatcher:
    """The agent. `receive` for what comes by socket, `receive_inner` for our own and for leaves."""

    def __init__(
        self,
        limit: SubmitterLimit,
        routes: Routes,
        repeats: Repeats,
        screens: Screens,
        decider: Decider,
        performer: Performer,
        trace: Trace,
        tick: Tick,
        nursery: trio.Nursery,
        clock: Clock,
        log: Log,
        *,
        literals: bool,
        struck: Struck = unheard,
    ) -> None:
        self._limit = limit
        self._routes = routes
        self._repeats = repeats
        self._screens = screens
        self._screening = bool(screens)
        self._decider = decider
        self._performer = performer
        self._trace = trace
        self._tick = tick
        self._nursery = nursery
        self._clock = clock
        self._log = log
        self._literals = literals
        self._struck = struck
        self._cold: list[tuple[Item, Cold]] = []
        self._impatient: dict[Turn, None] = {}
        self._hurried = trio.Event()
        self._ended: list[tuple[Item, Outcome]] = []
        self.received = 0
        self.inner = 0
        self.outcomes = [0] * 5

    # -- in

    def receive(self, notifications: Sequence[Notification], peer: Peer, answer: Answer) -> None:
        """A PDU's notifications. `answer` is called once, perhaps before this returns."""
        if not notifications:
            answer((), False)
            return
        extended = "results" in peer.features
        items: list[Item] = []

        def folded(outcomes: Sequence[Outcome]) -> None:
            self._impatient.pop(turn, None)
            failed = False
            if not extended:
                shared = any(notification.shared for notification in notifications)
                failed = legacy_error(outcomes, shared=shared)
                if failed and len(items) > 1:
                    self._keep_untold(items, outcomes)
            answer(outcomes, failed)

        turn = Turn(len(notifications), folded, self._hurry)
        self.received += len(notifications)
        refused = self._limit.refused(peer.address, notifications)
        for index, limit in refused.items():
            turn.settle(index, Outcome(BUSY, retryafter=300, text=f"over the limit {limit}"))
        if len(refused) == len(notifications):
            return
        at, settle = datetime.fromtimestamp(self._clock(), UTC), self._settle
        for index, notification in enumerate(notifications):
            item = Item(notification, peer, at, settle, turn, index)
            items.append(item)
            cold = self._advance(item, NOTHING) if index not in refused else None
            if cold is not None:
                self._thaw_later(item, cold)

    def receive_inner(self, octets: bytes, told: Callable[[Outcome], None], peer: Peer = OURSELVES) -> None:
        """A notification that this daemon itself has for one of its own mailboxes: a leaf's, or our store's."""
        try:
            notification = decode_notification(octets)
        except MalformedPDU:
            told(Outcome(REFUSED))
            return
        self.inner += 1
        at = datetime.fromtimestamp(self._clock(), UTC)
        turn = Turn(1, lambda outcomes: told(outcomes[0]), self._hurry)
        item = Item(notification, peer, at, self._settle, turn)
        self._thaw_later(item, self._advance(item, NOTHING))

    def perform(self, case: Case, plan: Plan, strategy: str, debt: int, told: Callable[[Outcome], None]) -> None:
        """The plan that a plugin's Work led to. Its debt stands for it: only what this very Work has done is known."""
        entry = self._routes.compiled(case.notification.recipient, case.route, {strategy: case.memory})

        def settle(item: Item, outcome: Outcome) -> None:
            told(outcome)

        item = Item(case.notification, case.peer, case.now, settle)
        item.entry, item.plan, item.strategy = entry, plan, strategy
        item.identity = (f"work {debt} {case.notification.store}", case.notification.identifier, entry.folded)
        self._thaw_later(item, self._performer.perform(item, plan, NOTHING))

    # -- through

    def _advance(self, item: Item, fresh: Fresh) -> Cold | None:
        """As far as it goes at once; a bug in it ends this item alone, as a Defer. Cold: call again with these read."""
        try:
            entry, plan = item.entry, item.plan
            if entry is None:
                found = self._routes.entry(item.notification.recipient, fresh)
                if type(found) is not Entry:
                    return self._nowhere(item, found)
                entry = item.entry = found
                refusal = self._refusal(item, entry)
                if refusal is not None:
                    item.end(refusal)
                    return None
            if plan is None:
                assert item.identity is not None
                taken = self._repeats.taken(item.identity)
                earlier = () if taken is None else self._performer.earlier(taken)
                case = Case(item.notification, entry.route, item.peer, item.at, earlier, entry.memory)
                if self._screening and item.verdict is None and not self._passes(item, case):
                    return None
                plan, item.strategy = self._decider.own(entry, case), entry.route.strategy
                if plan is None:
                    plan, item.strategy, _ = self._decider.decide(entry, case)
                item.plan = plan
                if item.spent and adds_a_hop(plan.steps):
                    self._struck("hops", item.peer.address)
                    item.end(TOO_FAR)
                    return None
            return self._performer.perform(item, plan, fresh)
        except Exception as error:
            self._failed(error)
            item.fail(SOON)
            return None

    def _nowhere(self, item: Item, found: Entry | Outcome | Cold) -> Cold | None:
        """Nobody acts for its recipient, or that is not known yet."""
        if isinstance(found, Outcome):
            item.end(found)
            return None
        assert isinstance(found, Cold)
        return found

    def _refusal(self, item: Item, entry: Entry) -> Outcome | None:
        """What ends it before any strategy is asked: literal stores, expiry, repeats, loops, the address's state."""
        notification, route = item.notification, entry.route
        store = notification.storeclear.domain
        if not store:
            if not self._literals and not _tls_domain(notification):
                return Outcome(REFUSED, text="stores named by address are not accepted")
            store = notification.store
        if notification.expires is not None and notification.expires <= item.at.timestamp():
            return Outcome(EXPIRED)
        if notification.trace or notification.hops:
            if loop := self._repeats.loop(notification, entry.folded):
                if loop is TOO_FAR:
                    self._struck("hops", item.peer.address)
                return loop
            item.spent = self._repeats.spent(notification)
        if route.expects and not expected(route, notification):
            return Outcome(REFUSED, text="not a forward that this address expects")
        identity, repeats = (store, notification.identifier, entry.folded), self._repeats
        if identity in repeats.under_way:
            return IN_FLIGHT
        if repeats.untold and (untold := repeats.was_not_told(identity)):
            return untold
        if not entry.always_on and (rest := at_rest(route, item.at)):
            return rest
        item.identity = identity
        repeats.under_way.add(identity)
        return None

    def _passes(self, item: Item, case: Case) -> bool:
        """False: the item has ended, or waits for a screen that asks the network."""
        verdict = self._screens.judge(case)
        if type(verdict) is Pass:
            item.verdict = verdict
            return True
        if isinstance(verdict, Ask):
            if item.peer.inner or self._limit.may_ask(item.peer.address):
                self._nursery.start_soon(self._ask, item, case)
                return False
            verdict = Defer(BUSY)
        return self._judged(item, verdict)

    async def _ask(self, item: Item, case: Case) -> None:
        if self._judged(item, await self._screens.ask(case)):
            self._thaw_later(item, self._advance(item, NOTHING))

    def _judged(self, item: Item, verdict: Verdict) -> bool:
        item.verdict = verdict
        if isinstance(verdict, Refuse | Defer):
            item.plan = Plan((verdict,), note="by a screen")
            self._performer.perform(item, item.plan, NOTHING)
            return False
        return True

    # -- what waits for files

    def _thaw_later(self, item: Item, cold: Cold | None) -> None:
        if cold is not None:
            self._cold.append((item, cold))
            if len(self._cold) == 1:
                self._tick.soon(self._start_thaw)

    def _start_thaw(self) -> None:
        cold, self._cold = self._cold, []
        self._nursery.start_soon(self._thaw, cold)

    async def _thaw(self, waiting: list[tuple[Item, Cold]]) -> None:
        """One thread call for all cold addresses of the tick; again for what these lead to."""
        fresh: dict[Mailbox, Looked] = {}
        for _ in range(COLD_ROUNDS):
            wanted = frozenset().union(*(cold.mailboxes for _, cold in waiting))
            try:
                fresh.update(await self._routes.read(wanted))
            except Exception as error:
                self._failed(error)
                break
            waiting = [(item, cold) for item, _ in waiting if (cold := self._advance(item, fresh)) is not None]
            if not waiting:
                return
        for item, _ in waiting:
            item.fail(SOON)

    def _failed(self, error: Exception) -> None:
        self._log.info("agent failed", error=f"{type(error).__name__}: {error}", exc_info=error)

    # -- out

    def _settle(self, item: Item, outcome: Outcome) -> None:
        """Ends an item: the agent's own record, and its turn's."""
        if item.identity is not None:
            self._repeats.under_way.discard(item.identity)
        if not self._ended:
            self._tick.soon(self._record)
        self._ended.append((item, outcome))
        assert item.turn is not None
        if not item.turn.settle(item.index, outcome):
            self.late(item, outcome)

    def _record(self) -> None:
        """What has ended in this tick, counted, and a line for each in the trace."""
        ended, self._ended = self._ended, []
        for code, count in Counter([outcome.code for _, outcome in ended]).items():
            self.outcomes[code_class(code)] += count
        self._trace.write(*_lines(f"{self._clock():.3f}", ended))

    def _keep_untold(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        """(g): a batch told errorinternalproblem as a whole comes again, singly; each gets its own answer then."""
        for item, outcome in zip(items, outcomes, strict=True):
            if item.identity is not None and code_class(outcome.code) not in (REDIRECT, TEMPORARY):
                self._repeats.keep_untold(item.identity, outcome)

    def late(self, item: Item, outcome: Outcome) -> None:
        """Its peer was told 35 in the meantime."""
        if item.identity is not None and code_class(outcome.code) not in (REDIRECT, TEMPORARY):
            self._repeats.keep_untold(item.identity, outcome)

    # -- the patience of a PDU

    def _hurry(self, turn: Turn) -> None:
        self._impatient[turn] = None
        self._hurried.set()

    async def run(self) -> None:
        """Answers PDUs whose first decided item has waited PATIENCE seconds; stands still while there are none."""
        try:
            while True:
                await self._hurried.wait()
                await trio.sleep(0.25)
                self._look_at_impatient(trio.current_time())
        finally:
            self._record()

    def _look_at_impatient(self, now: float) -> None:
        for turn in list(self._impatient):
            if turn.first == 0.0:
                turn.first = now
            elif now - turn.first >= PATIENCE - 0.5:
                self._impatient.pop(turn, None)
                turn.give_up()
        if not self._impatient:
            self._hurried = trio.Event()

    @property
    def screens_struck(self) -> int:
        """How often too many waited for a screen's question."""
        return self._screens.struck

    @property
    def waiting(self) -> int:
        """Notifications taken in and not decided, for the drain."""
        return len(self._repeats.under_way) + len(self._cold)


def _tls_domain(notification: Notification) -> str | None:
    return notification.storessl.domain if notification.storessl is not None else None


def _lines(moment: str, ended: Sequence[tuple[Item, Outcome]]) -> list[str]:
    """time, key's handle, store, recipient, peer, code, note: what `trace` searches."""
    lines = []
    for item, outcome in ended:
        notification, plan, peer = item.notification, item.plan, item.peer
        store = notification.store if item.identity is None else item.identity[0]
        mark = hashlib.sha256(notification.identifier).hexdigest()[:12]
        localpart, domain = notification.recipient
        lines.append(
            f"{moment}\t{mark}\t{store}\t{localpart}@{domain}"
            f"\t{'inner' if peer.inner else peer.address}\t{outcome.code}\t{plan.note if plan is not None else ''}"
        )
    return lines
