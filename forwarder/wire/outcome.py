"""Codes and what they mean to peers of 2004 and of today (protocol 5.0)."""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.model import Outcome

ACCEPTED, DUPLICATE, HELD, MOVED = 0, 1, 2, 3
REDIRECTED = 16
DEFERRED, OVERQUOTA, UNVERIFIED, BUSY = 32, 33, 34, 35
NOUSER, REFUSED, LOOP, BADSIGNATURE, TOOMANYHOPS, EXPIRED = 48, 49, 50, 51, 52, 53


def code_class(code: int) -> int:
    """0 taken, 1 redirect, 2 temporary, 3 permanent; 64 and over = 2."""
    raise NotImplementedError


def legacy_error(outcomes: Sequence[Outcome], *, shared: bool = False) -> bool:
    """Whether a peer of 2004 is told errorinternalproblem for this batch (else noerror): the table of 5.0."""
    raise NotImplementedError


def from_target(outcome: Outcome) -> Outcome:
    """What a stateless forward answers when its one target answered so (the table "Outcome to code")."""
    raise NotImplementedError
