"""What is owed after the answer: to each target of a role until taken, refused or given up; pulls; plugins' work.

One row a debt, its state packed by us; settlements ride on the next commit. At start-up all that is owed is due at
once. A target that took it but promises nothing is notified again each day in the store's place, while the store still
has the message, at most seven days (protocol 5.3 i).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from forwarder.agent.carriage import Carriage
from forwarder.agent.daily import Daily
from forwarder.agent.errands import Errands
from forwarder.agent.finals import Finals, final
from forwarder.agent.item import Item
from forwarder.agent.links import Links
from forwarder.agent.marks import Marks
from forwarder.agent.owed import DAILY, Changed, Member, Owed, Retry, Status, debt_of, members_state
from forwarder.agent.repeated import Ended, Repeated
from forwarder.agent.routes import Entry, Leg
from forwarder.agent.story import Story
from forwarder.agent.timetable import Timetable
from forwarder.agent.turnstile import Turnstile
from forwarder.bridges import Carried, Later, Never, Taken
from forwarder.model import IM2000, Mailbox, Notification, Outcome
from forwarder.plugin import PeerError, Pull, Work
from forwarder.ports import ByCarrier, Clock, Debt, Ledger, NoService, Sources
from forwarder.wire.notification import MalformedPDU, decode_notification, encode_notification, original_tlv, splice
from forwarder.wire.outcome import ACCEPTED, DEFERRED, PERMANENT, REFUSED, code_class, from_target

PATIENCE = 60.0
ASKED_LEAST = 300


class Courier:
    """Open debts in memory, their next times in a heap."""

    def __init__(
        self,
        links: Links,
        ledger: Ledger,
        sources: Sources,
        errands: Errands,
        marks: Marks,
        story: Story,
        carriage: Carriage,
        retry: Retry,
        clock: Clock,
    ) -> None:
        self._carriage = carriage
        carriage.told = self._brought
        self._links = links
        self._ledger = ledger
        self._errands = errands
        self._marks = marks
        self._story = story
        self._retry = retry
        self._clock = clock
        self._owed: dict[int, Owed] = {}
        self._finals = Finals()
        self._times = Timetable(clock)
        self._times.due = self._due
        self._turnstile = Turnstile(self._send)
        self._daily = Daily(sources, self._turnstile, errands, self._close, self._settle, clock)
        self._repeated = Repeated(self._owed, self._turnstile, ledger, errands, story, self._write, clock)
        self.inner: Callable[[bytes, Ended], None] = _nobody_inside
        self.pull_ended: Callable[[int], None] = _uncounted
        self.failed: Callable[[Debt, Outcome], None] = _nobody_asks

    # -- rows for new debts

    def resend_debt(self, item: Item, legs: tuple[Leg, ...]) -> Debt:
        return debt_of(item, "resend", members_state(legs), self._clock())

    def pull_debt(self, item: Item, step: Pull) -> Debt:
        return debt_of(item, "pull", self._errands.pull_state(item, step), self._clock())

    def work_debt(self, item: Item, step: Work) -> Debt:
        return debt_of(item, "work", self._errands.work_state(item, step), self._clock())

    # -- debts under way

    def carries(self, leg: Leg) -> bool:
        """Whether the carrier that its file asks for is configured."""
        return self._carriage.has(leg.via)

    def take(self, debt: Debt, notification: Notification, entry: Entry | None = None) -> None:
        """A committed debt: everything it owes is due now. A fault in it is its own: the row stays open."""
        try:
            if debt.kind == "resend":
                self._take_resend(debt, notification, entry)
            else:
                self._errands.take(debt, notification, self._errand_ended)
        except Exception as error:
            self._story.fault(debt, error)

    def _take_resend(self, debt: Debt, notification: Notification, entry: Entry | None) -> None:
        owed = Owed.unpack(debt, notification)
        if entry is not None:
            owed.original, owed.hop = entry.original, entry.hop(self._clock(), owed.how)
        self._open(owed)

    def _open(self, owed: Owed) -> None:
        self._owed[owed.debt.number] = owed
        for member in owed.members:
            if member.status is Status.OWED:
                self._turnstile.put(owed, [member])
            elif member.status in (Status.TAKEN, Status.CARRIED) and member.due:
                self._times.at(member.due, owed.debt.number)
        if owed.at_rest:  # its last word was said, and what follows from it is still to be done
            self._write_at_tick(owed)
        self._turnstile.turn()

    async def load(self) -> None:
        """At start: whatever is open, due at once. A row that cannot be read stops no start."""
        for debt in await self._ledger.open_debts():
            try:
                notification = decode_notification(debt.octets)
            except MalformedPDU as error:
                self._story.fault(debt, error)
            else:
                self.take(debt, notification)

    # -- members that come and go

    def holds(self, number: int) -> bool:
        """Whether it is under way: then its row is behind what is here."""
        return number in self._owed

    def change_members(self, debt: Debt, notification: Notification, legs: Sequence[Leg], *, gone: bool) -> Changed:
        """A row of kind "resend", and its members as they are now. gone: its store has it no more."""
        known = self._owed.get(debt.number)
        owed = known or Owed.unpack(debt, notification)
        if gone:
            if known is not None:
                self._close(known)
            return Changed()
        joined, left = owed.change(legs)
        if not joined and not left:
            return Changed()
        self._turnstile.take_away(left)
        self._finals.forget(debt.number)
        if known is None and not joined:  # closed: only its record changes
            self._ledger.settle_soon(debt.number, owed.pack(), closed=not debt.open)
        elif known is None:
            self._ledger.settle_soon(debt.number, owed.pack(), closed=False)
            self._open(owed)
        else:
            self._turnstile.put(owed, joined)
            self._write(owed)
            self._turnstile.turn()
        return Changed(len(joined), len(left))

    def final(self, number: int) -> Outcome | None:
        """The outcome of a debt whose every target ended for good, to be told at the store's next repeat (5.3 iii)."""
        return self._finals.of(number)

    def earlier(self, number: int) -> tuple[Mailbox, ...]:
        """Where an open debt's notification went (sticky Resend). A closed one's row rules when it is sent again."""
        owed = self._owed.get(number)
        return tuple(member.mailbox for member in owed.members) if owed is not None else ()

    def again(self, number: int, ended: Ended, lost: Callable[[], None]) -> None:
        """The store's own scheduled resend, more than 12 h later: once more to all but the refused and the promised.

        lost: called where its row is no more, so that it is owed anew."""
        self._repeated.again(number, ended, lost)

    def told_again(self, number: int, ended: Ended) -> None:
        """A repeat of what is worked once ever (5.0 e): what became of it."""
        self._repeated.told_again(number, ended)

    def _send(self, owed: Owed, member: Member) -> None:
        if member.via not in ("", IM2000):
            self._carriage.put(owed, member, member.via)
            return
        leg = member.leg or self._marks.leg(member.mailbox)
        member.leg = leg
        if owed.hop is None:
            owed.original = original_tlv(owed.notification.recipient)
            owed.hop = self._marks.hop(owed.notification.recipient, owed.how)
        try:
            octets = splice(owed.notification, leg.recipient, original=owed.original, hop=owed.hop)
        except MalformedPDU:
            self._told(owed, member, Outcome(REFUSED))
            return
        if leg.leaf:
            self.inner(octets, lambda outcome: self._told(owed, member, outcome))
        else:
            deadline = trio.current_time() + PATIENCE
            self._links.offer(leg.mailbox, octets, lambda answer: self._told(owed, member, answer), deadline=deadline)

    def _told(self, owed: Owed, member: Member, answer: Outcome | PeerError) -> None:
        if isinstance(answer, ByCarrier) and member.via != IM2000 and member in owed.members:
            self._carriage.put(owed, member, answer.carrier)
            return
        self._turnstile.back(member)
        if member not in owed.members:  # he left meanwhile
            self._turnstile.turn()
            return
        now = self._clock()
        if isinstance(answer, PeerError):
            asked = 86400 if isinstance(answer, NoService) and answer.kind == "baddomain" else None
            self._failed(owed, member, Outcome(DEFERRED, retryafter=asked), now)
        elif code_class(answer.code) == 0:
            member.took(answer, now, repeat=not (member.leg and member.leg.leaf) and now < owed.repeats_end)
            self._story.told(owed.debt, str(member.mailbox), answer, "taken")
        elif code_class(answer.code) == 2:
            asked = max(answer.retryafter or 0, ASKED_LEAST)
            self._failed(owed, member, answer._replace(retryafter=asked), now)
        else:
            member.refused(from_target(answer).code)
            self._story.told(owed.debt, str(member.mailbox), answer, "refused")
        self._settle(owed, member)
        self._turnstile.turn()

    def _brought(self, owed: Owed, member: Member, answer: Carried | PeerError) -> None:
        """What a carrier says of a target. Its own times rule, not [retry]."""
        self._turnstile.back(member)
        now = self._clock()
        if member not in owed.members or owed.closed or member.status is Status.REFUSED:
            pass
        elif isinstance(answer, Taken):
            member.carried(now + max(answer.settle.total_seconds(), 0.0))
            self._story.carried(owed.debt, str(member.mailbox), answer.text)
        elif isinstance(answer, Later):
            member.tries += 1
            self._story.carried_later(owed.debt, str(member.mailbox), answer.text)
            member.due = max(answer.at.timestamp(), now + 1)
        elif isinstance(answer, Never):
            self._never(owed, member, answer)
        else:
            self._failed(owed, member, Outcome(DEFERRED), now)
        self._settle(owed, member)
        self._turnstile.turn()

    def _never(self, owed: Owed, member: Member, answer: Never) -> None:
        code = answer.code if code_class(answer.code) == PERMANENT else REFUSED
        member.refused(code)
        self._story.not_carried(owed.debt, str(member.mailbox), Outcome(code), answer.text)

    async def carry_failed(self, number: int, mailbox: Mailbox | None, answer: Never) -> bool:
        """A report of what was carried and is not yet believed to have arrived (bridges.CarryFailed).

        It may overtake the carrier's own word, which then counts no more. The answer follows COMMIT: whoever brought
        the report forgets it then. Raises what the disk says.
        """
        known = self._carry_failed(number, mailbox, answer)
        await self._ledger.settled()
        return known

    def owes(self, number: int, mailbox: Mailbox) -> bool:
        """Whether this is a target of a debt under way, whatever became of it."""
        owed = self._owed.get(number)
        return owed is not None and mailbox.folded in {member.mailbox.folded for member in owed.members}

    def _carry_failed(self, number: int, mailbox: Mailbox | None, answer: Never) -> bool:
        owed = self._owed.get(number)
        if owed is None or owed.unpinning:
            return False
        wanted = None if mailbox is None else mailbox.folded
        with_it = [m for m in owed.members if m.status is Status.CARRIED or (m.status is Status.OWED and m.out)]
        failed = [m for m in with_it if wanted in (None, m.mailbox.folded)]
        if wanted is None and len(failed) > 1:  # it could be any of them
            return False
        for member in failed:
            self._never(owed, member, answer)
        if failed:
            self._write(owed)
        return bool(failed)

    def _failed(self, owed: Owed, member: Member, outcome: Outcome, now: float) -> None:
        if member.status is Status.TAKEN:
            member.due = now + DAILY if now + DAILY < owed.repeats_end else 0.0
            return
        member.tries += 1
        member.code = outcome.code
        if now - owed.debt.accepted > self._retry.give_up:
            member.status, member.due = Status.GIVEN_UP, 0.0
            self._story.given_up(owed.debt, str(member.mailbox), outcome)
        else:
            member.due = now + self._retry.wait(member.tries, outcome.retryafter)

    def _settle(self, owed: Owed, member: Member) -> None:
        if member.due:
            self._times.at(member.due, owed.debt.number)
        self._write_at_tick(owed)

    def _close(self, owed: Owed) -> None:
        """Its store has it no more."""
        owed.closed = True
        self._write(owed)

    def _write_at_tick(self, owed: Owed) -> None:
        if not owed.dirty:
            owed.dirty = True
            self._errands.at_tick(lambda: self._write_if_dirty(owed))

    def _write_if_dirty(self, owed: Owed) -> None:
        if owed.dirty:
            self._write(owed)

    def _write(self, owed: Owed) -> None:
        """Once a tick for each row, however many of its targets answered in it."""
        owed.dirty = False
        closed = owed.closed or owed.at_rest
        if closed and owed.arrived and not owed.closed:
            if not owed.unpinning:
                self._unpin(owed)
            return
        self._ledger.settle_soon(owed.debt.number, owed.pack(), closed=closed)
        if closed:
            self._owed.pop(owed.debt.number, None)
            if all(member.status is Status.REFUSED for member in owed.members):
                self._finals.keep(owed.debt.number, final(owed))
                self.failed(owed.debt, final(owed))

    def _unpin(self, owed: Owed) -> None:
        """What is brought is done with: its row closes, and its message is un-pinned or that is owed, in one COMMIT."""
        owed.unpinning = True
        octets = owed.notification.raw or encode_notification(owed.notification)
        debt = owed.debt._replace(number=0, kind="unpin", state=b"{}", octets=octets, accepted=int(self._clock()))

        def closed(number: int | Exception | None) -> None:
            owed.unpinning = False
            if isinstance(number, Exception):  # the disk: once more in a while
                self._times.at(self._clock() + ASKED_LEAST, owed.debt.number)
                return
            owed.closed = True
            self._owed.pop(owed.debt.number, None)
            if number is None:
                self._story.told(debt, debt.kind, Outcome(ACCEPTED), "ended")
            else:
                self.take(debt._replace(number=number, open=True), owed.notification)

        self._ledger.arrived_soon(owed.debt.number, owed.pack(), debt, closed)

    def _errand_ended(self, debt: Debt, outcome: Outcome) -> None:
        self.pull_ended(debt.number)
        self._story.told(debt, debt.kind, outcome, "ended")
        if code_class(outcome.code) == 3:
            self._finals.keep(debt.number, outcome)

    # -- times

    async def run(self) -> None:
        """Waits for the next time something is due."""
        await self._times.run()

    def _due(self, number: int, now: float) -> None:
        owed = self._owed.get(number)
        if owed is None:
            return
        repeat = []
        for member in owed.members:
            if member.due and member.due <= now and not member.out:
                member.due = 0.0
                if member.status is Status.TAKEN:
                    repeat.append(member)
                elif member.status is not Status.CARRIED:
                    self._turnstile.put(owed, [member])
        if not repeat and owed.arrived:  # by all that we hear
            self._write_at_tick(owed)
        if repeat:
            self._daily.repeat(owed, repeat)
        self._turnstile.turn()

    @property
    def waiting(self) -> int:
        """Open debts, for `status`."""
        return len(self._owed) + self._errands.waiting


def _nobody_inside(octets: bytes, ended: Ended) -> None:
    raise AssertionError("the dispatcher was not wired to the courier")


def _nobody_asks(debt: Debt, outcome: Outcome) -> None:
    """Until our own store wants to hear at once that every target refused."""


def _uncounted(number: int) -> None:
    """Until somebody counts the pulls that wait."""
