"""What the door needs of the node: who may log in, and what waits for him. All else of the plugin imports it from here.

A `Reader` is RNAQP and MSRAP in process, for one account that has logged in. Laws:
* (store, key, mailbox) of what waits is unique; numbers and sizes are the door's affair.
* Nothing here changes what waits but `done`, and that has happened when it returns (after COMMIT).
* Every call ends in good time by itself. `Gone` and `PeerError` are answers; anything else is a fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from forwarder.model import Mailbox, Notification
from forwarder.plugin import PeerError

__all__ = ["Gone", "Item", "Login", "PeerError", "Reader"]


class Gone(Exception):  # an answer, not a fault
    """errornosuchmessage: dealt with, withdrawn, expired or never there."""


class Item(NamedTuple):
    """What waits: option 1, a notification in the inbox of `mailbox`; option 5, an entry of its list in our own store.

    mailbox: the address it waits at, folded. position: opaque, the reader's own (a cursor, a place in a list).
    """

    mailbox: Mailbox
    notification: Notification
    position: bytes


class Reader(Protocol):
    """One account's inbox items and list entries, of all its mailboxes or of the one that it named at login.

    May be asked by several at once, and for a while after its client has gone.
    """

    @property
    def account(self) -> str:
        """Who logged in; what is found out for him is remembered under this name, and told to nobody else."""
        ...

    async def waiting(self) -> Sequence[Item]:
        """A snapshot, the oldest first; what this account may read by the files as they are now."""
        ...

    async def size(self, item: Item, /) -> int:
        """Exact octets of the message (QuerySize; a peer without it: Retrieve of no octets, which marks nothing read).

        Raises Gone, PeerError.
        """
        ...

    async def head(self, item: Item, /) -> bytes:
        """The header section with its empty line. Shows as "read" at the sender. Raises Gone, PeerError."""
        ...

    def body(self, item: Item, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The whole message in slices. Raises Gone, PeerError, before the first slice or between two."""
        ...

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        """One COMMIT: all cleared (in a role for everybody); an un-pin of each of `items` is owed, durably.

        gone: their stores said errornosuchmessage, nothing is owed. Returns after COMMIT; raises where there was none.
        """
        ...


Login = Callable[[str, str, str], Awaitable[Reader | None]]
"""user (`account` or `account/mailbox`, as typed), password, the peer's address. None: refused, whatever the reason.
Raises PeerError: not now."""
