"""What is on the disk before the answer: rows of what is owed, what is kept for readers, what strategies remember.

All of a tick goes to the disk in one commit; each item ends when that has told what became of its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from forwarder.agent.courier import Courier
from forwarder.agent.item import SOON, Item
from forwarder.agent.limits import Pending, PullLimit, network
from forwarder.agent.repeats import FRESH, Repeats
from forwarder.agent.tick import Tick
from forwarder.model import Endpoint, Outcome
from forwarder.plugin import Hold
from forwarder.ports import Arrival, Clock, Debt, Inbox, Ledger
from forwarder.wire.outcome import ACCEPTED, DUPLICATE, HELD, OVERQUOTA, code_class

PROMISE = 7 * 86400
FULL = 3600
"""Seconds that a store is told to wait while too many pulls wait."""


class Rows:
    """pulls: how many may wait, and whose."""

    def __init__(
        self,
        repeats: Repeats,
        courier: Courier,
        inbox: Inbox,
        ledger: Ledger,
        tick: Tick,
        clock: Clock,
        pulls: PullLimit | None = None,
    ) -> None:
        self._repeats = repeats
        self._courier = courier
        self._inbox = inbox
        self._ledger = ledger
        self._tick = tick
        self._clock = clock
        self._pulls = pulls
        self._debts: list[tuple[Debt, Item]] = []
        self._arrivals: list[tuple[Arrival, Item]] = []

    def owe(self, item: Item, debt: Debt, *, once: bool) -> None:
        """A row for it, unless one holds it already (5.0 d, e)."""
        assert item.identity is not None
        taken = self._repeats.taken(item.identity)
        if taken is None or not taken.debt:
            if debt.kind == "pull" and self._pulls is not None:
                pending, limits = _pending(debt, item), item.entry.route.limits if item.entry is not None else {}
                if limit := self._pulls.enter(pending, item.peer.address, limits):
                    item.end(Outcome(OVERQUOTA, retryafter=FULL, text=f"over the limit {limit}"))
                    return
            self._accept_soon(debt, item)
        elif final := self._courier.final(taken.debt):
            item.end(final)
        elif once:
            self._courier.told_again(taken.debt, item.end)
        elif self._clock() - taken.owed < FRESH:
            item.end(Outcome(DUPLICATE))
        else:
            self._courier.again(
                taken.debt, partial(self._owed_again, item, taken.debt), partial(self._accept_soon, debt, item)
            )

    def _owed_again(self, item: Item, number: int, outcome: Outcome) -> None:
        """Only what was acknowledged is a duplicate for the next 12 h."""
        assert item.identity is not None
        if code_class(outcome.code) == 0:
            self._repeats.saw(item.identity, number)
        item.end(outcome)

    def _accept_soon(self, debt: Debt, item: Item) -> None:
        self._debts.append((debt, item))
        if len(self._debts) == 1:
            self._tick.soon(self._accept)

    def _accept(self) -> None:
        # of several debts for one notification, the memory keeps the last: a Resend, which its repeats are for
        waiting, self._debts = sorted(self._debts, key=lambda owed: owed[0].kind == "resend"), []

        def done(result: Sequence[int] | Exception) -> None:
            if isinstance(result, Exception):
                for debt, item in waiting:
                    if debt.kind == "pull" and self._pulls is not None:
                        self._pulls.leave(_pending(debt, item))
                    item.end(SOON)
                return
            for number, (debt, item) in zip(result, waiting, strict=True):
                assert item.identity is not None
                if debt.kind == "pull" and self._pulls is not None:
                    self._pulls.accepted(number, _pending(debt, item))
                self._repeats.saw(item.identity, number)
                self._courier.take(debt._replace(number=number), item.notification, item.entry)
                item.end(Outcome(ACCEPTED))

        self._ledger.accept_soon([debt for debt, _ in waiting], done)

    def deposit(self, item: Item) -> None:
        """Kept for its readers; what waits there or was taken in the last 12 h is a duplicate (5.1)."""
        assert item.identity is not None
        assert item.entry is not None
        taken = self._repeats.taken(item.identity)
        if taken is not None and self._clock() - taken.kept < FRESH:
            item.end(Outcome(DUPLICATE))
            return
        notification = item.notification
        arrival = Arrival(
            item.entry.route.entry,
            notification.recipient,
            notification.store,
            notification.identifier,
            notification.raw,
            Endpoint(item.peer.address, item.peer.port),
            int(self._clock()),
            hidden_until=int(item.verdict.until.timestamp()) if isinstance(item.verdict, Hold) else 0,
            expires=notification.expires,
            sender=notification.sender,
            limits=item.entry.route.limits,
        )
        self._arrivals.append((arrival, item))
        if len(self._arrivals) == 1:
            self._tick.soon(self._store)

    def _store(self) -> None:
        waiting, self._arrivals = self._arrivals, []

        def done(result: Sequence[Outcome] | Exception) -> None:
            if isinstance(result, Exception):
                for _, item in waiting:
                    item.end(SOON)
                return
            for outcome, (_, item) in zip(result, waiting, strict=True):
                if code_class(outcome.code) == 0:
                    assert item.identity is not None
                    self._repeats.saw(item.identity)
                    outcome = self._kept(item, outcome)
                item.end(outcome)

        self._inbox.deposit_soon([arrival for arrival, _ in waiting], done)

    def _kept(self, item: Item, outcome: Outcome) -> Outcome:
        """What is said of a kept one. Readers who peek and clear need no daily repeat, so its store may rest (5.0)."""
        assert item.entry is not None
        if isinstance(item.verdict, Hold):
            return Outcome(HELD)
        return outcome._replace(retransmit=PROMISE) if self._inbox.promises(item.entry.route.entry) else outcome

    def remember(self, item: Item, values: Mapping[str, bytes]) -> None:
        """Seen by the next plan at once; committed with the steps."""
        assert item.entry is not None
        memory = item.entry.memory_of(item.strategy)
        for key, value in values.items():
            if value:
                memory[key] = value
            else:
                memory.pop(key, None)
        self._ledger.remember_soon(item.entry.route.entry, item.strategy, values)


def _pending(debt: Debt, item: Item) -> Pending:
    brought = "" if item.peer.inner else network(item.peer.address)
    return Pending(debt.entry, debt.store, item.notification.sender, brought)
