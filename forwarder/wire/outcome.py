"""Codes and what they mean to peers of 2004 and of today (protocol 5.0)."""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.model import Outcome

ACCEPTED, DUPLICATE, HELD, MOVED = 0, 1, 2, 3
REDIRECTED = 16
DEFERRED, OVERQUOTA, UNVERIFIED, BUSY = 32, 33, 34, 35
NOUSER, REFUSED, LOOP, BADSIGNATURE, TOOMANYHOPS, EXPIRED = 48, 49, 50, 51, 52, 53

TAKEN, REDIRECT, TEMPORARY, PERMANENT = range(4)
"""The classes: code / 16."""

_UNKNOWN_CODES = 64

TEXTS = {
    DEFERRED: "try again later",
    OVERQUOTA: "the mailbox is full",
    UNVERIFIED: "not verified yet",
    BUSY: "busy with this one",
    NOUSER: "no such mailbox",
    REFUSED: "refused",
    LOOP: "loop",
    BADSIGNATURE: "bad signature",
    TOOMANYHOPS: "too many hops",
    EXPIRED: "expired",
}
"""All that a peer is told in words."""

ALL_WELL = Outcome(ACCEPTED)
_TARGET_SAYS_FINAL = {code: code for code in (LOOP, TOOMANYHOPS, EXPIRED)}


def code_class(code: int) -> int:
    """0 taken, 1 redirect, 2 temporary, 3 permanent; 64 and over = 2."""
    return code >> 4 if code < _UNKNOWN_CODES else TEMPORARY


def legacy_error(outcomes: Sequence[Outcome], *, shared: bool = False) -> bool:
    """Whether a peer of 2004 is told errorinternalproblem for this batch (else noerror): the table of 5.0.

    Noerror means taken, or dropped: the store comes back with it daily. Over quota may be dropped only where the key
    is not `shared` (another reader's Silence would end the repeats).
    """
    alone = len(outcomes) == 1
    for outcome in outcomes:
        kind = code_class(outcome.code)
        if kind == TEMPORARY and (shared or outcome.code != OVERQUOTA):
            return True
        if kind in (REDIRECT, PERMANENT) and alone:
            return True
    return False


def from_target(outcome: Outcome) -> Outcome:
    """What a stateless forward answers when its one target answered so (the table "Outcome to code").

    Of what the target said go on: a promise (`retransmit`) with what is taken, `retryafter` with what is temporary.
    Its words and redirects do not.
    """
    if outcome.code >> 4 == TAKEN:
        return ALL_WELL if outcome.retransmit is None else Outcome(ACCEPTED, retransmit=outcome.retransmit)
    if code_class(outcome.code) == TEMPORARY:
        text = TEXTS.get(outcome.code, TEXTS[DEFERRED])
        return Outcome(outcome.code, retryafter=outcome.retryafter, text=text)
    code = _TARGET_SAYS_FINAL.get(outcome.code, REFUSED)
    return Outcome(code, text=TEXTS[code])
