"""The views of a message (protocol 3.2, gap 15), found while its octets come in, kept as ranges of the body.

* headersonly: up to and with the empty line, or the whole of a message that has none.
* summaryonly: a few fields in the order they stand, then the empty line. Octets are never changed.
* A header section over HEADER_OCTETS is cut at a line's end there; so much is held in memory while it arrives.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.utils import getaddresses
from typing import NamedTuple

from forwarder.model import Mailbox, parse_mailbox

HEADER_OCTETS = 256 << 10
SUMMARY_RANGES = 500
SUMMARY_FIELDS = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"date", b"subject", b"message-id"})

_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_END = re.compile(rb"(?:\A|\n)\r?\n")

Range = tuple[int, int]


class Views(NamedTuple):
    """headers: octets of `headersonly`. summary: (start, length) ranges of the body. claimed: the From's mailbox."""

    headers: int
    summary: tuple[Range, ...]
    claimed: Mailbox | None


class HeaderScan:
    """Takes a message's octets from their start until it has seen its header section."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._open = True
        self._views: Views | None = None

    def feed(self, data: bytes) -> None:
        if not self._open:
            return
        self._views = None
        seen = max(len(self._head) - 2, 0)
        self._head += data[: HEADER_OCTETS - len(self._head)]
        if end := _END.search(self._head, seen):
            del self._head[end.end() :]
            self._open = False
        elif len(self._head) >= HEADER_OCTETS:
            del self._head[self._head.rfind(b"\n") + 1 or HEADER_OCTETS :]
            self._open = False

    def views(self) -> Views:
        if self._views is None:
            self._views = self._look()
        return self._views

    def _look(self) -> Views:
        head = bytes(self._head)
        summary: list[Range] = []
        senders: list[bytes] = []
        wanted = from_field = False
        for line in _LINE.finditer(head):
            text = line[0]
            if text[:1] not in (b" ", b"\t"):
                name = text.partition(b":")[0].strip().lower()
                wanted = name in SUMMARY_FIELDS or text in (b"\r\n", b"\n")
                senders += [b""] if name == b"from" else []
                from_field = name == b"from"
            if wanted:
                _add(summary, line.start(), len(text))
            if senders and from_field:
                senders[-1] += text
        if len(summary) > SUMMARY_RANGES:
            summary[SUMMARY_RANGES - 1 :] = summary[-1:]
        return Views(len(head), tuple(summary), _mailbox(senders))


def _add(ranges: list[Range], start: int, length: int) -> None:
    if ranges and sum(ranges[-1]) == start:
        ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
    else:
        ranges.append((start, length))


def _mailbox(fields: list[bytes]) -> Mailbox | None:
    """The one mailbox of the one From field, if it is so; else nobody is claimed."""
    if len(fields) != 1 or len(fields[0]) > 4096:
        return None
    value = fields[0].partition(b":")[2].decode("utf-8", "replace").replace("\r", "").replace("\n", "")
    try:
        addresses = getaddresses([value])
        return parse_mailbox(addresses[0][1]) if len(addresses) == 1 else None
    except (ValueError, HeaderParseError):
        return None


def pieces(ranges: tuple[Range, ...], offset: int, length: int) -> list[Range]:
    """The ranges of the body that make octets offset..offset+length of a view made of `ranges`."""
    out: list[Range] = []
    for start, size in ranges:
        skip = min(offset, size)
        take = min(size - skip, length)
        if take > 0:
            out.append((start + skip, take))
        offset -= skip
        length -= take
    return out
