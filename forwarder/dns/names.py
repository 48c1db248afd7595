"""Names as the DNS writes them (RFC 1035 3.1), and the question of a query.

A wire name here is lower-case octets with its root; a relative one lacks the zone's labels and the root. Queries are
taken apart by hand: 5 us instead of the 42 a library takes, and nothing in a stranger's packet can raise but FormErr.
"""

from __future__ import annotations

from typing import NamedTuple

NAME_OCTETS = 255
LABEL_OCTETS = 63
HEADER_OCTETS = 12
ADDITIONAL = 4  # records we look through for the OPT; honest queries have one or two
OPT = 41


class FormErr(Exception):
    """A packet that is no query: answered with FORMERR."""


class Edns(NamedTuple):
    """What the OPT record of a query says (RFC 6891). size: octets of a UDP answer the sender can take."""

    size: int
    version: int
    do: bool


class Query(NamedTuple):
    """One question. name: lower-case wire name; starts: where its labels start in it; end: of the question's octets."""

    name: bytes
    starts: tuple[int, ...]
    qtype: int
    qclass: int
    end: int
    edns: Edns | None


def wire_labels(text: str) -> bytes:
    """Dotted labels as a wire name without its root; "" is none. Raises ValueError."""
    parts = bytearray()
    for label in text.removesuffix(".").split(".") if text else ():
        octets = label.lower().encode("ascii")
        if not 0 < len(octets) <= LABEL_OCTETS:
            raise ValueError(f"{text!r} is no DNS name")
        parts += bytes([len(octets)]) + octets
    if len(parts) >= NAME_OCTETS:
        raise ValueError(f"{text!r} is too long for a DNS name")
    return bytes(parts)


def wire_name(text: str) -> bytes:
    """A domain as a wire name. Raises ValueError."""
    return wire_labels(text) + b"\0"


def wire_contact(address: str) -> bytes:
    """The RNAME of a mail address (RFC 1035 8): its local part is one label, dots and all. Raises ValueError."""
    local, at, domain = address.rpartition("@")
    octets = local.encode("ascii", "replace")
    if not at or not local.isascii() or not 0 < len(octets) <= LABEL_OCTETS:
        raise ValueError(f"{address!r} is no contact address")
    return bytes([len(octets)]) + octets + wire_name(domain)


def read_query(packet: bytes) -> Query:
    """The one question of a packet of at least 12 octets, and its EDNS. Raises FormErr."""
    if packet[4:10] != b"\0\1\0\0\0\0":
        raise FormErr("not one question, or records where none belong")
    starts, root = _read_name(packet)
    end = root + 5
    if len(packet) < end:
        raise FormErr("the question ends early")
    return Query(
        packet[HEADER_OCTETS : root + 1].lower(),
        starts,
        packet[root + 1] << 8 | packet[root + 2],
        packet[root + 3] << 8 | packet[root + 4],
        end,
        _read_edns(packet, end),
    )


def _read_name(packet: bytes) -> tuple[tuple[int, ...], int]:
    """Where the labels of the question's name start, from its first octet on, and where its root is in the packet."""
    starts = []
    at, last = HEADER_OCTETS, min(len(packet), HEADER_OCTETS + NAME_OCTETS)
    while at < last and packet[at]:
        if packet[at] > LABEL_OCTETS:
            raise FormErr("a question is never compressed")
        starts.append(at - HEADER_OCTETS)
        at += packet[at] + 1
    if at >= last:
        raise FormErr("a name without an end")
    return tuple(starts), at


def _read_edns(packet: bytes, at: int) -> Edns | None:
    """The OPT among the additional records; records of other types are passed over."""
    edns = None
    count = packet[10] << 8 | packet[11]
    if count > ADDITIONAL:
        raise FormErr("too many records")
    for _ in range(count):
        owner = at
        at = _skip_name(packet, at)
        fixed = packet[at : at + 10]
        if len(fixed) < 10:
            raise FormErr("a record ends early")
        at += 10 + (fixed[8] << 8 | fixed[9])
        if fixed[0] << 8 | fixed[1] == OPT:
            if edns or packet[owner]:
                raise FormErr("a second OPT, or one with a name")
            edns = Edns(fixed[2] << 8 | fixed[3], fixed[5], bool(fixed[6] & 0x80))
    if at != len(packet):
        raise FormErr("octets beyond the records")
    return edns


def _skip_name(packet: bytes, at: int) -> int:
    """Past a name, followed nowhere: a pointer ends it."""
    end = min(len(packet), at + NAME_OCTETS)
    while at < end:
        length = packet[at]
        if length >= 0xC0:
            return at + 2
        if length > LABEL_OCTETS:
            break
        at += length + 1
        if not length:
            return at
    raise FormErr("a name without an end")
