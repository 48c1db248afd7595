"""The contract's part for bridges to other mail: services, carriers, and narrow doors to what the daemon already is.

A bridge is nothing new in this house (docs/bridges.md): what comes in is submitted by an account of our own store, what
goes out is carried to targets without an agent, who reads is a reader. Services run beside the daemon's own; carriers
stand behind the locator. Whatever they are told is done is on the disk.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol

import trio

from forwarder.model import Mailbox, Notification, Outcome, Peer
from forwarder.plugin import O, Objection, Options, Ports, hookspec

# -- doors


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store would be told of a mailbox: a code of protocol 5.0. moved: where it is now (class 1).

    senders: the accounts that may send as this mailbox, its owner first. ours: whether its domain is hosted here.
    """

    code: int
    text: str = ""
    moved: tuple[Mailbox, ...] = ()
    senders: tuple[str, ...] = ()
    ours: bool = True


Look = Callable[[Mailbox], Awaitable[Answer]]
"""The route look-up that `why` shows; nothing is sent. Raises PeerError where we do not know (a broken file)."""

Verify = Callable[[str, str, str], Awaitable[bool]]
"""Whether this account with this password may originate, who asks from this address. Raises PeerError: not known."""


class Spool(Protocol):
    """A message on its way in: on our disk, in no table yet. Gone unless submitted."""

    async def write(self, octets: bytes, /) -> None:
        """Raises OSError."""
        ...

    async def abort(self) -> None: ...

    async def head(self, octets: int, /) -> bytes:
        """What it begins with. Raises OSError."""
        ...

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> bytes:
        """Of the octets so far."""
        ...


@dataclass(frozen=True, slots=True)
class Submission:
    """A message for our store, from an account of ours, that came by another way than MSOAP.

    returns: the envelope sender, "" = null, told of what fails later. once: for each recipient what makes this very
    delivery the same when it comes again, remembered for six days. wait: how long the outcomes may be waited for.
    redirects: whether our store follows "not here, there" by itself; else the address's fallback is asked.
    """

    account: str
    to: tuple[Mailbox, ...]
    spool: Spool
    returns: str
    once: tuple[bytes, ...]
    lifetime: timedelta
    wait: timedelta = timedelta(0)
    redirects: bool = False


class SubmissionRefused(Exception):  # an answer, not a fault
    """Nothing was taken. why: "quota", "limit" (of the day), "account" (none such, or it may not originate)."""

    def __init__(self, why: Literal["quota", "limit", "account"]) -> None:
        super().__init__(why)
        self.why = why


Submit = Callable[[Submission], Awaitable[Sequence[Outcome]]]
"""MSOAP in process: for each recipient the outcome known after COMMIT and `wait`; class 3, 33 (full), 35 (busy) =
withdrawn again, all else is ours. Raises SubmissionRefused, OSError."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A submitted message that ended without being read, to be reported to its envelope sender."""

    number: int
    returns: str
    recipient: Mailbox
    code: int
    text: str
    at: datetime
    head: bytes
    """Its header section, as far as it is still here."""


class Failures(Protocol):
    """What is to be reported: durable, until it is said to be done."""

    async def due(self, limit: int = 100, /) -> Sequence[Failure]: ...

    async def done(self, number: int, /) -> None: ...

    async def wait(self) -> None:
        """Until something may have become due."""
        ...


class Gone(Exception):  # an answer, not a fault
    """errornosuchmessage: dealt with, withdrawn, expired or never there."""


class Item(NamedTuple):
    """What waits for a reader: a notification in the inbox of `mailbox` (option 1), or on its list here (option 5).

    mailbox: the address it waits at, folded. position: opaque, the reader's own.
    """

    mailbox: Mailbox
    notification: Notification
    position: bytes


class Reader(Protocol):
    """RNAQP and MSRAP in process, for one account that has logged in, at all its mailboxes or the one it named.

    (store, key, mailbox) of what waits is unique. Nothing here changes what waits but `done`.
    """

    @property
    def account(self) -> str:
        """Who logged in."""
        ...

    async def waiting(self) -> Sequence[Item]:
        """A snapshot, the oldest first; what this account may read by the files as they are now."""
        ...

    async def size(self, item: Item, /) -> int:
        """Exact octets of the message; marks nothing as read. Raises Gone, PeerError."""
        ...

    async def head(self, item: Item, /) -> bytes:
        """The header section with its empty line. Shows as "read" at the sender. Raises Gone, PeerError."""
        ...

    def body(self, item: Item, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The whole message in slices. Raises Gone, PeerError, before the first slice or between two."""
        ...

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        """One COMMIT: all cleared (in a role for everybody); an un-pin of each of `items` is owed, durably.

        gone: their stores said errornosuchmessage, nothing is owed. Raises PeerError where there was no COMMIT.
        """
        ...


class Login(Protocol):
    """Who reads. A password that may not come in clear is never asked for, so `clear` is looked at first."""

    def clear(self, peer: Peer, /) -> bool:
        """Whether a password may come from this peer on the transport it uses now (protocol 7.18)."""
        ...

    async def __call__(self, user: str, password: str, peer: Peer, /) -> Reader | None:
        """user: `account` or `account/mailbox`, as typed. None: refused, whatever the reason. PeerError: not now."""
        ...


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What the DNS surely says of a domain without an IM2000 service. null_mx: RFC 7505."""

    domain: str
    mx: tuple[str, ...] = ()
    null_mx: bool = False
    address: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """A message to be carried to targets without an agent. number: the row that owes it.

    returns: the envelope sender of a message that came from another mail system, None for a native one; local: its
    domain is hosted here.
    tries: how often it was tried for these targets. body: the whole message in slices; raises Gone, and PeerError, also
    beyond so many octets.
    """

    number: int
    notification: Notification
    to: tuple[Mailbox, ...]
    returns: str | None
    local: bool
    since: datetime
    tries: int
    body: Callable[[int], AbstractAsyncContextManager[AsyncIterator[bytes]]]


@dataclass(frozen=True, slots=True)
class Taken:
    """The other side has it. settle: how long a report that it failed is waited for before the source is un-pinned.

    text: for the trace, what had to be changed on the way.
    """

    settle: timedelta = timedelta(0)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: once more at that time. text: why, for the log and the trace."""

    at: datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class Never:
    """A permanent no: a code of class 3. text: why, for the log and the trace."""

    code: int = 49
    text: str = ""


Carried = Taken | Later | Never
Carry = Callable[[Load], Awaitable[Mapping[Mailbox, Carried]]]
"""At least once. A target that is not in the answer is tried later, as after PeerError."""


class Failed(NamedTuple):
    """What became of a report. known: it ended a target that had been carried and was not yet believed to have arrived.

    returns: the envelope sender that the message came with, if it came by other mail. named: the row has the target
    that was asked for, whatever became of it before: no other can be meant.
    """

    known: bool
    returns: str | None
    named: bool = False


CarryFailed = Callable[[int, Mailbox | None, Never], Awaitable[Failed]]
"""A report says that what was taken has failed: the row's number, and the target (None: the only one it can mean)."""


def none(options: Options, path: Callable[[str], Path], /) -> Sequence[Objection]:
    """Nothing is wrong but what its form shows."""
    return ()


def no_doubts(options: Options, /) -> Sequence[Objection]:
    """There is nothing to warn of."""
    return ()


async def unasked(options: Options, node: str, /) -> Sequence[Objection]:
    """There is nobody to ask."""
    return ()


def nobody(options: Options, hosted: Collection[str], /) -> Mapping[tuple[str, ...], str]:
    """No account of ours is needed."""
    return {}


def nowhere(options: Options, /) -> Mapping[tuple[str, ...], str]:
    """No domain of ours is named."""
    return {}


@dataclass(frozen=True, slots=True)
class CarrierSpec(Generic[O]):
    """A way to targets without an agent. table: of the node file, given whole as options.

    takes: whether it can reach a domain; never asked of hosted ones. offered: whether the options switch it on.
    """

    name: str
    table: str
    options: type[O]
    offered: Callable[[O], bool]
    takes: Callable[[DomainFacts], bool]
    via: Callable[[O], str]
    """As `why` shows it: "127.0.0.1:10025"."""
    make: Callable[[O, Ports], Carry]
    objections: Callable[[O, Callable[[str], Path]], Sequence[Objection]] = none
    """What is wrong with a table but its form: a file that is missing. Keys under the table; paths as Ports.path."""
    ask: Callable[[O, str], Awaitable[Sequence[Objection]]] = unasked
    """What the other side says now that does not fit the table, for `check --network`. str: the node's name."""


@dataclass(frozen=True, slots=True)
class ServicePorts(Ports):
    """What a service may have beside the ports of all plugins.

    room: octets that are free where messages are kept.
    tls: the server's context for a new session, by SNI; None where no certificate is configured. clear_login: whether
    a password may come in clear from this address.
    """

    look: Look = field(kw_only=True)
    verify: Verify = field(kw_only=True)
    login: Login = field(kw_only=True)
    spool: Callable[[], Spool] = field(kw_only=True)
    room: Callable[[], int] = field(kw_only=True)
    submit: Submit = field(kw_only=True)
    failures: Failures = field(kw_only=True)
    carry_failed: CarryFailed = field(kw_only=True)
    tls: Callable[[], ssl.SSLContext] | None = field(kw_only=True)
    clear_login: Callable[[str], bool] = field(kw_only=True)


class Service(Protocol):
    """Something that listens, or works on its own. Restarted with back-off; cancelled at the end of the drain."""

    async def run(self, ready: Callable[[], None], /) -> None: ...

    def drain(self) -> None:
        """Nothing new from now on; `run` returns when what is under way has ended."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceSpec(Generic[O]):
    """A service on offer. name: its key under `[listen]`; the daemon binds, also `unix:PATH`.

    table: of the node file, given whole as options. always: it listens nowhere, `[listen]` does not know it, and runs
    if its table is there or a service that reads this table listens.
    """

    name: str
    table: str
    options: type[O]
    make: Callable[[O, ServicePorts, Sequence[trio.SocketListener]], Service]
    always: bool = False
    objections: Callable[[O, Callable[[str], Path]], Sequence[Objection]] = none
    accounts: Callable[[O, Collection[str]], Mapping[tuple[str, ...], str]] = nobody
    """Accounts that must be there and may originate, by the key under the table that names each."""
    domains: Callable[[O], Mapping[tuple[str, ...], str]] = nowhere
    """Domains that must be hosted here, by the same."""
    inner: bool = False
    """Whoever reaches it is believed: no port of the world's."""
    doubts: Callable[[O], Sequence[Objection]] = no_doubts
    """What `check` warns of, and what works all the same."""


@hookspec
def forwarder_services() -> Sequence[ServiceSpec[Any]]:
    """The services this plugin offers. Called once, at start-up."""
    raise AssertionError("a declaration, never called")


@hookspec
def forwarder_carriers() -> Sequence[CarrierSpec[Any]]:
    """The carriers this plugin offers. Called once, at start-up."""
    raise AssertionError("a declaration, never called")
