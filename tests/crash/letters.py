"""What was taken of today's mail, where it arrived, and what must therefore be true (docs/states.md, "other mail").

Each letter is one message of the world's, its octets the same whenever it comes. `box` reads it by POP3, `out` is
beyond the smarthost, `bad` is refused there, `no` by an agent.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from .truth import Truth

BOX, OUT, BAD, NO = "box@pobox.test", "out@pobox.test", "bad@pobox.test", "no@pobox.test"
LETTERS = (BOX, OUT, BAD, NO)
BEYOND = "x@smtp.test"
REFUSED_BEYOND = "bad@smtp.test"
SENDER = "alice@smtp.test"
QUIET = 80.0
"""Seconds after which a failure that was not in time for the MTA is reported by us."""
_NUMBER = re.compile(rb"^Subject: mail (\d+)\r?$", re.MULTILINE)


class Letter:
    """taken, bounced: by recipient, when the MTA was told so. due: when the MTA tries again."""

    def __init__(self, number: int, to: tuple[str, ...], now: float) -> None:
        self.number = number
        self.to = to
        self.due = now
        self.taken: dict[str, float] = {}
        self.bounced: dict[str, float] = {}
        self.verified: set[str] = set()
        lines = b"".join(b"%d .\r\n.\r\n" % (number * line) for line in range(number % 97))
        lines *= 1 if number % 5 else 60  # too large to lie beside its row
        self.octets = b"Received: from world by mta; now\r\nSubject: mail %d\r\n\r\n%s" % (number, lines)

    @property
    def left(self) -> tuple[str, ...]:
        """Whom the MTA still owes it."""
        return tuple(to for to in self.to if to not in self.taken and to not in self.bounced)


class Letters:
    """The truth about them, beside `Truth`."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.every: dict[int, Letter] = {}
        self.uidls: dict[int, set[str]] = defaultdict(set)
        self.read: set[int] = set()
        self.closed: dict[str, int] = {}
        """UIDLs that somebody was told are done with, and in which life."""
        self.brought: dict[int, Counter[int]] = defaultdict(Counter)
        self.unheard: dict[int, Counter[int]] = defaultdict(Counter)
        """In which life the smarthost's yes was lost on its way."""
        self.reports: Counter[int] = Counter()
        self._reported_before: frozenset[int] = frozenset()
        """Letters of the epoch before whose failure was reported in it."""
        self._waits_on: set[int] = set()

    def write(self, to: tuple[str, ...]) -> Letter:
        letter = Letter(self.truth.number(), to, self.truth.control.now)
        self.every[letter.number] = letter
        return letter

    def forget(self) -> None:
        """An epoch ends. A letter that was read and not let go of waits on, and may be read in the next.

        One that was taken a moment ago, and whose report we may not yet make, belongs to the next.
        """
        self._reported_before = frozenset(self.reports)
        over = [number for number, one in self.every.items() if one.verified >= one.taken.keys()]
        self._waits_on = {number for number in over if not self.uidls[number] <= self.closed.keys()}
        for number in over:
            self.closed = {uidl: life for uidl, life in self.closed.items() if uidl not in self.uidls[number]}
            for memory in (self.every, self.uidls, self.brought, self.unheard, self.reports):
                memory.pop(number, None)
        self.read &= self.every.keys()

    # -- what the MTA was told

    def told(self, letter: Letter, to: str, code: int) -> None:
        now = self.truth.control.now
        if 200 <= code < 300:
            letter.taken[to] = now
            self.truth.checked["letters taken"] += 1
        elif 500 <= code < 600:
            letter.bounced[to] = now
            if to != NO:
                self.truth.fault("a letter to", to, "was refused with", code)
        else:
            letter.due = now + 0.2

    # -- what arrived

    def had(self, uidl: str, octets: bytes) -> None:
        """A reader got it by POP3."""
        if (found := _NUMBER.search(octets)) and int(found[1]) in self._waits_on:
            self.truth.extra["letters of the epoch before"] += 1
            return
        letter = self._of(octets)
        if letter is None:
            return
        if octets != letter.octets:
            self.truth.fault("letter", letter.number, "was read with other octets")
        self.read.add(letter.number)
        self.uidls[letter.number].add(uidl)
        self.truth.checked["letters read"] += 1
        if len(self.uidls[letter.number]) > 1:
            self.truth.fault("letter", letter.number, "waits", len(self.uidls[letter.number]), "times")

    def listed(self, uidl: str, closed: frozenset[str]) -> None:
        """closed: as it stood when he logged in."""
        if uidl in closed:
            self.truth.fault("a letter comes again after QUIT was answered in life", self.closed[uidl])

    def arrived(self, sender: str, to: str, octets: bytes, life: int, *, heard: bool) -> None:
        """The smarthost has it, over a session that began in this life. heard: its yes went out."""
        if to == SENDER and self._forgotten(octets):
            self.truth.extra["reports again"] += 1  # of the epoch before: made known there, and killed before its row
            return
        letter = self._of(octets)
        if letter is None:
            return
        if to == SENDER:
            self._reported(letter, sender)
            return
        if to != BEYOND or OUT not in letter.to:
            self.truth.fault("letter", letter.number, "came to", to)
        if octets != letter.octets:
            self.truth.fault("letter", letter.number, "came to the smarthost with other octets")
        lives = self.brought[letter.number]
        lives[life] += 1
        self.unheard[letter.number][life] += not heard
        if sum(lives.values()) > 1:
            self.truth.extra["letters brought again"] += 1
        if lives[life] > 1 + self.unheard[letter.number][life]:
            self.truth.fault("letter", letter.number, "was brought", lives[life], "times in one life")

    def _reported(self, letter: Letter, sender: str) -> None:
        self.reports[letter.number] += 1
        if sender:
            self.truth.fault("a report has the envelope sender", sender)
        if not set(letter.to) & {BAD, NO}:
            self.truth.fault("letter", letter.number, "was reported and nobody refused it")
        if set(letter.bounced) >= set(letter.to) & {BAD, NO}:
            self.truth.fault("letter", letter.number, "is reported by the MTA and by us")
        if self.reports[letter.number] > 1:
            self.truth.extra["reports again"] += 1

    def _forgotten(self, octets: bytes) -> bool:
        found = _NUMBER.search(octets)
        return found is not None and int(found[1]) in self._reported_before

    def _of(self, octets: bytes) -> Letter | None:
        found = _NUMBER.search(octets)
        letter = self.every.get(int(found[1])) if found else None
        if letter is None:
            self.truth.fault("a letter that nobody wrote", octets[:200])
        return letter

    # -- at an audit

    def open_items(self) -> list[str]:
        """What was taken and has not arrived; what the MTA still has."""
        found = [f"letter {one.number} to {one.left} is not taken" for one in self.every.values() if one.left]
        for letter in self.every.values():
            found += [f"letter {letter.number} to {letter.to}: {text}" for text in self._missing(letter)]
        return found

    def _missing(self, letter: Letter) -> Iterator[str]:
        for to, at in letter.taken.items():
            if to in letter.verified or (to in (BAD, NO) and self.truth.control.now - at < QUIET):
                continue
            if missing := self._why(letter, to):
                yield missing
            else:
                letter.verified.add(to)

    def _why(self, letter: Letter, to: str) -> str:
        if to == BOX and letter.number not in self.read:
            return "nobody has read it"
        if to == OUT and not self.brought[letter.number]:
            return "the smarthost has not got it"
        return "no report has come" if to in (BAD, NO) and not self.reports[letter.number] else ""

    @property
    def done(self) -> dict[bytes, int]:
        """By SHA-256, those that nobody needs any more: the store must have let go of them."""
        found = {}
        for letter in self.every.values():
            uidls = self.uidls[letter.number]
            if (
                not letter.left
                and letter.verified >= letter.taken.keys()
                and (BOX not in letter.to or uidls <= self.closed.keys())
            ):
                found[hashlib.sha256(letter.octets).digest()] = letter.number
        return found
