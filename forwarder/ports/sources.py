"""The stores of others, as their readers see them: what a notification names is looked at, fetched, silenced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from forwarder.bridges import Gone
from forwarder.model import ContentDigest, Notification

__all__ = ["BodySize", "Gone", "Sources"]


class BodySize(NamedTuple):
    """What a store says of a message without marking it read."""

    size: int | None
    digest: ContentDigest | None
    expires: int | None


class Sources(Protocol):
    """The stores that notifications name, as their reader sees them. All raise Gone, PeerError."""

    async def look(self, notification: Notification) -> BodySize:
        """QuerySize, for peers without it Retrieve(nothing). Never changes the read status."""
        ...

    async def head(self, notification: Notification, limit: int) -> bytes: ...

    def body(self, notification: Notification, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Slices of the `all` view; PeerError beyond `limit` octets."""
        ...

    async def silence(self, notification: Notification) -> None: ...

    async def unpin(self, notification: Notification) -> None: ...
