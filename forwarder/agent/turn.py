"""A PDU being answered. Whoever decides an item settles it; the last one folds and answers. No task is parked.

A PDU of several items is answered at most 5 s after its first decided item: the rest get 35, their exchanges go on
and their outcomes are remembered (protocol 2, 5.0 g).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forwarder.model import Outcome
from forwarder.wire.outcome import BUSY

PATIENCE = 5.0
LATER = Outcome(BUSY, retryafter=300)


class Turn:
    """`answer` is called once, with an outcome for each item; `begun` once, when some are decided and some are not."""

    __slots__ = ("_answer", "_begun", "_missing", "answered", "first", "outcomes")

    def __init__(self, items: int, answer: Callable[[Sequence[Outcome]], None], begun: Callable[[Turn], None]) -> None:
        self.outcomes: list[Outcome | None] = [None] * items
        self._missing = items
        self._answer = answer
        self._begun: Callable[[Turn], None] | None = begun
        self.answered = False
        self.first = 0.0
        if not items:
            self._close()

    def settle(self, index: int, outcome: Outcome) -> bool:
        """False: too late, the peer has been told 35 for this item."""
        if self.answered:
            return False
        self.outcomes[index] = outcome
        self._missing -= 1
        if not self._missing:
            self._close()
        elif self._begun is not None:
            begun, self._begun = self._begun, None
            begun(self)
        return True

    def give_up(self) -> None:
        """Answers now; undecided items are told to come back."""
        if not self.answered:
            self._close()

    def _close(self) -> None:
        self.answered = True
        answer, self._answer = self._answer, _answered
        answer([outcome or LATER for outcome in self.outcomes])


def _answered(_outcomes: Sequence[Outcome]) -> None:
    """In the place of `answer` after it was called: its closure knows the turn, and a circle would be left behind."""
