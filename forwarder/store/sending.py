"""The store's sending: each key is notified at its time until it is silenced (protocol 4, 5.2, 5.6).

* The rows are the queue: an attempt changes nothing before its outcome is committed, so a crash only repeats it. What
  was committed a moment ago is handed over, its row not read again; the queue is looked at once a minute all the same.
* A mailbox's own DNS records come first; then the domain's agent. The machine decides when the next attempt is.
* At most AT_ONCE attempts, PER_AGENT at one domain; a slow one keeps nobody else waiting.
* Nothing due: it sleeps until something is, or until news. Clocks are set while we sleep, so never over LONGEST_SLEEP;
  a key that was taken is due long after that, so its end wakes nobody, unless others wait for its place.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import structlog
import trio

from forwarder.model import Outcome, Redirect, RedirectKind, handle
from forwarder.plugin import PeerError
from forwarder.ports import Child, Clock, Due, Locator, Messages, NoService, Notifier, Proven, UserRecord, Verdict
from forwarder.ports.setbacks import Setback
from forwarder.signature import SigningKey
from forwarder.store.letters import addressed, sender_of
from forwarder.store.machine import MAX_TARGETS, Event
from forwarder.store.redirects import Redirects
from forwarder.wire import outcome as codes

AT_ONCE = 64
PER_AGENT = 16
LONGEST_SLEEP = 600.0
LATE = 0.01
LOOK_EVERY = 60.0
"""Seconds between two looks at the queue while all that becomes due is handed over; a clock that was set has jumped
over them."""
ATTEMPT_SECONDS = 180.0
"""Look-ups, connecting and the answer have deadlines of their own; this bounds their sum."""

log = structlog.get_logger("forwarder.store")


class Sending:
    """`run` is its one task. store_of: the domain that notifications of this sender name as their store; tells_tls:
    whether they say that it serves TLS; signing: the key that signs for it now.

    redirects: what permanent ones are remembered. redirect_require_tls: others than proven ones are not followed."""

    def __init__(
        self,
        messages: Messages,
        notifier: Notifier,
        locator: Locator,
        clock: Clock,
        store_of: Callable[[str], str],
        *,
        redirects: bool = True,
        redirect_require_tls: bool = False,
        tells_tls: Callable[[str], bool] = lambda _: False,
        signing: Callable[[str], SigningKey | None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._messages = messages
        self._notifier = notifier
        self._locator = locator
        self._clock = clock
        self._store_of = store_of
        self._redirects = redirects
        self._redirect_require_tls = redirect_require_tls
        self._tells_tls = tells_tls
        self._signing = signing
        self.redirects = Redirects()
        self._jitter = jitter
        self.heard: Callable[[bytes, Verdict | None], None] = _unheard
        self._busy: dict[int, str] = {}
        self._ended: set[int] = set()
        self._freed = trio.Event()
        self._looked = -math.inf
        self._crowded = False
        """More may be due than was begun: for want of room, or of room at an agent."""
        self.setback = Setback()

    async def run(self) -> None:
        """Ends with its cancellation; what was under way is then tried again at the next start."""
        upcoming, look = None, True
        async with trio.open_nursery() as nursery:
            while True:
                news, freed = self._messages.news(), self._freed
                fresh, whole = self._messages.fresh()
                room = AT_ONCE - len(self._busy)
                if not look and whole and abs(self._clock() - self._looked) < LOOK_EVERY:
                    all_begun = self._begin(nursery, fresh)
                    self._crowded = self._crowded or not all_begun or room <= 0  # who comes then is not begun either
                else:
                    try:
                        upcoming = await self._look(nursery, room)
                    except Exception as error:  # the disk: later may go better, and nothing is lost meanwhile
                        pause = self.setback.pause(error)
                        log.exception("what is due was not read", error=repr(error), again_in=pause)
                        look = True
                        await trio.sleep(pause)
                        continue
                    self.setback.over()
                late = await _first_of(news if room > 0 else None, freed, upcoming, self._clock)
                look = late or freed.is_set() or (upcoming is not None and upcoming <= self._clock())

    async def _look(self, nursery: trio.Nursery, room: int) -> float | None:
        """Begins what is due, as far as there is room; when the next will be."""
        self._crowded = True  # who ends while the question is asked was counted as busy in it
        self._looked = self._clock()
        self._ended.clear()
        if room <= 0:
            return None
        while True:
            counts = Counter(self._busy.values())
            full = {agent for agent, count in counts.items() if count >= PER_AGENT}
            limit = room + len(self._busy)
            found, upcoming = await self._messages.due(limit, full)
            all_begun = self._begin(nursery, found)
            self._crowded = bool(full) or len(found) == limit or not all_begun
            if all_begun or len(self._busy) >= AT_ONCE:
                return upcoming  # else others may stand behind a slow agent's many

    def _begin(self, nursery: trio.Nursery, found: Sequence[Due]) -> bool:
        """Attempts at these. False: for some of them there was no room."""
        counts = Counter(self._busy.values())
        all_begun = True
        for due in found:
            agent = _agent(due)
            if due.number in self._busy or due.number in self._ended:
                continue  # what ended since the last look may not be due any more
            if len(self._busy) >= AT_ONCE or counts[agent] >= PER_AGENT:
                all_begun = False
                continue
            counts[agent] += 1
            self._busy[due.number] = agent
            nursery.start_soon(self._attend, due)
        return all_begun

    async def _attend(self, due: Due) -> None:
        taken = False
        try:
            taken = await self._attempt(due)
            self.setback.over(due.number)
        except Exception as error:  # a bug or the disk: the row stands, it is tried again, but not in a circle
            pause = self.setback.pause(error, due.number)
            log.exception("sending failed", key=handle(due.identifier), error=repr(error), again_in=pause)
            await trio.sleep(pause)
        finally:
            del self._busy[due.number]
            self._ended.add(due.number)
            if self._crowded or not taken:
                self._look_again()

    def _look_again(self) -> None:
        self._freed.set()
        self._freed = trio.Event()

    async def _attempt(self, due: Due) -> bool:
        """Whether it was taken, and is due long after LONGEST_SLEEP."""
        try:
            with trio.fail_after(ATTEMPT_SECONDS):
                verdict = await self._notify(due)
        except NoService as error:
            event = Event.noserver if error.kind == "forbidden" else Event(error.kind)
            verdict = Verdict(event, jitter=self._jitter())
            log.info("not notified", key=handle(due.identifier), why=error.kind, detail=str(error))
        except (PeerError, trio.TooSlowError) as error:
            verdict = Verdict(Event.badanswer)
            log.info("not notified", key=handle(due.identifier), why="bad answer", detail=str(error))
        self.heard(due.identifier, verdict)
        if verdict is not None:
            await self._settle(due, verdict)
        return verdict is not None and verdict.event == Event.taken

    async def _settle(self, due: Due, verdict: Verdict) -> None:
        """Until the disk has it: another attempt would tell the target once more, and the disk no better."""
        while True:
            try:
                await self._messages.settle(due.number, verdict)
            except Exception as error:
                pause = self.setback.pause(error, due.number)
                log.error("outcome not kept", key=handle(due.identifier), error=repr(error), again_in=pause)
                await trio.sleep(pause)
            else:
                return

    async def _notify(self, due: Due) -> Verdict | None:
        """None: the key was handed on."""
        rna = due.rna
        if due.rna is None and (records := await self._records(due)):
            if not any(record.to for record in records):
                return Verdict(Event.refused, code=codes.REFUSED)
            targets = await self._one_for_each_group(records)
            itself = [record for record in targets if record.to and record.to.folded == due.recipient.folded]
            if len(targets) == 1 and itself:
                rna = itself[0].rna
            elif await self._messages.hand_on(due.number, [_child(due, record) for record in targets], None):
                return None
        follow = self._redirects and due.follow
        now = self._clock()
        known = self.redirects.find(due.recipient, rna, now) if follow else ()
        if known and await self._messages.hand_on(due.number, _children(due, known), codes.REDIRECTED):
            return None
        store = self._store_of(sender_of(due))
        octets = addressed(due, store, tls=self._tells_tls(store), key=self._signing(store), at=int(now))
        outcome = await self._notifier.notify(due.recipient, octets, rna=rna, redirect=follow)
        if follow and isinstance(outcome, Proven) and _fit(outcome.redirects):
            self.redirects.learn(due.recipient, rna, outcome.redirects, self._clock())
        return await self._judge(due, outcome)

    async def _judge(self, due: Due, outcome: Outcome) -> Verdict | None:
        code = outcome.code
        match codes.code_class(code):
            case codes.TAKEN:
                copies = [r for r in outcome.redirects if r.kind == RedirectKind.copy]
                if code == codes.MOVED and copies and await self._follow(due, outcome, copies, keep=True):
                    self._look_again()  # the copies' keys are due, and the end of what was taken wakes nobody
                return Verdict(Event.taken, outcome.retransmit, code, self._jitter())
            case codes.REDIRECT:
                if due.follow and await self._follow(due, outcome, outcome.redirects):
                    return None
                return Verdict(Event.unfollowed if due.follow else Event.refused, code=code)
            case codes.PERMANENT:
                if due.depth:
                    self.redirects.revoke(due.recipient)
                return Verdict(Event.nouser if code == codes.NOUSER else Event.refused, code=code)
            case _:
                return Verdict(Event.temporary, outcome.retryafter, code)

    async def _follow(self, due: Due, said: Outcome, redirects: Sequence[Redirect], *, keep: bool = False) -> bool:
        """False: not by us (5.2), so the agent is to use its fallback. keep: copies beside what the agent took."""
        if not self._redirects or not _fit(redirects):
            return False
        if self._redirect_require_tls and not isinstance(said, Proven):
            log.info("redirect not followed", key=handle(due.identifier), why="redirect_require_tls")
            return False
        if not await self._messages.hand_on(due.number, _children(due, redirects), said.code, keep=keep):
            return False
        targets = [str(redirect.mailbox) for redirect in redirects]
        log.info("redirected", key=handle(due.identifier), to=targets, proven=isinstance(said, Proven))
        return True

    async def _records(self, due: Due) -> Sequence[UserRecord]:
        """None where the DNS gives no answer: the domain's agent is authoritative and forwards by itself (5.6)."""
        try:
            return await self._locator.records(due.recipient)
        except PeerError as error:
            log.info("no user records", key=handle(due.identifier), detail=str(error))
            return ()

    async def _one_for_each_group(self, records: Sequence[UserRecord]) -> list[UserRecord]:
        """Of each group the first, by priority, whose agent can be found; the first of all where none can."""
        chosen: dict[int, UserRecord] = {}
        reachable: set[int] = set()
        for record in sorted(records, key=lambda record: (record.group, record.priority)):
            if record.to is None or record.group in reachable:
                continue
            chosen.setdefault(record.group, record)
            try:
                await self._locator.find(record.rna, "rnasp")
            except NoService:
                continue
            chosen[record.group] = record
            reachable.add(record.group)
        return list(chosen.values())


def _unheard(key: bytes, verdict: Verdict | None) -> None:
    """Until somebody waits for how an attempt ended. None: the key was handed on."""


def _children(due: Due, redirects: Sequence[Redirect]) -> list[Child]:
    original = due.original or due.recipient
    return [Child(r.mailbox, original, r.rna.domain if r.rna else None, r.token) for r in redirects]


def _child(due: Due, record: UserRecord) -> Child:
    assert record.to is not None
    rna = None if record.rna == record.to.domain else record.rna
    return Child(record.to, due.original or due.recipient, rna)


def _agent(due: Due) -> str:
    return due.rna or due.recipient.domain


def _fit(redirects: Sequence[Redirect]) -> bool:
    """Whether a list of targets can be followed at all: some, not too many, no agent named by address."""
    return 0 < len(redirects) <= MAX_TARGETS and all(r.rna is None or r.rna.domain for r in redirects)


def sleep_until(upcoming: float | None, clock: Clock) -> float:
    """Seconds to sleep: a moment too long rather than too short, or a rounding would turn in a circle."""
    return LONGEST_SLEEP if upcoming is None else min(max(upcoming - clock(), 0.0) + LATE, LONGEST_SLEEP)


async def _first_of(news: trio.Event | None, freed: trio.Event, upcoming: float | None, clock: Clock) -> bool:
    """Until something has become due, an attempt has ended, or it is time: then true."""
    with trio.move_on_after(sleep_until(upcoming, clock)) as scope:
        async with trio.open_nursery() as nursery:
            for event in (news, freed):
                if event is not None:
                    nursery.start_soon(_end_with, event, nursery.cancel_scope)
    return scope.cancelled_caught


async def _end_with(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
