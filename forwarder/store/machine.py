"""What may become of a key: protocol 4 as a table. Pure; storage applies it inside its transactions.

* A key is live until it is un-pinned, cancelled, handed on to children, or its lifetime ends; nothing wakes it again.
* A dead key takes no event. What may be told of it is "no such message", whatever it died of.
* Sending goes on from every state but silenced, and stops for good where `due` is None.
* A repeat of what was taken waits 24 h at least; failures wait 5 min, doubling to 24 h. Times are Unix seconds.
* The read status never falls.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple

from forwarder.model import Mailbox

DAY = 86400
WEEK = 7 * DAY
FIRST_RETRY = 300
REPEAT_SPREAD = 0.1
MAX_DEPTH = 5
MAX_TARGETS = 10
MAX_FAMILY = 50


class Told(IntEnum):
    """NotificationStatus, as Track shows it."""

    unprocessed = 0
    baddomain = 1
    noservice = 2
    noserver = 3
    protocolerror = 4
    nouser = 5
    notifying = 6
    silenced = 7


class Read(IntEnum):
    """ReadStatus: the most that was served of the message for this key."""

    unread = 0
    summarised = 1
    readheaders = 2
    readall = 3


class Life(IntEnum):
    """Whether the key opens anything. handed_on: its children do, it stays the originator's handle."""

    live = 0
    handed_on = 1
    unpinned = 2
    cancelled = 3
    expired = 4


class Event(StrEnum):
    """What happens to a key. The first ten end an attempt to notify."""

    taken = "taken"
    handed_on = "handed_on"
    unfollowed = "unfollowed"
    temporary = "temporary"
    nouser = "nouser"
    refused = "refused"
    baddomain = "baddomain"
    noservice = "noservice"
    noserver = "noserver"
    badanswer = "badanswer"
    silence = "silence"
    retrieve = "retrieve"
    unpin = "unpin"
    cancel = "cancel"
    lifetime_end = "lifetime_end"


class When(Enum):
    """The next attempt."""

    unchanged = "as it was"
    never = "none"
    at_once = "now"
    repeat = "24 h and up to a tenth more, or the promise of the agent, at most 7 days"
    asked = "what the agent asked (24 h where it did not), and no sooner than a failure"
    backing_off = "5 min, doubling to 24 h"
    tomorrow = "24 h"


class Move(NamedTuple):
    """A row of the table. None = unchanged."""

    frm: frozenset[Told]
    told: Told | None
    when: When
    life: Life | None = None


ANY = frozenset(Told)
SENDING = ANY - {Told.silenced}

TABLE: Mapping[Event, Move] = {
    # event                   from      told                 next attempt      life
    Event.taken: Move(SENDING, Told.notifying, When.repeat),
    Event.handed_on: Move(SENDING, Told.notifying, When.never, Life.handed_on),
    Event.unfollowed: Move(SENDING, None, When.at_once),
    Event.temporary: Move(SENDING, None, When.asked),
    Event.nouser: Move(SENDING, Told.nouser, When.never),
    Event.refused: Move(SENDING, Told.protocolerror, When.never),
    Event.baddomain: Move(SENDING, Told.baddomain, When.tomorrow),
    Event.noservice: Move(SENDING, Told.noservice, When.backing_off),
    Event.noserver: Move(SENDING, Told.noserver, When.backing_off),
    Event.badanswer: Move(SENDING, Told.protocolerror, When.backing_off),
    Event.silence: Move(ANY, Told.silenced, When.never),
    Event.retrieve: Move(ANY, None, When.unchanged),
    Event.unpin: Move(ANY, Told.silenced, When.never, Life.unpinned),
    Event.cancel: Move(ANY, None, When.never, Life.cancelled),
    Event.lifetime_end: Move(ANY, None, When.never, Life.expired),
}
_FAILING = frozenset({When.asked, When.backing_off, When.tomorrow})


class State(NamedTuple):
    """Where a key stands. due: the next attempt to notify; follow: redirects are still offered to be followed."""

    told: Told = Told.unprocessed
    life: Life = Life.live
    read: Read = Read.unread
    due: int | None = None
    failures: int = 0
    lastcode: int | None = None
    follow: bool = True


def step(
    state: State,
    event: Event,
    now: int,
    *,
    wait: int | None = None,
    code: int | None = None,
    jitter: float = 0.0,
    read: Read = Read.unread,
) -> State | None:
    """The state after an event; None: it does not apply (the key is dead, or nobody is to be told any more).

    wait: seconds that the agent asked or promised. code: the outcome's. jitter: 0 to 1. read: the view served.
    """
    move = TABLE[event]
    if state.life is not Life.live or state.told not in move.frm:
        return None
    return State(
        told=state.told if move.told is None else move.told,
        life=state.life if move.life is None else move.life,
        read=max(state.read, read),
        due=_next_attempt(move.when, state, now, wait, jitter),
        failures=_failures(move.when, state),
        lastcode=state.lastcode if code is None else code,
        follow=state.follow and event is not Event.unfollowed,
    )


def _failures(when: When, state: State) -> int:
    if when in _FAILING:
        return state.failures + 1
    return 0 if when is When.repeat else state.failures


def _next_attempt(when: When, state: State, now: int, wait: int | None, jitter: float) -> int | None:
    back_off = min(FIRST_RETRY << min(state.failures, 16), DAY)
    match when:
        case When.unchanged:
            return state.due
        case When.never:
            return None
        case When.at_once:
            return now
        case When.repeat:
            return now + max(int(DAY * (1 + REPEAT_SPREAD * jitter)), min(wait or 0, WEEK))
        case When.asked:
            return now + max(min(DAY if wait is None else wait, WEEK), back_off)
        case When.backing_off:
            return now + back_off
        case When.tomorrow:
            return now + DAY


def may_hand_on(targets: Sequence[Mailbox], family: Collection[Mailbox], depth: int) -> bool:
    """Whether a key at this depth may be handed on to these targets (5.2). family: whoever had a key under its handle.

    A ring, too many, too deep: then not at all, and the agent is told to use its fallback.
    """
    folded = {target.folded for target in targets}
    fits = 0 < len(targets) <= MAX_TARGETS and len(family) + len(targets) <= MAX_FAMILY
    return fits and depth < MAX_DEPTH and len(folded) == len(targets) and folded.isdisjoint(family)


class Delivery(NamedTuple):
    """What Track says of a handle: DeliveryStatus."""

    told: Told
    read: Read
    pinned: bool
    redirectedto: tuple[Mailbox, ...] = ()
    lastcode: int | None = None


_BEST = (
    Told.silenced,
    Told.notifying,
    Told.unprocessed,
    Told.noserver,
    Told.noservice,
    Told.baddomain,
    Told.protocolerror,
    Told.nouser,
)


def fold(handle: State, children: Sequence[tuple[Mailbox, State]]) -> Delivery:
    """The handle as its originator sees it: its children's most read, any pin, the best notify state (protocol 4).

    A handle that was not handed on (its agent keeps the message and named copies, code 3) counts beside them.
    """
    last = [(mailbox, state) for mailbox, state in children if state.life is not Life.handed_on]
    if not last:
        return Delivery(handle.told, handle.read, handle.life is Life.live, (), handle.lastcode)
    states = [state for _, state in last] + ([handle] if handle.life is not Life.handed_on else [])
    best = min((state.told for state in states), key=_BEST.index)
    ended = all(s.life is Life.live and s.due is None and s.told in (Told.nouser, Told.protocolerror) for s in states)
    codes = [state.lastcode for state in states if state.lastcode is not None]
    return Delivery(
        Told.notifying if best is Told.unprocessed else best,
        max(handle.read, *(state.read for state in states)),
        any(state.life is Life.live for state in states),
        tuple(mailbox for mailbox, _ in last),
        codes[-1] if ended and codes else None,
    )
