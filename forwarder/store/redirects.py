"""Permanent redirects that may be remembered (protocol 5.2, 8.4): whom to notify at once in place of a mailbox.

* Only from a server that proved its name over TLS, only kind 0 with a ttl, at most a week; for one mailbox, never for
  its domain. In memory and bounded: what is forgotten is asked again.
* Revoked when one of its targets refuses for good, or all by `clear` (`forwarder reload`).
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.model import Mailbox, Redirect, RedirectKind
from forwarder.store.machine import WEEK

REMEMBERED = 10_000

Place = tuple[Mailbox, str | None]
"""A folded mailbox, and the domain that was asked for it where that is not its own."""


class Redirects:
    """By place, oldest first."""

    def __init__(self) -> None:
        self._known: dict[Place, tuple[float, tuple[Redirect, ...]]] = {}

    def learn(self, recipient: Mailbox, rna: str | None, redirects: Sequence[Redirect], now: float) -> None:
        """Nothing where one of them is not permanent."""
        times = [redirect.ttl or 0 for redirect in redirects if redirect.kind == RedirectKind.permanent]
        seconds = min(times, default=0)
        if len(times) < len(redirects) or not seconds:
            return
        place = (recipient.folded, rna)
        self._known.pop(place, None)
        while len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[place] = (now + min(seconds, WEEK), tuple(redirects))

    def find(self, recipient: Mailbox, rna: str | None, now: float) -> tuple[Redirect, ...]:
        until, redirects = self._known.get((recipient.folded, rna), (0.0, ()))
        return redirects if until > now else ()

    def revoke(self, target: Mailbox) -> None:
        """A target refused: whatever led to it is asked again."""
        for place, (_, redirects) in list(self._known.items()):
            if any(redirect.mailbox.folded == target.folded for redirect in redirects):
                del self._known[place]

    def clear(self) -> None:
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)
