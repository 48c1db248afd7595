"""DER as docs/protocol.md 3 asks for it: one-octet tags, shortest lengths, nothing left over."""

from __future__ import annotations

CONSTRUCTED = 0x20
CLASSES = 0xC0
CONTEXT = 0x80
LEVELS = 12


class Malformed(Exception):
    """Octets that break chapter 3: errormalformedpdu."""


class UnknownArm(Exception):
    """Sound DER that holds an arm which nobody knows: errorunexpectedcommand."""


def element(tag: int, content: bytes) -> bytes:
    """One element, its length in the shortest form."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def integer(value: int) -> bytes:
    """The content of an INTEGER that is never negative."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def read_integer(content: bytes) -> int:
    if not content or content[0] & 0x80:
        raise Malformed("an integer of no octets, or a negative one")
    if len(content) > 1 and content[0] == 0 and not content[1] & 0x80:
        raise Malformed("an integer that is not in its shortest form")
    value = int.from_bytes(content, "big")
    if value >> 64:
        raise Malformed("an integer of 2^64 or more")
    return value


def _one(octets: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the element that begins at `at`."""
    if at + 2 > len(octets):
        raise Malformed("an element is cut short")
    tag, size, start = octets[at], octets[at + 1], at + 2
    if tag & 0x1F == 0x1F or tag == 0:
        raise Malformed("a tag of several octets, or 00")
    if size & 0x80:
        count = size & 0x7F
        long = octets[start : start + count]
        if not 1 <= count <= 4 or len(long) < count:
            raise Malformed("a length that is indefinite, too long or cut short")
        size, start = int.from_bytes(long, "big"), start + count
        if size < 0x80 or long[0] == 0:
            raise Malformed("a length that is not in its shortest form")
    if start + size > len(octets):
        raise Malformed("an element reaches past its parent")
    return tag, octets[start : start + size], start + size


def elements(octets: bytes) -> list[tuple[int, bytes]]:
    """All (tag, content) that the octets are made of, whole."""
    found, at = [], 0
    while at < len(octets):
        tag, content, at = _one(octets, at)
        found.append((tag, content))
    return found


def only(octets: bytes) -> tuple[int, bytes]:
    """The one element that the octets are."""
    found = elements(octets)
    if len(found) != 1:
        raise Malformed(f"{len(found)} elements where one belongs")
    return found[0]


def check_sound(octets: bytes, level: int = 1) -> None:
    """Every constructed element is made of elements, and none lies too deep."""
    if level > LEVELS:
        raise Malformed("too deep")
    for tag, content in elements(octets):
        if tag & CONSTRUCTED:
            check_sound(content, level + 1)
