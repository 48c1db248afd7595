"""Who hears of open items when the members of an address change: `members = "live"` (operator 2).

* Looked at after an address file changed, and at start: each mailbox with items of the last 7 days, and each address
  with copies in our store. Compared is what its strategy would do today with what is open.
* A new member hears of what its store still has. A removed one is notified and repeated no more; whoever holds a key
  may still un-pin. A choice among the members (sticky, or fewer than all) is no change of members.
* Frozen, at rest, broken, unknown or served by another entry now: open items stay as they were accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import trio

from forwarder.agent.courier import Courier
from forwarder.agent.decide import Decider, at_rest
from forwarder.agent.owed import REPEATS_END, Owed
from forwarder.agent.routes import Cold, Entry, Expansion, Leg, Routes
from forwarder.model import Mailbox, Notification, Peer
from forwarder.plugin import Case, Log, PeerError, Plan, Pull, Resend
from forwarder.ports import Addresses, Answer, Clock, CopyMembers, Debt, Gone, Ledger, Sources
from forwarder.ports.setbacks import Setback
from forwarder.wire.notification import MalformedPDU, decode_notification

SETTLE = 1.0
"""Seconds from a change to the look: what was decided by the old file has its row by then; changes come in heaps."""
EVERY = 60.0
"""Seconds between two looks at whether somebody has seen a changed file."""
PAGE = 500
ROUNDS = 16
AT_ONCE = 8
"""Stores asked at the same time whether they still have a message."""

T = TypeVar("T")

OURSELVES = Peer("127.0.0.1", inner=True)
Answers = dict[Mailbox, Answer]


class Members:
    """`run` is its task, `again` wakes it."""

    def __init__(
        self,
        routes: Routes,
        decider: Decider,
        courier: Courier,
        ledger: Ledger,
        copies: CopyMembers,
        sources: Sources,
        addresses: Addresses,
        clock: Clock,
        log: Log,
    ) -> None:
        self._routes = routes
        self._decider = decider
        self._courier = courier
        self._ledger = ledger
        self._copies = copies
        self._sources = sources
        self._addresses = addresses
        self._clock = clock
        self._log = log
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._wanted = trio.Event()
        self._known: dict[tuple[str, Mailbox], object] = {}
        self._looked = 0.0
        self.setback = Setback()

    def again(self) -> None:
        """An address file has changed."""
        self._wanted.set()

    def pulled(self, address: Mailbox, accepted: int) -> None:
        """A copy was kept for an order accepted then: its members may be those of an older file."""
        if accepted <= self._looked + SETTLE:
            self._known.pop(("copies", address.folded), None)
            self.again()

    async def run(self) -> None:
        """Ends with its cancellation."""
        while True:
            generation, self._wanted = self._addresses.generation, trio.Event()
            try:
                await self.look()
                self.setback.over()
            except Exception as error:  # the disk, or a bug
                pause = self.setback.pause(error)
                self._log.info("members not looked at", error=f"{type(error).__name__}: {error}", again_in=pause)
                await trio.sleep(pause)
                continue
            while generation == self._addresses.generation and not self._wanted.is_set():
                with trio.move_on_after(EVERY):
                    await self._wanted.wait()
            await trio.sleep(SETTLE)

    async def look(self) -> None:
        """All open items once."""
        self._looked = self._clock()
        since = int(self._looked - REPEATS_END)
        known = self._known
        self._known = {}
        for mailboxes in _pages(await self._ledger.recipients(since)):
            fresh: Answers = dict(await self._routes.read(frozenset(mailboxes)))
            for mailbox in mailboxes:
                await self._resends(mailbox, since, fresh, known.get(("debts", mailbox)))
        for copies in _pages(await self._copies.held()):
            fresh = dict(await self._routes.read(frozenset(address for address, _ in copies)))
            for address, source in copies:
                await self._pulls(address, source, fresh, known.get(("copies", address)))

    def _entry(self, mailbox: Mailbox, fresh: Answers) -> Entry | None:
        """Whoever acts for it now, if he lets members come and go."""
        entry = self._routes.entry(mailbox, fresh)
        if not isinstance(entry, Entry) or entry.route.members == "frozen":
            return None
        return entry if at_rest(entry.route, self._now) is None else None

    def _plan(self, entry: Entry, notification: Notification) -> Plan:
        case = Case(notification, entry.route, OURSELVES, self._now, (), entry.memory)
        return self._decider.decide(entry, case).plan

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    # -- one shared key: what is owed

    async def _resends(self, mailbox: Mailbox, since: int, fresh: Answers, known: object) -> None:
        entry = self._entry(mailbox, fresh)
        legs = await self._legs(entry, fresh) if entry else ()
        if not entry or not legs:
            return
        self._known["debts", mailbox] = signature = (entry.route.strategy, frozenset(leg.mailbox for leg in legs))
        if signature == known:
            return
        after = 0
        while debts := await self._ledger.debts_for(mailbox, since, after, PAGE):
            async with trio.open_nursery() as nursery:
                for debt in debts:
                    notification = _notification(debt.octets)
                    if debt.entry == entry.route.entry and notification and self._to_all(entry, notification):
                        nursery.start_soon(self._debt, debt, notification, legs)
            after = debts[-1].number

    async def _legs(self, entry: Entry, fresh: Answers) -> Sequence[Leg]:
        """All its members as they are reached now."""
        for _ in range(ROUNDS):
            expansion: Expansion | Cold = self._routes.expand(entry, entry.route.to, fresh, self._clock())
            if isinstance(expansion, Expansion):
                return expansion.legs
            fresh.update(await self._routes.read(expansion.mailboxes))
        return ()

    def _to_all(self, entry: Entry, notification: Notification) -> bool:
        resends = [step for step in self._plan(entry, notification).steps if isinstance(step, Resend)]
        return len(resends) == 1 and not resends[0].sticky and set(resends[0].to) == set(entry.route.to)

    async def _debt(self, debt: Debt, notification: Notification, legs: Sequence[Leg]) -> None:
        gone = False
        if Owed.unpack(debt, notification).strangers(legs):
            async with self._limiter:
                gone = await self._is_gone(notification)
        if not self._courier.holds(debt.number):
            debt = await self._ledger.debt(debt.number) or debt
        changed = self._courier.change_members(debt, notification, legs, gone=gone)
        if changed.joined or changed.left:
            counts = {"joined": changed.joined, "left": changed.left}
            self._log.info("members changed", entry=debt.entry, debt=debt.number, **counts)

    async def _is_gone(self, notification: Notification) -> bool:
        """Un-pinned or withdrawn. A store that cannot be asked may have it."""
        try:
            await self._sources.look(notification)
        except Gone:
            return True
        except PeerError:
            return False
        return False

    # -- keys of our own: copies

    async def _pulls(self, address: Mailbox, source: bytes, fresh: Answers, known: object) -> None:
        entry = self._entry(address, fresh)
        notification = _notification(source)
        if not entry or entry.route.kind == "person" or not notification:
            return
        pulls = [step for step in self._plan(entry, notification).steps if isinstance(step, Pull)]
        if len(pulls) != 1:
            return
        to, readers = pulls[0].to, pulls[0].readers
        self._known["copies", address] = signature = (frozenset(to), frozenset(readers))
        if signature == known:
            return
        joined, left = await self._copies.change_members(address, entry.route.entry, to, readers)
        if joined or left:
            self._log.info("members changed", entry=entry.route.entry, joined=joined, left=left)


def _pages(everything: Sequence[T]) -> Iterator[Sequence[T]]:
    return (everything[at : at + PAGE] for at in range(0, len(everything), PAGE))


def _notification(octets: bytes) -> Notification | None:
    try:
        return decode_notification(octets)
    except MalformedPDU:
        return None
