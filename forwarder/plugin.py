"""The plugin contract, the stranger's view. Hooks declare, plans decide, the core performs.

A strategy's `plan(case)` is pure and never waits: equal cases give equal plans, and the plan is the very object that
`why` prints and the dispatcher performs. What takes time is `Work`, committed before the answer and performed by the
courier at least once, across restarts. `docs/plugins.md` is the way in; `forwarder.testing.check_strategy` holds a
strategy to these laws.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import pluggy
import trio
from pydantic import BaseModel, BeforeValidator, ConfigDict

from forwarder.model import Mailbox, Notification, Peer, Route, parse_duration, parse_size

hookspec = pluggy.HookspecMarker("forwarder")
hookimpl = pluggy.HookimplMarker("forwarder")


class Options(BaseModel):
    """One table of an address file; the loader adds file:line to every complaint. Unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an address file cannot keep its promise: the key at fault ("to", "kind") and what to do instead."""

    key: str
    text: str


# -- the question


class Case(NamedTuple):
    """One notification at one address. `why` makes one from --from and --size."""

    notification: Notification
    route: Route
    peer: Peer
    now: datetime
    """UTC; `why --at` turns it."""
    earlier: tuple[Mailbox, ...] = ()
    """Where this very key went before (sticky Resend)."""
    memory: Mapping[str, bytes] = MappingProxyType({})
    """Of this address and strategy, durable, at most 64 KiB."""


# -- the answer. Resend, Deposit, Pull, Work may stand together; Tell, Refuse, Defer, Decline stand alone
#    (Tell beside Deposit or Resend: kept or forwarded here and better elsewhere, code 3).


@dataclass(frozen=True, slots=True)
class Resend:
    """Option 3: the same notification to other mailboxes. One target, not sticky: nothing waits for the disk.

    chains: a target's "not here, notify these" is followed by us, one more hop (5.3 v); else it counts as refused.
    """

    to: tuple[Mailbox, ...]
    sticky: bool = False
    stateless: bool = False
    chains: bool = False


@dataclass(frozen=True, slots=True)
class Deposit:
    """Option 1: a row in the inbox that these accounts read."""

    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """Options 4 (to) and 5 (readers): fetch the message into our store; notify afresh, or hold it for readers.

    linked: one item for all, the first un-pin closes it (a role); else a pin for each (a group).
    """

    to: tuple[Mailbox, ...] = ()
    readers: tuple[str, ...] = ()
    linked: bool = False
    unpin: Literal["after_copy", "after_readers"] = "after_readers"
    max_size: int = 30 << 20
    keep: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """The plugin's own deed, committed before the answer. `at`: a timer that survives restarts.

    may: every step it may lead to; `why` prints these, and anything else is a fault of the plugin.
    """

    name: str
    payload: bytes = b""
    at: datetime | None = None
    may: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """Option 2: "not here, notify these instead". tokens: what each of `to` issued, in order, b"" where none did."""

    to: tuple[Mailbox, ...]
    permanent: bool = False
    ttl: timedelta | None = None
    tokens: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """A permanent no: a code of class 3 (protocol 5.0)."""

    code: int = 49
    text: str = ""


@dataclass(frozen=True, slots=True)
class Defer:
    """Not now: a code of class 2. The sender's store is the queue."""

    code: int = 32
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decline:
    """ "Not by me" (the store knows no redirect, say): the core plans the address's fallback."""

    why: str


Step = Resend | Deposit | Pull | Work | Tell | Refuse | Defer | Decline


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be done. note: the sentence `why` and the trace show.

    remember: seen by the next plan at once, committed with the steps; a stateless Resend does not wait for it.
    """

    steps: tuple[Step, ...]
    note: str = ""
    remember: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Again:
    """This Work wants another try."""

    at: datetime
    why: str


# -- ports, for work(), ask() and services; every call has a deadline of its own


class PeerError(Exception):
    """A peer failed; later may go better. The core turns it into Again or Defer."""


class Source(Protocol):
    """The sender's store, as a plugin may use it. Nothing here un-pins."""

    async def still_there(self, notification: Notification, /) -> bool:
        """False: dealt with, withdrawn or expired. Raises PeerError."""
        ...

    async def head(self, notification: Notification, /, limit: int = 65536) -> bytes:
        """The header section, at most `limit` octets. Shows as "read" at the sender. Raises PeerError."""
        ...

    def body(self, notification: Notification, /, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The whole message in slices; PeerError beyond `limit` octets."""
        ...


class Texts(Protocol):
    """TXT records of the DNS, remembered for their TTL; equal look-ups under way are one. At most 4 of a name."""

    def known(self, name: str, /) -> tuple[str, ...] | None:
        """From memory, at once. None: not known (any more), so `find`; a screen's `judge` then says Ask()."""
        ...

    async def find(self, name: str, /) -> tuple[str, ...]:
        """None there: (). Raises PeerError where the DNS gave no answer."""
        ...


class Log(Protocol):
    """A logger bound to the plugin's name."""

    def info(self, event: str, /, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All a plugin gets of the world. `connect` passes the address filter (host, port)."""

    source: Source
    log: Log
    now: Callable[[], datetime]
    connect: Callable[[str, int], Awaitable[trio.SocketStream]]
    texts: Texts
    node: str = ""
    """The node's name."""
    path: Callable[[str], Path] = Path
    """A file that options name: relative to the configuration folder."""
    scratch: Path = Path()
    """A folder for files that live no longer than a call; emptied at each start."""


# -- what a plugin offers


class Strategy(Protocol):
    """One for each version of an address file, dropped at any time: it keeps no state in itself."""

    def plan(self, case: Case, /) -> Plan: ...


@runtime_checkable
class Works(Protocol):
    """A strategy with deeds of its own. None: done. Called at least once for each committed Work."""

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None: ...


O = TypeVar("O", bound=Options)  # noqa: E741  # the contract's own letter for "options"


@dataclass(frozen=True, slots=True)
class StrategySpec(Generic[O]):
    """A strategy on offer. name: the word in the address file, and of its table there.

    objections: what kind, targets and readers it cannot serve; the core has no table of its own.
    records: option 6, the zone lines of an address (owner relative to the domain).
    tells: senders' stores are told the targets, so there must be agents.
    """

    name: str
    options: type[O]
    make: Callable[[Route, O, Ports], Strategy]
    objections: Callable[[Route, O], Sequence[Objection]]
    records: Callable[[Route, O], Sequence[str]] | None = None
    tells: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing against it; the score is added to the notification's."""

    score: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """Taken, code 2, hidden from readers until then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Ask:
    """ "I need the network": ask() runs with the batch's other askers, at most 100 at once."""


Verdict = Pass | Hold | Refuse | Defer


class Screen(Protocol):
    """Stands after the route: the address's own policy is known, unknown addresses cost nothing."""

    def judge(self, case: Case, /) -> Verdict | Ask: ...

    async def ask(self, case: Case, /) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class ScreenSpec(Generic[O]):
    """A screen on offer; `[plugins.NAME]` of the node file is its table."""

    name: str
    stage: Literal["lists", "signature", "callback", "greylist"]
    options: type[O]
    make: Callable[[O, Ports], Screen]
    on_error: Literal["pass", "defer"] = "defer"


@hookspec
def forwarder_strategies() -> Sequence[StrategySpec[Any]]:
    """The strategies this plugin offers. Called once, at start-up."""
    raise AssertionError("a declaration, never called")


@hookspec
def forwarder_screens() -> Sequence[ScreenSpec[Any]]:
    """The screens this plugin offers. Called once, at start-up."""
    raise AssertionError("a declaration, never called")
