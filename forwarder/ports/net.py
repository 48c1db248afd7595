"""Others: where they are found, and how notifications get to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from forwarder.model import Endpoint, Mailbox, Outcome, ServiceLocation
from forwarder.plugin import PeerError

ServiceName = Literal["rnasp", "msrap", "rnaqp", "msoap", "rnasps", "msraps", "rnaqps", "msoaps"]
"""A service's label (protocol 2). With the final s: over TLS only; without: over TLS where that is published."""


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


class ByCarrier(NoService):
    """There is surely no IM2000 service, and a carrier reaches the domain's targets by other means (bridges.md 5)."""

    def __init__(self, kind: Literal["baddomain", "noservice"], text: str, carrier: str) -> None:
        super().__init__(kind, text)
        self.carrier = carrier


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
    """The session ended before a proper answer: the outcome is unknown. connected False: there was no session."""

    text: str
    connected: bool = True


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
