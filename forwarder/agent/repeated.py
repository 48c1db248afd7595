"""The store sends again what we owe: who is sent to once more is in its row before the store is told that we do.

A debt that is closed is read from its row first. What is refused stays refused, what was carried stays carried.
"""

from __future__ import annotations

from collections.abc import Callable

from forwarder.agent.errands import Errands
from forwarder.agent.finals import final
from forwarder.agent.owed import ENDED, Owed, Status
from forwarder.agent.story import Story
from forwarder.agent.turnstile import Turnstile
from forwarder.model import Outcome
from forwarder.plugin import PeerError
from forwarder.ports import Clock, Debt, Ledger
from forwarder.wire.notification import decode_notification
from forwarder.wire.outcome import ACCEPTED, DEFERRED, DUPLICATE

Ended = Callable[[Outcome], None]


class Repeated:
    """Part of the courier. owed: its open debts, by number; write: settles one of them."""

    def __init__(
        self,
        owed: dict[int, Owed],
        turnstile: Turnstile,
        ledger: Ledger,
        errands: Errands,
        story: Story,
        write: Callable[[Owed], None],
        clock: Clock,
    ) -> None:
        self._owed = owed
        self._turnstile = turnstile
        self._ledger = ledger
        self._errands = errands
        self._story = story
        self._write = write
        self._clock = clock

    def again(self, number: int, ended: Ended, lost: Callable[[], None]) -> None:
        owed = self._owed.get(number)
        if owed is not None:
            self._reopen(owed, ended)
        else:
            self._errands.soon(self._revive, number, ended, lost)

    def told_again(self, number: int, ended: Ended) -> None:
        self._errands.soon(self._tell_again, number, ended)

    async def _tell_again(self, number: int, ended: Ended) -> None:
        debt = await self._row(number, ended)
        ended(self._errands.ended(debt) if debt is not None else Outcome(DUPLICATE))

    async def _row(self, number: int, ended: Ended) -> Debt | None:
        """None: it is forgotten. Where the disk fails the repeat is answered here."""
        try:
            return await self._ledger.debt(number)
        except Exception as error:  # the disk: later may go better
            ended(Outcome(DEFERRED, retryafter=300))
            raise PeerError(f"debt {number} could not be read: {error!r}") from error

    async def _revive(self, number: int, ended: Ended, lost: Callable[[], None]) -> None:
        debt = await self._row(number, ended)
        if debt is None:
            lost()
            return
        if debt.kind != "resend":
            ended(Outcome(ACCEPTED))
            return
        try:
            owed = self._owed.get(number) or Owed.unpack(debt, decode_notification(debt.octets))
        except ValueError as error:  # what stands in it cannot be read: as good as not there
            self._story.fault(debt, error)
            lost()
            return
        self._owed[number] = owed
        if all(member.status is Status.REFUSED for member in owed.members):
            del self._owed[number]
            ended(final(owed))
            return
        self._reopen(owed, ended)

    def _reopen(self, owed: Owed, ended: Ended) -> None:
        now = self._clock()
        members = [m for m in owed.members if m.status not in ENDED and not m.out and m.promised <= now]
        for member in members:
            member.again(now)

        def reopened(error: Exception | None) -> None:
            ended(Outcome(ACCEPTED) if error is None else Outcome(DEFERRED, retryafter=300))
            self._turnstile.put(owed, [member for member in members if member in owed.members])
            self._turnstile.turn()

        if members:
            self._ledger.reopen_soon(owed.debt.number, owed.pack(), reopened)
        else:
            ended(Outcome(ACCEPTED))
            self._write(owed)
