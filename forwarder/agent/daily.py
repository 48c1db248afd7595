"""The daily repeat in the store's place, to targets that took a notification and promise nothing (protocol 5.3 i)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forwarder.agent.errands import Errands
from forwarder.agent.owed import DAILY, Member, Owed
from forwarder.agent.turnstile import Turnstile
from forwarder.plugin import PeerError
from forwarder.ports import Clock, Gone, Sources


class Daily:
    """Part of the courier. close: the store has it no more; settle: a target has a new time."""

    def __init__(
        self,
        sources: Sources,
        turnstile: Turnstile,
        errands: Errands,
        close: Callable[[Owed], None],
        settle: Callable[[Owed, Member], None],
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._turnstile = turnstile
        self._errands = errands
        self._close = close
        self._settle = settle
        self._clock = clock

    def repeat(self, owed: Owed, members: Sequence[Member]) -> None:
        self._errands.soon(self._repeat, owed, members)

    async def _repeat(self, owed: Owed, members: Sequence[Member]) -> None:
        """Only while the store still has the message."""
        try:
            await self._sources.look(owed.notification)
        except Gone:
            self._close(owed)
            return
        except PeerError:
            self._not_repeated(owed, members)
            return
        except Exception:  # a bug, or the disk of our own store: tomorrow is not too late
            self._not_repeated(owed, members)
            raise
        self._turnstile.put(owed, [member for member in members if member in owed.members])
        self._turnstile.turn()

    def _not_repeated(self, owed: Owed, members: Sequence[Member]) -> None:
        tomorrow = self._clock() + DAILY
        for member in members:
            member.due = tomorrow if tomorrow < owed.repeats_end else 0.0  # a store that nobody finds ends too
            self._settle(owed, member)
