"""One notification of a PDU on its way through the agent, and how its parts fold into an outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from forwarder.agent.links import QueueFull
from forwarder.agent.repeats import Identity
from forwarder.agent.routes import Entry
from forwarder.agent.turn import Turn
from forwarder.model import Mailbox, Notification, Outcome, Peer, Redirect
from forwarder.plugin import PeerError, Plan, Verdict
from forwarder.ports import ByCarrier, NoService
from forwarder.wire.outcome import ACCEPTED, BUSY, DEFERRED, DUPLICATE, MOVED, code_class, from_target

SOON = Outcome(DEFERRED, retryafter=300)
TOMORROW = Outcome(DEFERRED, retryafter=86400)


class Item:
    """Ends once: by `end`, or when the last of its `parts` has ended (Deposit beside Resend has two).

    Passed straight on, it is itself what a link carries (`links.Outgoing`).
    """

    __slots__ = (
        "_codes",
        "_missing",
        "_settle",
        "at",
        "by_carrier",
        "deadline",
        "ended",
        "entry",
        "identity",
        "index",
        "moved",
        "notification",
        "octets",
        "peer",
        "plan",
        "since",
        "spent",
        "strategy",
        "target",
        "turn",
        "verdict",
    )

    def __init__(
        self,
        notification: Notification,
        peer: Peer,
        at: datetime,
        settle: Callable[[Item, Outcome], None],
        turn: Turn | None = None,
        index: int = 0,
    ) -> None:
        self.notification = notification
        self.peer = peer
        self.at = at
        self.entry: Entry | None = None
        self.identity: Identity | None = None
        self.plan: Plan | None = None
        self.strategy = ""  # whose plan it is: the entry's own, or its fallback
        self.verdict: Verdict | None = None
        self.spent = False  # it may be rewritten no more (5.0 a)
        self.moved: tuple[Redirect, ...] = ()
        self.turn = turn
        self.index = index
        self._settle = settle
        self.by_carrier: Callable[[Item], None] | None = None
        self.ended = False
        self._codes: list[Outcome] | None = None
        self._missing = 1

    octets: bytes
    target: Mailbox
    deadline: float
    since: float

    def split(self, parts: int) -> None:
        """It ends when that many parts have."""
        self._missing = parts

    def end(self, outcome: Outcome) -> None:
        """One part has ended (of one, unless `split`). After the last, nothing counts any more."""
        if self.ended:
            return
        if self._missing > 1 or self._codes is not None:
            self._codes = [*(self._codes or ()), outcome]
            self._missing -= 1
            if self._missing:
                return
            outcome = fold_parts(self._codes)
        self.ended = True
        self._settle(self, self._with_moved(outcome) if self.moved else outcome)

    def tell(self, answer: Outcome | PeerError, /) -> None:
        """What the agent of a single target said, or that it said nothing: its outcome is ours (5.0)."""
        if self.by_carrier is not None and isinstance(answer, ByCarrier):
            self.by_carrier(self)
            return
        self.end(from_target(answer) if isinstance(answer, Outcome) else from_failure(answer))

    def fail(self, outcome: Outcome) -> None:
        """Ends it as a whole, whatever its parts are at."""
        if not self.ended:
            self._missing, self._codes, self.moved = 1, None, ()
            self.end(outcome)

    def _with_moved(self, outcome: Outcome) -> Outcome:
        """Taken here and better elsewhere: code 3."""
        if self.moved and outcome.code in (ACCEPTED, DUPLICATE):
            return outcome._replace(code=MOVED, redirects=self.moved)
        return outcome


def fold_parts(outcomes: Sequence[Outcome]) -> Outcome:
    """Any temporary part defers the whole (what is done is remembered); then success; then a no.

    A promise not to need the store's repeats stands only where every part gave one, and for the shortest time.
    """
    for wanted in (2, 0, 1):
        if of_class := [outcome for outcome in outcomes if code_class(outcome.code) == wanted]:
            folded = min(of_class, key=lambda outcome: outcome.code)
            promises = [outcome.retransmit or 0 for outcome in outcomes]
            return folded._replace(retransmit=min(promises) or None)
    return outcomes[0]


def from_failure(error: PeerError) -> Outcome:
    """No connection, time-out, empty SRV, error status: 32, 300 s. NXDOMAIN: 32, 24 h (5.0). Our own queue: 35."""
    if isinstance(error, QueueFull):
        return Outcome(BUSY, retryafter=300, text=str(error))
    return TOMORROW if isinstance(error, NoService) and error.kind == "baddomain" else SOON
