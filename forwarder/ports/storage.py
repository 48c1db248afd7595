"""What an agent keeps: notifications for readers, debts, the trace; and which answers follow COMMIT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from forwarder.model import Endpoint, Mailbox, Outcome


class Arrival(NamedTuple):
    """A notification to be kept for an entry's readers.

    sender: the account at the store that the notification names, for the caps. limits: the entry's own, over [limits].
    """

    entry: str
    recipient: Mailbox
    store: str
    key: bytes
    octets: bytes
    submitter: Endpoint
    at: int
    hidden_until: int = 0
    expires: int | None = None
    sender: str = ""
    limits: Mapping[str, int] = MappingProxyType({})


class Waiting(NamedTuple):
    """A kept notification as its reader gets it. cursor: opaque, grows."""

    cursor: bytes
    entry: str
    recipient: Mailbox
    octets: bytes
    submitter: Endpoint
    at: int


class Sight(NamedTuple):
    """Where (store, key, recipient) was last seen taken: what the repeats memory is rebuilt from at start."""

    store: str
    key: bytes
    recipient: Mailbox
    at: int
    debt: int = 0


class Inbox(Protocol):
    """Option 1: notifications that wait for readers (protocol 5.1). All answers follow COMMIT."""

    def deposit_soon(self, arrivals: Sequence[Arrival], done: Callable[[Sequence[Outcome] | Exception], None]) -> None:
        """An Outcome each: accepted (a fresh or again visible item), or overquota by the entry's caps."""
        ...

    async def peek(
        self, account: str, entries: Sequence[str], after: bytes | None, limit: int, octets: int
    ) -> tuple[Sequence[Waiting], bool]:
        """At most `limit` items and `octets` octets after a cursor, oldest first; True: there is more."""
        ...

    async def clear(self, entries: Sequence[str], cursors: Sequence[bytes]) -> None:
        """Gone for all accounts of their entries; cursors of other entries and unknown ones are passed over."""
        ...

    async def retrieve_and_clear(
        self, account: str, entries: Sequence[str], limit: int, octets: int
    ) -> tuple[Sequence[Waiting], bool]:
        """Handed over and gone for this account alone."""
        ...

    async def sights(self, since: int) -> Sequence[Sight]: ...

    def promises(self, entry: str) -> bool:
        """Whether `retransmit` may be promised: this entry was last read by peek and clear (5.0)."""
        ...


class Debt(NamedTuple):
    """Something owed after an answer: one row. `state` is the courier's own packing; open: something is still due."""

    number: int
    kind: str
    entry: str
    recipient: Mailbox
    store: str
    key: bytes
    octets: bytes
    accepted: int
    state: bytes
    open: bool = True


class Memories(Protocol):
    """What strategies remember."""

    async def memory(self, entry: str, strategy: str) -> Mapping[str, bytes]: ...


class Ledger(Memories, Protocol):
    """What is owed, and what strategies remember. One row a debt; accepting appends, settling rides along."""

    def accept_soon(self, debts: Sequence[Debt], done: Callable[[Sequence[int] | Exception], None]) -> None:
        """Rows' numbers after COMMIT."""
        ...

    def settle_soon(self, number: int, state: bytes, *, closed: bool) -> None:
        """Written with the next commit; nobody waits."""
        ...

    def arrived_soon(
        self, number: int, state: bytes, unpin: Debt, done: Callable[[int | Exception | None], None]
    ) -> None:
        """One COMMIT: this row closes, and its message is un-pinned. `done` hears of it afterwards.

        None: it was our own store's, and is un-pinned; else the number of the row that owes the un-pin.
        """
        ...

    async def settled(self) -> None:
        """Until all that was settled before is on the disk. Raises what the disk says."""
        ...

    def reopen_soon(self, number: int, state: bytes, done: Callable[[Exception | None], None]) -> None:
        """Owes again what `state` says: seen at once, and `done` is told after COMMIT."""
        ...

    async def open_debts(self) -> Sequence[Debt]: ...

    async def debt(self, number: int) -> Debt | None: ...

    async def recipients(self, since: int) -> Sequence[Mailbox]:
        """Mailboxes that debts of kind "resend" accepted since then were for."""
        ...

    async def debts_for(self, recipient: Mailbox, since: int, after: int, limit: int) -> Sequence[Debt]:
        """Those of one of them, open or closed, in order of their numbers, from the one after `after` on."""
        ...

    async def sights(self, since: int) -> Sequence[Sight]: ...

    async def forget(self, before: int) -> int:
        """Drops closed debts accepted before then; how many."""
        ...

    def remember_soon(self, entry: str, strategy: str, values: Mapping[str, bytes]) -> None:
        """Merged into the memory; an empty value removes its key. Written with the next commit."""
        ...


class Trace(Protocol):
    """The story of each notification: append-only, written behind, may lose its last moment in a crash."""

    def write(self, *lines: str) -> None:
        """Each without its end; never waits."""
        ...
