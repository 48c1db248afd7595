"""Who is here: what the address files and the accounts say (operator 2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from forwarder.model import Mailbox, Route


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


class Unread(NamedTuple):
    """Met by a sweep, and not to be read or understood now: what was known of it stays.

    localpart None: the domain with all its entries. domain "": every domain.
    """

    domain: str = ""
    localpart: str | None = None


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
