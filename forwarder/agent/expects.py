"""The forwards that a mailbox expects (protocol 5.3, 8.7): a forwarded notification that is none of them is refused.

Without a list all are welcome. `original` is covered by a store's signature, so one replayed to another mailbox shows
here. What is said of itself proves little: `via` is what the last forwarder calls itself, a token is a shared secret.
"""

from __future__ import annotations

import hmac

from forwarder.model import Expect, Notification, Route


def expected(route: Route, notification: Notification) -> bool:
    """Whether the mailbox takes it: it came directly, was first for this very mailbox, or is on its list."""
    if not route.expects:
        return True
    original = notification.original
    if original is None:
        return not notification.trace and not notification.hops
    first = original.folded
    if first == notification.recipient.folded:
        return True
    return any(expect.original.folded == first and _proves(notification, expect) for expect in route.expects)


def _proves(notification: Notification, expect: Expect) -> bool:
    """By its token (a redirect, followed by the sender's store) or by its last forwarder; else its word is enough."""
    if expect.token is not None and hmac.compare_digest(notification.token or b"", expect.token):
        return True
    if expect.via is not None:
        return bool(notification.trace) and notification.trace[-1].by == expect.via
    return expect.token is None
