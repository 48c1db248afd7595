"""What a domain publishes: its services, and under `_im2000-user` where each of its users is (protocol 5.0).

"delegate" serves only the zone `_im2000-user.DOMAIN`, "serve" the whole domain. The records of a name are kept as the
octets an answer is made of, owner and all (the owner is always the question's own name: a pointer to octet 12), so a
million names are two dicts' worth of bytes, which the garbage collector never walks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from forwarder.dns.names import wire_contact, wire_labels, wire_name

A, NS, SOA, TXT, AAAA, SRV = 1, 2, 6, 16, 28, 33
IN = 1
QNAME = b"\xc0\x0c"  # a pointer to the name of the question
USER = "_im2000-user"
USER_LABELS = wire_labels(USER)
STAR = b"\x01*"
REFRESH, RETRY, EXPIRE = 3600, 600, 14 * 86400  # seconds; for secondaries (RIPE-203)
NEGATIVE_TTL = 300  # seconds a resolver remembers that a name is absent: new users should not wait longer

_TEXT = r'"([ !#-\[\]-~]*)"'
_LINE = re.compile(
    rf"([0-9a-z*-]+)\.{USER}(?:\s+(?P<ttl>\d{{1,9}}))?(?:\s+IN)?\s+TXT(?P<strings>(?:\s+{_TEXT})+)\s*\Z",
    re.IGNORECASE | re.ASCII,
)
_STRING = re.compile(_TEXT)


@dataclass(frozen=True, slots=True)
class ZoneFacts:
    """What is published, in plain values. Domains and hosts are lower-case A-labels without the final dot.

    services: "rnasp", "msraps", ... to (host, port); the final s is the TLS twin. addresses: of hosts of our own.
    records: the zone lines of the users' addresses (`StrategySpec.records`). ttl in seconds. serial: of the SOA, grows.
    keys: full name to text of the TXT records with our stores' public keys; those outside the domain are for elsewhere.
    complete: the catalogue has seen every address; until then nobody is told that a user does not exist.
    tags, patterns, others: whether the domain has tags, patterns, exact addresses outside dns_user_lookup.
    """

    domain: str
    mode: Literal["delegate", "serve"]
    nameservers: tuple[str, ...]
    contact: str
    ttl: int
    serial: int
    services: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    records: Iterable[str] = ()
    complete: bool = True
    tags: bool = False
    patterns: bool = False
    others: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def wildcard(self) -> bool:
        """Whether the catch-all may be a wildcard: it captures every name that has no record of its own (5.0)."""
        return not (self.tags or self.patterns or self.others)

    @property
    def apex(self) -> str:
        """The name of the zone we serve."""
        return self.domain if self.mode == "serve" else f"{USER}.{self.domain}"


def rr(rdtype: int, ttl: int, rdata: bytes, owner: bytes = QNAME) -> bytes:
    """A resource record of class IN."""
    return b"%b%b%b%b%b%b" % (
        owner,
        rdtype.to_bytes(2, "big"),
        b"\0\1",
        ttl.to_bytes(4, "big"),
        len(rdata).to_bytes(2, "big"),
        rdata,
    )


def each_rr(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a name one by one: (type, octets)."""
    at = 0
    while at < len(octets):
        end = at + 12 + (octets[at + 10] << 8 | octets[at + 11])
        yield octets[at + 2] << 8 | octets[at + 3], octets[at:end]
        at = end


def user_record(line: str, ttl: int) -> tuple[str, bytes]:
    """A zone line `LABEL._im2000-user [TTL] [IN] TXT "..." ...` as its label and octets. Raises ValueError."""
    match = _LINE.match(line)
    if not match:
        raise ValueError(f"no TXT line under {USER}: {line!r}")
    strings = [text.encode("ascii") for text in _STRING.findall(match["strings"])]
    if any(len(text) > 255 for text in strings):
        raise ValueError(f"a string of more than 255 octets: {line!r}")
    rdata = b"".join(bytes([len(text)]) + text for text in strings)
    return match[1].lower(), rr(TXT, int(match["ttl"]) if match["ttl"] else ttl, rdata)


class Zone:
    """One zone as it is answered from. nodes: relative name to its records; between: names that have only names below.

    `users` is the relative name of `_im2000-user`, empty where that is the zone itself.
    """

    __slots__ = ("_soa", "_wildcard", "apex", "between", "complete", "nodes", "serial", "ttl", "users")

    def __init__(self, facts: ZoneFacts) -> None:
        """Raises ValueError that says what cannot be published. Long for a million users: made in a thread."""
        if not facts.nameservers:
            raise ValueError(f"{facts.domain}: a zone needs [dns] nameservers")
        self.apex = wire_name(facts.apex)
        self.users = USER_LABELS if facts.mode == "serve" else b""
        self.ttl, self.serial, self.complete = facts.ttl, facts.serial, facts.complete
        self._wildcard = facts.wildcard
        self._soa = wire_name(facts.nameservers[0]) + wire_contact(facts.contact)
        self.nodes: dict[bytes, bytes] = {}
        self.between = {self.users} - {b""}
        self._publish(b"", [rr(NS, facts.ttl, wire_name(host)) for host in facts.nameservers])
        if facts.mode == "serve":
            self._publish_services(facts)
            self._publish_keys(facts)
        self._publish_users(facts.records)

    def soa(self, owner: bytes = QNAME, ttl: int | None = None) -> bytes:
        """The SOA record. As proof of absence its TTL is the negative one (RFC 2308 3)."""
        numbers = (self.serial & 0xFFFFFFFF, REFRESH, RETRY, EXPIRE, self.negative_ttl)
        rdata = self._soa + b"".join(number.to_bytes(4, "big") for number in numbers)
        return rr(SOA, self.ttl if ttl is None else ttl, rdata, owner)

    @property
    def negative_ttl(self) -> int:
        """Seconds."""
        return min(self.ttl, NEGATIVE_TTL)

    def set_user(self, label: str, lines: Iterable[str]) -> None:
        """These lines are now all there is of one user ("*": the catch-all); none: no such name. Raises ValueError."""
        octets = []
        for line in lines:
            owner, record = user_record(line, self.ttl)
            if owner != label:
                raise ValueError(f"{line!r} does not belong to {label}")
            octets.append(record)
        self.nodes.pop(wire_labels(label) + self.users, None)
        if label != "*" or self._wildcard:
            self._publish(wire_labels(label) + self.users, octets)
        self.serial += 1

    def find(self, relative: bytes, starts: tuple[int, ...]) -> bytes | None:
        """The records of a name, b"" for one that has only names below; None: no such name, wildcards counted in.

        starts: where the labels of `relative` start.
        """
        node = self.nodes.get(relative)
        if node is not None or relative in self.between or not relative:
            return node or b""
        wildcard = self.nodes.get(STAR + self.users)
        if wildcard is None:
            return None
        for start in (*starts[1:], len(relative)):
            encloser = relative[start:]
            if encloser == self.users:
                return wildcard
            if encloser in self.nodes or encloser in self.between:
                return None
        return None

    def undecided(self, relative: bytes) -> bool:
        """Whether a name not found may yet prove to be a user's: the catalogue has not seen every address."""
        return not self.complete and relative.endswith(self.users)

    def _publish(self, name: bytes, records: list[bytes]) -> None:
        if records:
            self.nodes[name] = self.nodes.get(name, b"") + b"".join(records)

    def _publish_services(self, facts: ZoneFacts) -> None:
        for service, (host, port) in facts.services.items():
            target = bytes(4) + port.to_bytes(2, "big") + wire_name(host)
            self._publish(wire_labels(f"_im2000-{service}._tcp"), [rr(SRV, facts.ttl, target)])
            self.between.add(wire_labels("_tcp"))
        for host, addresses in facts.addresses.items():
            if host == facts.domain or host.endswith("." + facts.domain):
                relative = host.removesuffix(facts.domain).removesuffix(".")
                self._publish(wire_labels(relative), [_address(text, facts.ttl) for text in addresses])
                self._add_between(relative)

    def _publish_keys(self, facts: ZoneFacts) -> None:
        for owner, text in facts.keys.items():
            if owner.endswith("." + facts.domain):
                relative, octets = owner.removesuffix("." + facts.domain), text.encode("ascii")
                self._publish(wire_labels(relative), [rr(TXT, facts.ttl, bytes([len(octets)]) + octets)])
                self._add_between(relative)

    def _add_between(self, relative: str) -> None:
        labels = relative.split(".")
        self.between |= {wire_labels(".".join(labels[at:])) for at in range(1, len(labels))}

    def _publish_users(self, lines: Iterable[str]) -> None:
        grouped: dict[str, bytes] = {}
        for line in lines:
            label, record = user_record(line, self.ttl)
            earlier = grouped.get(label)
            grouped[label] = record if earlier is None else earlier + record
        if not self._wildcard:
            grouped.pop("*", None)
        for label, octets in grouped.items():
            self.nodes[wire_labels(label) + self.users] = octets


def _address(text: str, ttl: int) -> bytes:
    address = ipaddress.ip_address(text)
    return rr(A if address.version == 4 else AAAA, ttl, address.packed)
