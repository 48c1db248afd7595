"""The records a domain needs, as text to read and to paste: what `forwarder dns show` prints.

The zone file form is RFC 1035 5.1 with full names, so that a part of it can be pasted anywhere. Where the domain lies
at a hoster its zone needs our services and the delegation; the users' own records are served from here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from forwarder.dns.zone import EXPIRE, NEGATIVE_TTL, REFRESH, RETRY, USER, ZoneFacts, user_record


class Record(NamedTuple):
    """One line of a zone file. owner: a full name with its final dot; ttl in seconds."""

    owner: str
    ttl: int
    rdtype: str
    rdata: str


class Part(NamedTuple):
    """Records that belong into one zone, and who holds it."""

    title: str
    records: tuple[Record, ...]


def published(facts: ZoneFacts, *, serve: bool = True) -> tuple[Part, ...]:
    """What belongs where. serve = False (`[dns] mode = "off"`): all of it into the domain's zone at its hoster."""
    if not serve:
        into = (*_services(facts), *_keys(facts), *_users(facts))
        return Part(f"into the zone {facts.domain}", into), *_elsewhere(facts)
    if facts.mode == "serve":
        above = facts.domain.partition(".")[2] or "."
        zone = (*_frame(facts), *_services(facts), *_addresses(facts), *_keys(facts), *_users(facts))
        return (
            Part(f"into the zone {above}", tuple(_delegation(facts))),
            Part(f"served here, {facts.apex}", zone),
            *_elsewhere(facts),
        )
    return (
        Part(f"into the zone {facts.domain}", (*_services(facts), *_keys(facts), *_delegation(facts))),
        Part(f"served here, {facts.apex}", (*_frame(facts), *_users(facts))),
        *_elsewhere(facts),
    )


def zone_text(parts: Sequence[Part]) -> str:
    """Zone file text, aligned over all parts, a comment above each."""
    records = [record for part in parts for record in part.records]
    owner, ttl, rdtype = (max((len(str(record[column])) for record in records), default=0) for column in range(3))
    lines = []
    for part in parts:
        lines += [f"; {part.title}"]
        lines += [f"{r.owner:<{owner}} {r.ttl:>{ttl}} IN {r.rdtype:<{rdtype}} {r.rdata}" for r in part.records]
    return "\n".join(lines) + "\n"


def _frame(facts: ZoneFacts) -> Iterator[Record]:
    local, _, domain = facts.contact.rpartition("@")
    contact = f"{local.replace('.', chr(92) + '.')}.{domain}."
    times = f"{REFRESH} {RETRY} {EXPIRE} {min(facts.ttl, NEGATIVE_TTL)}"
    numbers = f"{facts.serial & 0xFFFFFFFF} {times}"
    yield Record(f"{facts.apex}.", facts.ttl, "SOA", f"{facts.nameservers[0]}. {contact} {numbers}")
    for host in facts.nameservers:
        yield Record(f"{facts.apex}.", facts.ttl, "NS", f"{host}.")


def _delegation(facts: ZoneFacts) -> Iterator[Record]:
    """The NS records above our zone, and the addresses of those that lie in it (glue)."""
    for host in facts.nameservers:
        yield Record(f"{facts.apex}.", facts.ttl, "NS", f"{host}.")
    for host in facts.nameservers:
        if f".{host}".endswith(f".{facts.apex}"):
            yield from _address(facts, host)


def _services(facts: ZoneFacts) -> Iterator[Record]:
    for service, (host, port) in facts.services.items():
        yield Record(f"_im2000-{service}._tcp.{facts.domain}.", facts.ttl, "SRV", f"0 0 {port} {host}.")


def _addresses(facts: ZoneFacts) -> Iterator[Record]:
    for host in facts.addresses:
        if f".{host}".endswith(f".{facts.domain}"):
            yield from _address(facts, host)


def _address(facts: ZoneFacts, host: str) -> Iterator[Record]:
    for text in facts.addresses.get(host, ()):
        yield Record(f"{host}.", facts.ttl, "A" if ipaddress.ip_address(text).version == 4 else "AAAA", text)


def _keys(facts: ZoneFacts, *, inside: bool = True) -> Iterator[Record]:
    for owner, text in facts.keys.items():
        if owner.endswith("." + facts.domain) is inside:
            yield Record(f"{owner}.", facts.ttl, "TXT", f'"{text}"')


def _elsewhere(facts: ZoneFacts) -> Iterator[Part]:
    """The keys of a store whose name lies in another zone."""
    if records := tuple(_keys(facts, inside=False)):
        yield Part("into the zone of the store that this domain's notifications name", records)


def _users(facts: ZoneFacts) -> Iterator[Record]:
    for line in facts.records:
        label, octets = user_record(line, facts.ttl)
        if label != "*" or facts.wildcard:
            strings = line[line.index('"') :].strip()
            yield Record(f"{label}.{USER}.{facts.domain}.", int.from_bytes(octets[6:10], "big"), "TXT", strings)
