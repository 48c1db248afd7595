"""The values everything speaks of: mailboxes, locations, notifications, routes, peers, outcomes.

Frozen, without behaviour beyond their own form, importing nothing of ours. What is made once per notification
is a NamedTuple (0.15 us to make), the rest are frozen dataclasses. Section numbers are those of docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv6Network
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import idna

KEY_OCTETS = 16
LOCALPART_OCTETS = 255
DOMAIN_OCTETS = 255
LABEL_OCTETS = 63

Kind = Literal["person", "role", "group"]
State = Literal["on", "off", "gone", "moved"]
How = Literal["exact", "tag", "pattern", "catch_all"]

AUTO, IM2000 = "auto", "im2000"
"""Words of `via` that name no carrier."""

_LDH = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\Z")
_ATOM = re.compile(r"[^\s@\"(),:;<>\[\\\]\x00-\x1f\x7f]+\Z")
_DURATION = re.compile(r"(\d+)(s|m|h|d|w|y)\Z")
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB|TiB)?\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_OCTETS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def a_label(label: str) -> str:
    """One domain label in its comparable form: lower-case A-label. Raises ValueError if it is none (IDNA 2008)."""
    lowered = label.lower()
    if not lowered.isascii():
        try:
            lowered = idna.encode(lowered, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"{label!r} is no domain label: {error}") from None
    if len(lowered) > LABEL_OCTETS or not _LDH.match(lowered):
        raise ValueError(f"{label!r} is no domain label")
    return lowered


@lru_cache(maxsize=65536)
def parse_domain(text: str) -> str:
    """A domain name as lower-case A-labels joined by dots, no root dot. Raises ValueError."""
    name = text.removesuffix(".")
    labels = [a_label(label) for label in name.split(".")] if name else []
    joined = ".".join(labels)
    if not labels or len(joined) > DOMAIN_OCTETS - 2:
        raise ValueError(f"{text!r} is no domain name")
    return joined


def fold_localpart(localpart: str) -> str:
    """The form in which local parts are matched and hashed: lower(NFC(local part))."""
    if localpart.isascii():
        return localpart.lower()
    return unicodedata.normalize("NFC", localpart).lower()


def client_block(address: str) -> str:
    """Whom a client's address counts for: an IPv4 address, mapped or not, or the /64 that an IPv6 client commands."""
    if ":" not in address or address.startswith("::ffff:"):
        return address
    return str(IPv6Network((address.partition("%")[0], 64), strict=False))


class Mailbox(NamedTuple):
    """local part @ domain. The local part as written; the domain as lower-case A-labels joined by dots."""

    localpart: str
    domain: str

    @property
    def folded(self) -> Mailbox:
        """The form two spellings of one mailbox share; compare and key by this."""
        return Mailbox(fold_localpart(self.localpart), self.domain)

    def __str__(self) -> str:
        if all(_ATOM.match(atom) for atom in self.localpart.split(".")):
            return f"{self.localpart}@{self.domain}"
        quoted = self.localpart.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"@{self.domain}'


def parse_mailbox(text: str) -> Mailbox:
    """`local@domain`, the local part bare or quoted (RFC 5321 4.1.2). Raises ValueError that says what is wrong."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError(f"{text!r} is no address: it has no @")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
        if any(unicodedata.category(c) == "Cc" for c in local):
            raise ValueError(f"{text!r} is no address: control characters in its local part")
    elif not all(_ATOM.match(atom) for atom in local.split(".")):
        raise ValueError(f"{text!r} is no address: bad local part")
    if not local or len(local.encode()) > LOCALPART_OCTETS:
        raise ValueError(f"{text!r} is no address: the local part has 1 to {LOCALPART_OCTETS} octets")
    try:
        return Mailbox(local, parse_domain(domain))
    except ValueError as error:
        raise ValueError(f"{text!r} is no address: {error}") from None


class Endpoint(NamedTuple):
    """An IP address (text, as ipaddress prints it) and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class ServiceLocation(NamedTuple):
    """Where a service is: a domain to be looked up by SRV, or literals. No domain and no literals = no such service."""

    domain: str | None = None
    literals: tuple[Endpoint, ...] = ()


SHA256 = 1
"""The one `ContentDigest.algorithm` there is."""


class ContentDigest(NamedTuple):
    """SHA-256 (algorithm 1) over the exact octets of the `all` view (5.0)."""

    algorithm: int
    value: bytes


FOLLOWED, SHARED, RESENT, COPIED = 1, 2, 3, 4
"""`Hop.how` (5.0): a redirect followed, one key for several, passed on to one, a copy in a store of the forwarder's."""


class Hop(NamedTuple):
    """One forwarder on the way. `rcpt` is a keyed hash of the recipient there, `how` a code of 5.0."""

    by: str
    rcpt: bytes | None
    at: int
    how: int | None = None


class Origin(NamedTuple):
    """Where a copy was pulled from (option 4)."""

    store: ServiceLocation
    sender: str
    handle: bytes | None = None


class Signature(NamedTuple):
    """Ed25519 (algorithm 1) by the store's domain over the parts of 5.0."""

    domain: str
    selector: str
    algorithm: int
    at: int
    value: bytes


class ClientLocation(NamedTuple):
    """Who submitted a notification, as the agent saw it."""

    address: str
    port: int
    domain: str | None = None


class Report(NamedTuple):
    """What a notification is handed on for (6): kind 1 spam report, 2 notary."""

    kind: int
    submitter: ClientLocation | None = None
    date: int | None = None


class Notification(NamedTuple):
    """One RNASP record, with the octets it came in: a resend splices them and keeps what we do not know."""

    storeclear: ServiceLocation
    storessl: ServiceLocation | None
    recipient: Mailbox
    identifier: bytes
    sender: str
    size: int | None = None
    digest: ContentDigest | None = None
    original: Mailbox | None = None
    trace: tuple[Hop, ...] = ()
    hops: int | None = None
    origin: Origin | None = None
    expires: int | None = None
    signature: Signature | None = None
    token: bytes | None = None
    report: Report | None = None
    claimedfrom: Mailbox | None = None
    raw: bytes = b""

    @property
    def store(self) -> str:
        """The store's name for memory and lists (5.0): its domain, clear before TLS, else its first literal."""
        if self.storeclear.domain:
            return self.storeclear.domain
        if self.storessl and self.storessl.domain:
            return self.storessl.domain
        literals = self.storeclear.literals or (self.storessl.literals if self.storessl else ())
        return str(literals[0]) if literals else ""

    @property
    def shared(self) -> bool:
        """Whether others hold its key too: then silencing it would end the repeats they depend on (5.3)."""
        return any(hop.how == SHARED for hop in self.trace)


class RedirectKind(IntEnum):
    """copy: beside what the agent took itself (code 3)."""

    permanent = 0
    temporary = 1
    copy = 2


class Redirect(NamedTuple):
    """ "Not here: notify this instead" (5.2)."""

    mailbox: Mailbox
    rna: ServiceLocation | None = None
    kind: int = RedirectKind.temporary
    ttl: int | None = None
    token: bytes | None = None


class Outcome(NamedTuple):
    """What became of one notification (5.0): code / 16 is its class: 0 taken, 1 redirect, 2 temporary, 3 permanent.

    retryafter and retransmit in seconds. text goes to peers and is generic; the log has the detail.
    """

    code: int
    redirects: tuple[Redirect, ...] = ()
    retryafter: int | None = None
    retransmit: int | None = None
    text: str = ""


FEATURES = frozenset({"results", "redirect", "moved", "trace", "digest", "sig", "origin", "durable"})
"""The extensions that we understand, and tell our peers (5.0)."""


class Peer(NamedTuple):
    """Who speaks to us. No features = a peer of 2004. `inner`: handed on in process, by this daemon itself.

    tls: what it says came over TLS, which says nothing of who it is.
    """

    address: str
    port: int = 0
    name: str | None = None
    features: frozenset[str] = frozenset()
    inner: bool = False
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Expect:
    """A forward that a mailbox expects: notifications first sent to `original`, coming by `via` or with `token`.

    token: what this mailbox issued for a redirect at `original` (protocol 5.2).
    """

    original: Mailbox
    via: str | None = None
    token: bytes | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The entry that wins for an address: what its file (or pattern, or catch-all) says, checked.

    `address` is the mailbox asked for, folded and without an ignored tag; `entry` names what won and is the same for
    all addresses it serves: "sales@pobox.example", a pattern "sales-*@pobox.example", a catch-all "@pobox.example".
    `options` holds the checked table of each strategy the entry names, `lines` the line of each of its keys.
    """

    address: Mailbox
    entry: str
    strategy: str
    to: tuple[Mailbox, ...] = ()
    readers: tuple[str, ...] = ()
    kind: Kind = "person"
    fallback: str | None = None
    state: State = "on"
    expires: datetime | None = None
    note: str = ""
    owner: str | None = None
    expects: tuple[Expect, ...] = ()
    limits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    members: Literal["live", "frozen"] = "live"
    tell_members: bool = False
    via: Mapping[Mailbox, str] = field(default_factory=lambda: MappingProxyType({}))
    options: Mapping[str, Any] = field(default_factory=dict)
    matched: How = "exact"
    tag: str = ""
    file: str = ""
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def handle(key: bytes) -> str:
    """A key as people and logs see it: the first 12 hex digits of SHA-256(key). Keys are never shown in full."""
    return hashlib.sha256(key).hexdigest()[:12]


def parse_duration(value: object) -> timedelta:
    """ "90s" "15m" "4h" "30d" "2w" "7y" (365 days); a timedelta passes. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if not match or int(match[1]) * _SECONDS[match[2]] > 100 * _SECONDS["y"]:
        raise ValueError('expected a duration such as "90s", "15m", "4h", "30d" or "7y"')
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def format_duration(value: timedelta) -> str:
    """The shortest text that parse_duration reads as `value` (whole seconds)."""
    seconds = int(value.total_seconds())
    for unit in ("y", "d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_size(value: object) -> int:
    """ "30MiB" "64KiB" "1GiB" "512B"; an int passes. Octets. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('expected a size such as "64KiB", "30MiB" or "1GiB"')
    return int(match[1]) * _OCTETS[match[2]]


# -- what a domain publishes about its users (5.0 "User-level DNS")


def user_label(localpart: str) -> str:
    """The DNS label of a local part: hex of the first 28 octets of SHA-256(lower(NFC(local part))) (RFC 7929)."""
    return hashlib.sha256(fold_localpart(localpart).encode()).digest()[:28].hex()


def format_user_record(
    to: Mailbox | None, rna: str | None = None, group: int = 0, priority: int = 10, permanent: bool = False
) -> str:
    """One target as the text of a TXT record. to = None refuses mail; rna: the domain to ask instead of `to`'s."""
    tags = ["v=im2k1", f"to={quote(to.localpart, safe='')}@{to.domain}" if to else "to="]
    tags += [f"rna={rna}"] if rna else []
    tags += [f"g={group}"] if group else []
    tags += [f"pri={priority}"] if priority != 10 else []
    tags += ["k=perm"] if permanent else []
    return "; ".join(tags)


def user_record_line(label: str, text: str, ttl: int | None = None) -> str:
    """The zone line of one such record, owner relative to the domain. label: a user_label, or "*" (catch-all).

    A line without a TTL (seconds) takes the domain's. Strings of a TXT hold at most 255 octets each (RFC 1035 3.3.14).
    """
    strings = " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
    return " ".join([f"{label}._im2000-user", *([str(ttl)] if ttl is not None else []), "IN TXT", strings])
