"""The state of one role notification: for each target what it said and when it is due again; packed into its row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from forwarder.agent.item import Item
from forwarder.agent.routes import Leg
from forwarder.model import RESENT, SHARED, Mailbox, Notification, Outcome, parse_mailbox
from forwarder.ports import Debt

DAILY = 86400.0
REPEATS_END = 7 * DAILY
PROMISE_MOST = 7 * DAILY
ASKED_MOST = 7 * DAILY


class Status(IntEnum):
    """OWED until the target took it, refused it for good, or we gave up. CARRIED: the carrier's other side took it."""

    OWED = 0
    TAKEN = 1
    REFUSED = 2
    GIVEN_UP = 3
    CARRIED = 4


ENDED = frozenset({Status.REFUSED, Status.CARRIED})
"""It got its answer: to send once more would be a second mail, or the same no."""


class Retry:
    """`[retry]`: seconds. first doubling to longest; give_up after acceptance."""

    def __init__(self, first: float, longest: float, give_up: float) -> None:
        self.first = first
        self.longest = longest
        self.give_up = give_up

    def wait(self, tries: int, asked: int | None) -> float:
        """After that many failed tries; never sooner than the peer asked, as far as a week."""
        return max(min(self.longest, self.first * 2.0 ** min(tries - 1, 30)), min(float(asked or 0), ASKED_MOST))


class Member:
    """One target. due: Unix time of its next try or repeat, or of the day from which what was carried is believed to
    have arrived; 0 = none. promised: it needs no repeat before then. via: as `Leg.via`."""

    __slots__ = ("code", "due", "leg", "mailbox", "out", "promised", "status", "tries", "via")

    def __init__(
        self,
        mailbox: Mailbox,
        status: Status = Status.OWED,
        code: int = 0,
        due: float = 0.0,
        tries: int = 0,
        promised: float = 0.0,
        via: str = "",
    ) -> None:
        self.mailbox = mailbox
        self.via = via
        self.status = status
        self.code = code
        self.due = due
        self.tries = tries
        self.promised = promised
        self.out = False
        self.leg: Leg | None = None

    def took(self, outcome: Outcome, now: float, *, repeat: bool) -> None:
        """A promise (`retransmit`, a day at least; we believe a week) spares the daily repeat while it runs."""
        self.status, self.code, self.tries = Status.TAKEN, outcome.code, 0
        promise = min(outcome.retransmit or 0, PROMISE_MOST)
        self.promised = now + promise if promise >= DAILY else 0.0
        self.due = now + DAILY if repeat and not self.promised else 0.0

    def again(self, now: float) -> None:
        """Its store has repeated it: owed, or due in the store's place, now. A crash forgets neither."""
        self.status = Status.OWED if self.status is Status.GIVEN_UP else self.status
        self.due = now

    def carried(self, believed: float) -> None:
        """believed: from when on no report of a failure is waited for any more."""
        self.status, self.code, self.due = Status.CARRIED, 0, believed

    def refused(self, code: int) -> None:
        self.status, self.code, self.due = Status.REFUSED, code, 0.0


class Changed(NamedTuple):
    """How many members came and went."""

    joined: int = 0
    left: int = 0


class Owed:
    """A debt of kind "resend" in memory."""

    __slots__ = ("closed", "debt", "dirty", "hop", "how", "members", "notification", "original", "unpinning")

    def __init__(self, debt: Debt, notification: Notification, members: list[Member]) -> None:
        self.debt = debt._replace(state=b"", octets=b"")
        self.notification = notification
        self.members = members
        self.how = SHARED if len(members) > 1 else RESENT
        self.original = b""
        self.hop: bytes | None = None
        self.dirty = False
        self.closed = False
        self.unpinning = False
        """The row that owes its un-pin is on its way to the disk."""

    @property
    def repeats_end(self) -> float:
        return self.debt.accepted + REPEATS_END

    @property
    def at_rest(self) -> bool:
        """Nothing is due, out or owed."""
        return all(not m.out and not m.due and m.status is not Status.OWED for m in self.members)

    @property
    def arrived(self) -> bool:
        """Whether its un-pin is ours to give: a carrier brought it, and nobody else has it to close (bridges.md 5)."""
        found = {member.status for member in self.members}
        return Status.CARRIED in found and found <= ENDED

    def strangers(self, legs: Sequence[Leg]) -> list[Leg]:
        """Those that are no members of it."""
        known = {member.mailbox.folded for member in self.members}
        return [leg for leg in legs if leg.mailbox.folded not in known]

    def change(self, legs: Sequence[Leg]) -> tuple[list[Member], list[Member]]:
        """These are the members from now on: who joined, owed it all, and who left. The key stays shared."""
        joined = [Member(leg.mailbox, via=leg.via) for leg in self.strangers(legs)]
        staying = {leg.mailbox.folded for leg in legs}
        left = [member for member in self.members if member.mailbox.folded not in staying]
        if joined or left:
            self.members = [member for member in self.members if member not in left] + joined
            self.how, self.hop = SHARED, None
        return joined, left

    def pack(self) -> bytes:
        rows = [
            [str(m.mailbox), int(m.status), m.code, int(m.due), m.tries, int(m.promised), *([m.via] if m.via else [])]
            for m in self.members
        ]
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, debt: Debt, notification: Notification) -> Owed:
        """From its row. A target still owed is due at once, whatever time it had."""
        members = []
        for text, status, code, due, tries, promised, *via in json.loads(debt.state):
            owed = status == Status.OWED
            due = 0.0 if owed else due
            members.append(Member(parse_mailbox(text), Status(status), code, due, tries, promised, *via))
        return cls(debt, notification, members)


def debt_of(item: Item, kind: str, state: bytes, now: float) -> Debt:
    """The row of a new debt, before it has a number. What our own store sends elsewhere has no entry."""
    notification = item.notification
    return Debt(
        0,
        kind,
        item.entry.route.entry if item.entry is not None else "",
        notification.recipient,
        notification.store,
        notification.identifier,
        notification.raw,
        int(now),
        state,
    )


def members_state(legs: tuple[Leg, ...]) -> bytes:
    """The state of a new debt: all owed."""
    rows = [[str(leg.mailbox), 0, 0, 0, 0, 0, *([leg.via] if leg.via else [])] for leg in legs]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
