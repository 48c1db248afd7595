"""The core's own doors to the world: what `agent` and `store` need, said without sockets, SQL or TOML.

Callbacks named `done` are called exactly once, from the loop, never from within the call that took them.
Times are Unix seconds. Every call that waits for a peer or the disk has a deadline inside.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import trio

from forwarder.model import (
    ContentDigest,
    Endpoint,
    Mailbox,
    Notification,
    Outcome,
    Peer,
    Route,
    ServiceLocation,
)
from forwarder.plugin import Again, Case, PeerError, Plan, Strategy, Work

Clock = Callable[[], float]
ServiceName = Literal["rnasp", "msrap", "rnaqp", "msoap", "rnasps", "msraps", "rnaqps", "msoaps"]
"""A service's label (protocol 2). With the final s: over TLS only; without: over TLS where that is published."""


# -- who is here


class Found(NamedTuple):
    """An entry wins."""

    route: Route


class Nobody(NamedTuple):
    """A domain of ours, no such mailbox. tell: `unknown = "refuse"`, strangers hear so."""

    tell: bool


class NotOurs(NamedTuple):
    """Not a hosted domain."""


class Broken(NamedTuple):
    """A file that cannot be read or understood and has no last good version. Never "nobody"."""

    file: str
    line: int
    text: str


Answer = Found | Nobody | NotOurs | Broken


class Addresses(Protocol):
    """What the address files say (operator 2). A change seen bumps `generation`."""

    @property
    def generation(self) -> int: ...

    def hosted(self, domain: str) -> bool:
        """Whether mail for this domain (lower-case A-labels) is ours."""
        ...

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        """From memory, at once; None where a file has to be read or checked again: then `read`."""
        ...

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        """One thread call for all of them; keys as given."""
        ...

    async def entry(self, entry: str) -> Route | None:
        """The route of an entry by its name (`Route.entry`), from the file as it is now; None if it is gone.

        Raises PeerError while a file is broken that never was good."""
        ...


class Account(NamedTuple):
    """An account that is on. may: of "read", "originate"."""

    name: str
    may: frozenset[str]
    limits: Mapping[str, int]


class Accounts(Protocol):
    """Who may log in (operator 2, architecture 5)."""

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        """None: no such account, off, or wrong password. Backs off by client address."""
        ...

    async def find(self, name: str) -> Account | None:
        """Without a password, for sessions that logged in before: None once it is off or gone."""
        ...


class Catalogue(Protocol):
    """Reverse questions about the address files, derived from them."""

    async def read_by(self, account: str) -> Sequence[str]:
        """Entries (`Route.entry`) whose `readers` name this account. Check each against its file before use."""
        ...


# -- where others are


class Agent(NamedTuple):
    """A service of a domain: filtered literals in the order to try (RFC 2782), and the name to verify.

    tls: the server must prove `name`, the domain that was asked for. clear: tried after them without TLS, where policy
    allows that.
    """

    endpoints: tuple[Endpoint, ...]
    name: str
    tls: bool = False
    clear: tuple[Endpoint, ...] = ()

    @property
    def ways(self) -> tuple[tuple[Endpoint, bool], ...]:
        """Each endpoint in order, and whether by TLS."""
        return (*((endpoint, self.tls) for endpoint in self.endpoints), *((endpoint, False) for endpoint in self.clear))


class NoService(PeerError):
    """Nowhere to connect to. kind as NotificationStatus has it (protocol 4), or "forbidden" by the address filter.

    baddomain: NXDOMAIN. noservice: no SRV, or ".". noserver: no answer from the DNS, no address, or nothing connects.
    """

    def __init__(self, kind: Literal["baddomain", "noservice", "noserver", "forbidden"], text: str) -> None:
        super().__init__(text)
        self.kind = kind


class UserRecord(NamedTuple):
    """One target of a per-user record (protocol 5.0): to = None refuses mail."""

    to: Mailbox | None
    rna: str
    group: int
    priority: int
    permanent: bool


class Locator(Protocol):
    """SRV, static tables, per-user records; every address has passed the filter."""

    def known(self, domain: str, service: ServiceName) -> Agent | None:
        """What a look-up found and is still fresh."""
        ...

    async def find(self, domain: str, service: ServiceName) -> Agent:
        """Raises NoService."""
        ...

    async def place(self, location: ServiceLocation, service: ServiceName) -> Agent:
        """A location out of a notification: its domain looked up, or its literals where they are allowed."""
        ...

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        """Option 6: the mailbox's own records by (group, priority); none = ask the domain's SRV."""
        ...


# -- strategies, guarded


class Strategies(Protocol):
    """The installed strategies; what a plugin does wrong ends here as a Defer."""

    def make(self, name: str, route: Route) -> Strategy:
        """The strategy of this name for a route. Raises KeyError where it is not installed (or failed to load)."""
        ...

    def plan(self, strategy: Strategy, case: Case) -> Plan: ...

    async def work(self, strategy: Strategy, case: Case, work: Work) -> Plan | Again | None:
        """Raises PeerError for whatever went wrong."""
        ...


# -- speaking to agents


class Proven(Outcome):
    """An outcome whose server proved its name over TLS, or is ourselves: its redirects may be remembered (5.2)."""

    __slots__ = ()


class Results(NamedTuple):
    """An agent that knows `results`: one outcome for each notification sent, in order."""

    outcomes: tuple[Outcome, ...]


class Status2004(NamedTuple):
    """All that an agent of 2004 can say of a batch: received, or not."""

    received: bool


class Lost(NamedTuple):
    """The session ended before a proper answer: the outcome is unknown."""

    text: str


Heard = Results | Status2004 | Lost


class Sessions(Protocol):
    """Pooled client sessions of RNASP; each carries one batch and hears one answer. Never waits.

    lane: sessions of different lanes are never mixed. A batch lost on a session that had served before is
    repeated once on a new one before it counts as lost (protocol 2).
    """

    def idle(self, agent: Agent, lane: str) -> int:
        """How many sessions of this lane are ready at once."""
        ...

    def count(self, agent: Agent, lane: str) -> int:
        """How many sessions this lane has, connecting ones included."""
        ...

    def send(
        self,
        agent: Agent,
        lane: str,
        notifications: Sequence[bytes],
        done: Callable[[Heard], None],
        *,
        redirect: bool,
    ) -> None:
        """Ready TLVs, on a ready session of this lane, else on a new one. redirect: offer to follow redirects."""
        ...


class Notifier(Protocol):
    """One notification to the agent of a mailbox, by whatever way is shortest (in process if it is ours)."""

    async def notify(
        self, recipient: Mailbox, notification: bytes, *, rna: str | None = None, redirect: bool = True
    ) -> Outcome:
        """`notification` as a ready TLV. rna: the domain to ask for the service instead of the recipient's.
        redirect: whether we offer to follow redirects. Raises NoService, PeerError."""
        ...


# -- what is kept


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

    def write(self, line: str) -> None:
        """One line without its end; never waits."""
        ...


# -- bodies


class Gone(Exception):  # an answer, not a fault
    """errornosuchmessage: dealt with, withdrawn, expired or never there."""


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


class Copy(NamedTuple):
    """A pulled message as it is to be kept. store, key: the source's; lists are named by (entry, reader)."""

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

    async def keep(self, upload: Upload, copy: Copy) -> None:
        """Body, keys, list entries, debts and the memory of it, after COMMIT; nothing if it was kept before.

        Raises PeerError where the address has no room left, OSError.
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


# -- what the one PDU server serves


class Conversation(Protocol):
    """One client's session with a service: who logged in, a submission under way."""

    async def answer(self, command: Any, /) -> Any:
        """A wire command in, a wire response out. An exception becomes errorinternalproblem."""
        ...

    async def close(self) -> None:
        """The client has gone: abort what is open."""
        ...


class Service(Protocol):
    """A protocol's service. New conversations are opened by the server as clients come."""

    def open(self, peer: Peer) -> Conversation: ...
