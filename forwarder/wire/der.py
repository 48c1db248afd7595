"""Strict DER (protocol 3.6): definite minimal lengths, minimal INTEGERs, BOOLEAN 00/FF, strict UTF-8, low tags only.

Every reader takes (octets, pos, end), the range of a content, and returns a value or raises MalformedPDU. A range may
reach past the buffer only through a lying length; the IndexError of that is turned into MalformedPDU where a PDU is
entered (shape.py), so nothing below tests for it. Nothing is allocated that was not received.
"""

from __future__ import annotations

BOOLEAN, INTEGER, OCTET_STRING, ENUMERATED, UTF8_STRING, SEQUENCE = 0x01, 0x02, 0x04, 0x0A, 0x0C, 0x30
IA5_STRING = 0x16
"""What the modules of 2004 call UTF8String (gap 1); read, never written."""

CONTEXT, CONSTRUCTED, CLASS, NUMBER = 0x80, 0x20, 0xC0, 0x1F

LONGEST_INTEGER = 9
"""Content octets of 2^64-1."""

_LENGTH_OCTETS = 4


class MalformedPDU(ValueError):
    """A PDU that is not one. `unexpected`: good DER, wrong command (errorunexpectedcommand, session kept)."""

    def __init__(self, text: str, *, unexpected: bool = False) -> None:
        super().__init__(text)
        self.unexpected = unexpected


def length(count: int) -> bytes:
    """The length octets of a content of `count` octets, minimal."""
    if count < 0x80:
        return bytes((count,))
    if count < 0x100:
        return bytes((0x81, count))
    size = (count.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + count.to_bytes(size, "big")


def tlv(tag: int, content: bytes) -> bytes:
    count = len(content)
    if count < 0x80:
        return bytes((tag, count)) + content
    return bytes((tag,)) + length(count) + content


def header(octets: bytes, pos: int, end: int) -> tuple[int, int]:
    """Where the content of the element at `pos` begins and stops, within `end`."""
    count = octets[pos + 1]
    body = pos + 2
    if count >= 0x80:
        body, count = _long_length(octets, body, count & 0x7F)
    stop = body + count
    if stop > end:
        raise MalformedPDU("an element reaches past its parent")
    return body, stop


def _long_length(octets: bytes, pos: int, size: int) -> tuple[int, int]:
    if not 0 < size <= _LENGTH_OCTETS:
        raise MalformedPDU("an indefinite or oversized length")
    count = int.from_bytes(octets[pos : pos + size], "big")
    if count < 0x80 or octets[pos] == 0:
        raise MalformedPDU("a length that is not minimal")
    return pos + size, count


def check_tag(tag: int) -> None:
    """An unknown tag may be skipped if it is one octet and not the end-of-contents mark."""
    if tag & NUMBER == NUMBER or tag == 0:
        raise MalformedPDU("a tag of several octets, or none")


def read_integer(octets: bytes, pos: int, end: int) -> int:
    """An INTEGER of 0..2^64-1: no protocol here has a negative one."""
    size = end - pos
    if not 0 < size <= LONGEST_INTEGER:
        raise MalformedPDU("an INTEGER of no octets, or too many")
    first = octets[pos]
    if first >= 0x80:
        raise MalformedPDU("a negative INTEGER")
    if size == 1:
        return first
    if first == 0 and octets[pos + 1] < 0x80:
        raise MalformedPDU("an INTEGER that is not minimal")
    value = int.from_bytes(octets[pos:end], "big")
    if value >> 64:
        raise MalformedPDU("an INTEGER out of range")
    return value


def write_integer(value: int) -> bytes:
    """The content of an INTEGER of 0..2^64-1. Raises ValueError outside."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is outside 0..2^64-1")
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def read_boolean(octets: bytes, pos: int, end: int) -> bool:
    if end - pos != 1 or octets[pos] not in (0x00, 0xFF):
        raise MalformedPDU("a BOOLEAN that is neither 00 nor FF")
    return octets[pos] == 0xFF


def write_boolean(value: bool) -> bytes:
    return b"\xff" if value else b"\x00"


def read_text(octets: bytes, pos: int, end: int) -> str:
    """UTF-8 without overlong forms and surrogates."""
    try:
        return octets[pos:end].decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPDU("a text that is not UTF-8") from None
