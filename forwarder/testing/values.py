"""Makers of values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from forwarder.model import FEATURES, Kind, Mailbox, Notification, Peer, Route, ServiceLocation, parse_mailbox
from forwarder.plugin import Case

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = bytes(range(16))
EXTENDED = FEATURES  # what a store of today says it knows


def make_notification(
    recipient: str = "brian@pobox.example",
    *,
    store: str = "store.example",
    sender: str = "toby",
    key: bytes = KEY,
    size: int | None = 1234,
    **more: Any,
) -> Notification:
    """A notification as a store sends it; more: the other fields of `Notification`. It has no octets (`raw`)."""
    return Notification(ServiceLocation(store), None, parse_mailbox(recipient), key, sender, size, **more)


def make_route(
    address: str = "brian@pobox.example",
    strategy: str = "rewrite_resend",
    *,
    to: Iterable[str] = (),
    readers: Iterable[str] = (),
    kind: Kind = "person",
    fallback: str | None = None,
    **more: Any,
) -> Route:
    """The route of an address file; more: the other fields of `Route`."""
    targets = tuple(map(parse_mailbox, to))
    mailbox = parse_mailbox(address).folded
    entry = more.pop("entry", str(mailbox))
    return Route(mailbox, entry, strategy, targets, tuple(readers), kind, fallback, **more)


def make_case(
    route: Route | None = None,
    notification: Notification | None = None,
    *,
    features: Collection[str] = (),
    inner: bool = False,
    now: datetime = NOON,
    earlier: Iterable[str | Mailbox] = (),
    memory: Mapping[str, bytes] | None = None,
) -> Case:
    """One notification at one address, from a store of 2004 unless `features` say otherwise (`EXTENDED`: of today)."""
    route = route or make_route(to=["brian@isp.example"])
    return Case(
        notification=notification or make_notification(str(route.address)),
        route=route,
        peer=Peer("192.0.2.1", 40000, features=frozenset(features), inner=inner),
        now=now,
        earlier=tuple(parse_mailbox(to) if isinstance(to, str) else to for to in earlier),
        memory=dict(memory or {}),
    )
