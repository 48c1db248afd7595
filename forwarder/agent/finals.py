"""What was owed and ended in a no for good: told to its store at the next repeat (protocol 5.3 iii)."""

from __future__ import annotations

from forwarder.agent.owed import Owed
from forwarder.model import Outcome
from forwarder.wire.outcome import NOUSER, REFUSED, from_target

MOST = 100_000


class Finals:
    """By the number of its row, the latest MOST of them."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome] = {}

    def keep(self, number: int, outcome: Outcome) -> None:
        while len(self._outcomes) >= MOST:
            del self._outcomes[next(iter(self._outcomes))]
        self._outcomes[number] = outcome

    def forget(self, number: int) -> None:
        self._outcomes.pop(number, None)

    def of(self, number: int) -> Outcome | None:
        return self._outcomes.get(number)


def final(owed: Owed) -> Outcome:
    """Every target said no: the first that is more than "no such mailbox", as a stateless forward would map it."""
    code = next((member.code for member in owed.members if member.code != NOUSER), REFUSED)
    return from_target(Outcome(code))
