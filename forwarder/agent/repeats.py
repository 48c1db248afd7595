"""Repeats and loops (protocol 5.0 a to g): what is under way, what was taken, what the sender was not told.

Keyed by (store, key, current recipient). Durable rows are the memory; here they are remembered by a hash of 8
octets (Python's own: keyed anew in each process, as this memory is), read back at start, and bounded by `[limits]
remembered`, oldest first.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from forwarder.agent.limits import Struck, unheard
from forwarder.model import Mailbox, Notification, Outcome
from forwarder.plugin import Pull, Resend, Step, Work
from forwarder.ports import Clock, Sight
from forwarder.wire.outcome import LOOP, TOOMANYHOPS

FRESH = 12 * 3600
UNTOLD = 15 * 60
UNTOLD_MOST = 100_000
TOO_FAR = Outcome(TOOMANYHOPS, text="over the limit hops")

Identity = tuple[str, bytes, Mailbox]


class Taken(NamedTuple):
    """Which rows hold it, and when each was last seen taken. debt: its number, 0 = none; kept: in the inbox, 0 = not.

    Beside each other: a Deposit that failed is not done because the Work beside it was.
    """

    debt: int
    owed: int
    kept: int

    @property
    def at(self) -> int:
        return max(self.owed, self.kept)


NEVER = Taken(0, 0, 0)


class Repeats:
    """The agent's memory of what passed through it."""

    def __init__(self, name: str, secret: bytes, *, hops: int, remembered: int, clock: Clock) -> None:
        self._name = name
        self._secret = secret
        self._hops = hops
        self._most = remembered
        self._clock = clock
        self.struck: Struck = unheard
        self._taken: dict[int, Taken] = {}
        self.untold: dict[Identity, tuple[float, Outcome]] = {}
        self.under_way: set[Identity] = set()

    def mark(self, mailbox: Mailbox) -> bytes:
        """Our `rcpt` in a Hop: tells us, and nobody else, which mailbox it was (8.10)."""
        text = f"{mailbox.localpart}@{mailbox.domain}".encode()
        return hmac.digest(self._secret, text, "sha256")[:8]

    def loop(self, notification: Notification, mailbox: Mailbox) -> Outcome | None:
        """(a) and (b): more hops than there may be, or our own mark for this mailbox in the trace."""
        if hops_of(notification) > self._hops:
            return TOO_FAR
        ours = [hop.rcpt for hop in notification.trace if hop.by == self._name]
        return Outcome(LOOP) if ours and self.mark(mailbox) in ours else None

    def spent(self, notification: Notification) -> bool:
        """(a): whether it may be kept, but not rewritten once more."""
        return hops_of(notification) >= self._hops

    def was_not_told(self, identity: Identity) -> Outcome | None:
        """(g): an outcome that the sender was not told, told now."""
        until, outcome = self.untold.get(identity, (0.0, Outcome(0)))
        return outcome if until > self._clock() else None

    def keep_untold(self, identity: Identity, outcome: Outcome) -> None:
        """Bounded by number as well as by time: the oldest go first."""
        while len(self.untold) >= UNTOLD_MOST:
            del self.untold[next(iter(self.untold))]
        self.untold.pop(identity, None)
        self.untold[identity] = (self._clock() + UNTOLD, outcome)

    def taken(self, identity: Identity) -> Taken | None:
        return self._taken.get(hash(identity))

    def saw(self, identity: Identity, debt: int = 0, at: int | None = None) -> None:
        """A row holds it from now on: this debt's, or the inbox's."""
        short = hash(identity)
        before = self._taken.pop(short, NEVER)
        now = int(self._clock()) if at is None else at
        self._taken[short] = Taken(debt, now, before.kept) if debt else Taken(before.debt, before.owed, now)
        if self._most and len(self._taken) > self._most:
            del self._taken[next(iter(self._taken))]
            self.struck("remembered", "")

    def recall(self, sights: Iterable[Sight]) -> None:
        """At start: the durable rows, oldest first."""
        for sight in sights:
            self.saw((sight.store, sight.key, sight.recipient.folded), sight.debt, sight.at)

    def sweep(self, older: int) -> None:
        """Forgets what was taken before that time, and untold outcomes past their time."""
        for short in [short for short, taken in self._taken.items() if taken.at < older]:
            del self._taken[short]
        now = self._clock()
        for identity in [identity for identity, (until, _) in self.untold.items() if until <= now]:
            del self.untold[identity]

    def __len__(self) -> int:
        return len(self._taken)


def adds_a_hop(steps: Iterable[Step]) -> bool:
    """Whether it goes on from here with one hop more. To be kept for readers, or sent back with a word, takes none."""
    for step in steps:
        if type(step) is Resend or (type(step) is Pull and step.to) or (type(step) is Work and adds_a_hop(step.may)):
            return True
    return False


def hops_of(notification: Notification) -> int:
    """How many forwarders it has passed, by its counter or its trace, whichever says more."""
    trace = len(notification.trace)
    return trace if notification.hops is None else max(notification.hops, trace)
