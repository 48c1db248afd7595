"""What a verb raises to end with a line and a code: `No` is an answer (1), `Wrong` wrong use or configuration (2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Complaint(Exception):  # an answer to a person, not a fault
    """One or more lines for stderr, and the exit code."""

    code = 2

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines: Iterable[str] = lines


class No(Complaint):
    """The answer is "no", "not now" or "nobody there"."""

    code = 1


class Wrong(Complaint):
    """Wrong use, or wrong configuration."""

    code = 2


def one_line(text: str) -> str:
    """Text that may hold anything, fit for one line of a terminal: no control characters, no change of direction."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text.strip("\n").replace("\n", "; "))


def peel(error: BaseException) -> BaseException:
    """What a nursery wrapped, unwrapped: an interrupt wins, then the first of the rest."""
    while isinstance(error, BaseExceptionGroup):
        interrupts, _ = error.split(KeyboardInterrupt)
        error = interrupts.exceptions[0] if interrupts else error.exceptions[0]
    return error
