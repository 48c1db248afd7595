"""The types that several protocols share (protocol 3.1), with the tolerances of 3.3 on input only.

Read: labels as UTF8String or IA5String (gap 1), one dotted label (question 5), TAI64 labels (question 3), list names as
OCTET STRING too (gap 9). Written: exactly what the module says. Domains become dotted lower-case A-labels.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from forwarder.model import (
    KEY_OCTETS,
    LABEL_OCTETS,
    LOCALPART_OCTETS,
    ClientLocation,
    ContentDigest,
    Endpoint,
    Mailbox,
    ServiceLocation,
    parse_domain,
)
from forwarder.wire import der
from forwarder.wire.der import MalformedPDU
from forwarder.wire.shape import Arm, Choice, Field, Sequence, Type, integer, memo, octet_string, sequence_of, text

LABELS = 127
LITERALS = 16
DOMAIN_CONTENT = 512
"""Octets of a DomainName with its tags and lengths; the name itself is held to 255 by parse_domain."""

ANY_COUNT = 65536
"""For lists that the frame's limit bounds."""

_TAI64 = 1 << 62
_TAI_AHEAD = 37
"""Seconds TAI is ahead of UTC since 2017: an input tolerance, so no table of earlier leap seconds."""
_TAI64_RESERVED = 1 << 63


def _read_time(octets: bytes, pos: int, end: int) -> int:
    value = der.read_integer(octets, pos, end)
    if value < _TAI64:
        return value
    return max(0, min(value, _TAI64_RESERVED - 1) - _TAI64 - _TAI_AHEAD)


KEY = octet_string(KEY_OCTETS, KEY_OCTETS)
PORT = integer(0, 65535)
UNSIGNED = integer(0, 2**64 - 1)
SECONDS = UNSIGNED
"""A span of time."""
TIME = UNSIGNED._replace(decode=_read_time)
"""A point in time, Unix seconds; always under 2^62 as read."""
CODE = integer(0, 255)
OCTETS = octet_string()
TOKEN = octet_string(1, 64)
TEXT = text()
LIST_NAME = text(1, 255, also=(der.OCTET_STRING,))
LOCALPART = text(0, LOCALPART_OCTETS)

_LABELS_TYPE = sequence_of(text(), LABELS)


def _read_domain(octets: bytes, pos: int, end: int) -> str:
    if end - pos > DOMAIN_CONTENT:
        raise MalformedPDU("a DomainName that is too long")
    labels = _LABELS_TYPE.decode(octets, pos, end)
    if len(labels) == 1:
        labels = labels[0].split(".")
    for label in labels:
        if not label or "." in label or len(label.encode()) > LABEL_OCTETS:
            raise MalformedPDU("a label that is none")
    try:
        return parse_domain(".".join(labels))
    except ValueError:
        raise MalformedPDU("a DomainName that is none") from None


def _write_domain(domain: str) -> bytes:
    return _LABELS_TYPE.encode(domain.split("."))


DOMAIN = memo(Type(_read_domain, _write_domain, constructed=True, tags=(der.SEQUENCE,)))
MAILBOX = Sequence(Mailbox, Field(0, LOCALPART), Field(1, DOMAIN)).type


class _IP(IntEnum):
    """The arms of IPAddress."""

    VERSION4 = 0x80
    VERSION6 = 0x81


def _read_address(octets: bytes, pos: int, end: int) -> str:
    body, stop = der.header(octets, pos, end)
    if stop != end:
        raise MalformedPDU("an IPAddress of more than one element")
    if octets[pos] == _IP.VERSION4 and stop - body == 4:
        return str(IPv4Address(octets[body:stop]))
    if octets[pos] == _IP.VERSION6 and stop - body == 16:
        return str(IPv6Address(octets[body:stop]))
    raise MalformedPDU("an IPAddress that is none")


def _write_address(address: str) -> bytes:
    parsed = ip_address(address)
    return der.tlv(_IP.VERSION4 if parsed.version == 4 else _IP.VERSION6, parsed.packed)


ADDRESS = Type(_read_address, _write_address, constructed=True)
ENDPOINT = Sequence(Endpoint, Field(0, ADDRESS), Field(1, PORT)).type
CLIENT = Sequence(ClientLocation, Field(0, ADDRESS), Field(1, PORT), Field(2, DOMAIN, None)).type
DIGEST = Sequence(ContentDigest, Field(0, CODE), Field(1, OCTETS)).type

_PLACES = Choice(Arm(0, tuple, sequence_of(ENDPOINT, LITERALS)), Arm(1, str, DOMAIN))


def _read_location(octets: bytes, pos: int, end: int) -> ServiceLocation:
    place = _PLACES.decode(octets, pos, end)
    if isinstance(place, str):
        return ServiceLocation(place)
    if isinstance(place, tuple):
        return ServiceLocation(None, place)
    raise MalformedPDU("a ServiceLocation of an unknown arm")


def _write_location(location: ServiceLocation) -> bytes:
    return _PLACES.encode(location.literals if location.domain is None else location.domain)


LOCATION = Type(_read_location, _write_location, constructed=True)
