"""Our own store: keys to be notified (protocol 4), copies of others' messages and what is owed for them (5.4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol

import trio

from forwarder.model import Mailbox, Notification, Outcome
from forwarder.plugin import PeerError


class Due(NamedTuple):
    """A key of our store whose time has come to be notified.

    letter: the notification as it was written when the message came; its recipient and key are placeholders.
    original: whom it was first for, where that is another. rna: the domain to ask instead of the recipient's.
    follow: redirects are offered to be followed. depth: redirects and user records followed so far.
    """

    number: int
    identifier: bytes
    recipient: Mailbox
    letter: bytes
    original: Mailbox | None
    rna: str | None
    token: bytes | None
    follow: bool
    depth: int


class Verdict(NamedTuple):
    """How an attempt to notify ended: an event of the store's machine. wait in seconds, jitter 0 to 1."""

    event: str
    wait: int | None = None
    code: int | None = None
    jitter: float = 0.0


class Child(NamedTuple):
    """A mailbox that gets a key of its own in place of one that is handed on."""

    recipient: Mailbox
    original: Mailbox
    rna: str | None = None
    token: bytes | None = None


class Messages(Protocol):
    """The keys of our store, as its sending needs them (protocol 4)."""

    def news(self) -> trio.Event:
        """Set when something has become due or owed after this call."""
        ...

    def fresh(self) -> tuple[Sequence[Due], bool]:
        """Of what has become due since this was asked last, those that are known here; and whether that is all of it.

        They are committed, and `due` names them too.
        """
        ...

    async def due(self, limit: int, without: Collection[str]) -> tuple[Sequence[Due], float | None]:
        """Keys due by now, oldest first, none whose agent is that of a domain in `without`; and when the next is."""
        ...

    async def settle(self, number: int, verdict: Verdict) -> None:
        """After COMMIT. Nothing where the key died or was silenced meanwhile."""
        ...

    async def hand_on(self, number: int, children: Sequence[Child], code: int | None, *, keep: bool = False) -> bool:
        """The children's keys and the parent's end in one transaction; keep: the parent lives on, they get copies.

        False: depth, count or a ring forbid (5.2).
        """
        ...


class Upload(Protocol):
    """Octets on their way into the store, in a spool file: gone at `abort`, at a crash, or with its session."""

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> bytes: ...

    @property
    def claimed(self) -> Mailbox | None:
        """The one mailbox of its header's From."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises OSError where the disk is full or fails."""
        ...

    async def abort(self) -> None:
        """Harmless when it was kept or aborted before."""
        ...


class Full(PeerError):
    """An address may hold no more copies for now, or none more of this origin. limit: which one says so."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"over the limit {limit}")
        self.limit = limit


class Copy(NamedTuple):
    """A pulled message as it is to be kept. store, key, sender: the source's; lists are named by (entry, reader).

    returns: the envelope sender of what came by other mail, None for native messages: told of what fails here."""

    store: str
    key: bytes
    source: bytes
    address: Mailbox
    entry: str
    to: tuple[Mailbox, ...]
    readers: tuple[str, ...]
    linked: bool
    unpin: Literal["after_copy", "after_readers"]
    shared: bool
    letter: bytes
    expires: int
    sender: str = ""
    returns: str | None = None


class Owed(NamedTuple):
    """What we owe the store that a copy came from. source: its notification's octets."""

    number: int
    source: bytes
    silence: bool
    unpin: bool
    failures: int
    since: int


class Copies(Protocol):
    """The copies that our store holds of others' messages, and what is owed for them (protocol 5.4)."""

    def news(self) -> trio.Event: ...

    def upload(self) -> Upload: ...

    async def pulled(self, store: str, key: bytes, address: Mailbox) -> Outcome | None:
        """What became of this order before; a sight of it keeps the memory (5.0 e)."""
        ...

    async def refuse(self, store: str, key: bytes, address: Mailbox, code: int, expires: int | None) -> None:
        """Remembered as the order's outcome, after COMMIT."""
        ...

    async def copied_for(self, key: bytes) -> Mailbox | None:
        """The address whose copy this key of ours was minted for."""
        ...

    async def alike(self, address: Mailbox, sha256: bytes, seconds: int) -> int:
        """How many pulls of these very octets this address had in the last `seconds`."""
        ...

    async def full(self, address: Mailbox, store: str, sender: str, size: int) -> str | None:
        """The limit that so many octets more of this origin would pass. `keep` asks again."""
        ...

    async def keep(self, upload: Upload, copy: Copy) -> None:
        """Body, keys, list entries, debts and the memory of it, after COMMIT; nothing if it was kept before.

        Raises Full where the address has no room left, OSError.
        """
        ...

    async def owed(self, limit: int) -> tuple[Sequence[Owed], float | None]:
        """Debts due by now, and when the next is."""
        ...

    async def paid(self, number: int, *, silence: bool, unpin: bool) -> None: ...

    async def postpone(self, number: int, seconds: int) -> None: ...


class CopyMembers(Protocol):
    """Who has keys of the copies of an address."""

    async def held(self) -> Sequence[tuple[Mailbox, bytes]]:
        """Addresses with copies that somebody may still read, each with the source's notification of one of them."""
        ...

    async def change_members(
        self, address: Mailbox, entry: str, to: Collection[Mailbox], readers: Collection[str]
    ) -> tuple[int, int]:
        """Keys for who is new to the address's open copies, no more notifying of who left; how many, after COMMIT."""
        ...


class PullOrder(NamedTuple):
    """A message to be fetched into our store (options 4 and 5). shared: others hold the source's key too (5.4)."""

    notification: Notification
    entry: str
    address: Mailbox
    to: tuple[Mailbox, ...]
    readers: tuple[str, ...]
    linked: bool
    unpin: Literal["after_copy", "after_readers"]
    max_size: int
    keep: int | None
    shared: bool


class Puller(Protocol):
    """Fetches, commits body and new keys, then owes silence and un-pin to the source."""

    async def pull(self, order: PullOrder) -> Outcome:
        """After COMMIT of the copy. The same order again does nothing twice. Raises PeerError to be called again."""
        ...
