"""Targets whose turn has come: at most so many are out at a time, the rest follows as answers come.

A target that answers at once comes back from within its own sending: then the loop goes on, it does not nest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

from forwarder.agent.owed import ENDED, Member, Owed

OUT_AT_ONCE = 20_000


class Turnstile:
    """send: starts one; whoever hears its answer says that it is `back`."""

    def __init__(self, send: Callable[[Owed, Member], None]) -> None:
        self._send = send
        self._ready: deque[tuple[Owed, Member]] = deque()
        self._out = 0
        self._turning = False

    def put(self, owed: Owed, members: Iterable[Member]) -> None:
        self._ready.extend((owed, member) for member in members)

    def take_away(self, members: Collection[Member]) -> None:
        """They have left."""
        self._ready = deque(pair for pair in self._ready if pair[1] not in members)

    def turn(self) -> None:
        if self._turning:
            return
        self._turning = True
        try:
            while self._ready and self._out < OUT_AT_ONCE:
                owed, member = self._ready.popleft()
                if not member.out and not owed.closed and member.status not in ENDED:
                    member.out = True
                    self._out += 1
                    self._send(owed, member)
        finally:
            self._turning = False

    def back(self, member: Member) -> None:
        member.out = False
        self._out -= 1
