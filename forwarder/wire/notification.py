"""A notification's octets: decode once, encode ours, splice what passes through (protocol 3.4, 5.3).

The hot path of the forwarder (speed 5 to 7). Decoding remembers elements by their octets; the usual notification (base
elements only, short lengths) is read in one straight line, any other by the table. Both give the same value.
Splicing keeps every octet but those it must change, so a signature stays good (protocol 5.0).
"""

from __future__ import annotations

from typing import Any

from forwarder.model import KEY_OCTETS, Hop, Mailbox, Notification, Origin, Report, Signature
from forwarder.wire import der
from forwarder.wire.der import MalformedPDU as MalformedPDU  # also what its users catch
from forwarder.wire.der import tlv
from forwarder.wire.elements import (
    CLIENT,
    CODE,
    DIGEST,
    DOMAIN,
    KEY,
    LOCATION,
    MAILBOX,
    OCTETS,
    TEXT,
    TIME,
    TOKEN,
    UNSIGNED,
)
from forwarder.wire.shape import MEMO_COUNT, Field, Memo, Sequence, Type, memo, sequence_of

NOTIFICATION_OCTETS = 8192
UNKNOWN_OCTETS = 4096
ADDED_OCTETS = 2048
TRACE_HOPS = 32
BATCH_NOTIFICATIONS = 1000

_locations = Memo(LOCATION.decode)
_mailboxes = Memo(MAILBOX.decode)
_texts = Memo(TEXT.decode)
_location = LOCATION._replace(decode=_locations.read)
_mailbox = MAILBOX._replace(decode=_mailboxes.read)
_text = TEXT._replace(decode=_texts.read)

HOP = Sequence(Hop, Field(0, DOMAIN), Field(1, OCTETS, None), Field(2, TIME), Field(3, CODE, None)).type
TRACE = sequence_of(HOP, TRACE_HOPS)
ORIGIN = Sequence(Origin, Field(0, LOCATION), Field(1, TEXT), Field(2, OCTETS, None)).type
SIGNATURE = Sequence(Signature, Field(0, DOMAIN), Field(1, TEXT), Field(2, CODE), Field(3, TIME), Field(4, OCTETS)).type
REPORT = Sequence(Report, Field(0, CODE), Field(1, CLIENT, None), Field(2, TIME, None)).type

_TABLE = Sequence(
    Notification,
    Field(0, _location),
    Field(1, _location, None),
    Field(2, _mailbox),
    Field(3, KEY),
    Field(4, _text),
    Field(5, UNSIGNED, None),
    Field(16, DIGEST, None),
    Field(17, _mailbox, None),
    Field(18, memo(TRACE), ()),
    Field(19, CODE, None),
    Field(20, ORIGIN, None),
    Field(21, TIME, None),
    Field(22, SIGNATURE, None),
    Field(23, TOKEN, None),
    Field(24, REPORT, None),
    Field(25, MAILBOX, None),
)
_STORECLEAR, _STORESSL, _RECIPIENT, _IDENTIFIER, _SENDER, _SIZE = 0xA0, 0xA1, 0xA2, 0x83, 0x84, 0x85
_ORIGINAL, _TRACE, _HOPS, _SIGNATURE, _TOKEN = 0xB1, 0xB2, 0x93, 0xB6, 0x97
_EXTENSIONS: list[Any] = _TABLE.blank()[6:]
_KEY_END = 2 + KEY_OCTETS
_make = tuple.__new__


def _read(octets: bytes, pos: int, end: int, raw: bytes) -> Notification:
    """The notification whose content is octets[pos:end] and whose TLV is `raw`. IndexError = it is torn."""
    if len(raw) > NOTIFICATION_OCTETS:
        raise MalformedPDU("a notification over 8 KiB")
    usual = _read_usual(octets, pos, end, raw)
    if usual is not None:
        return usual
    values = _TABLE.blank()
    _TABLE.walk(octets, pos, end, values)
    values.append(raw)
    return _make(Notification, values)


def _read_usual(octets: bytes, pos: int, end: int, raw: bytes) -> Notification | None:
    """The same in one line: [0], [1] or not, [2], [3], [4], [5] or not, all of short length, then the table.

    None = not of that form. It may look past `end` into what follows; the last comparisons find that out.
    """
    count = octets[pos + 1]
    if octets[pos] != _STORECLEAR or count > 127:
        return None
    body = pos + 2
    pos = body + count
    storeclear = _locations[octets[body:pos]]
    storessl = None
    if octets[pos] == _STORESSL:
        body = pos + 2
        pos = body + octets[pos + 1]
        if pos - body > 127:
            return None
        storessl = _locations[octets[body:pos]]
    count = octets[pos + 1]
    if octets[pos] != _RECIPIENT or count > 127:
        return None
    body = pos + 2
    pos = body + count
    recipient = _mailboxes[octets[body:pos]]
    if octets[pos] != _IDENTIFIER or octets[pos + 1] != KEY_OCTETS:
        return None
    body = pos + 2
    pos += _KEY_END
    identifier = octets[body:pos]
    count = octets[pos + 1]
    if octets[pos] != _SENDER or count > 127:
        return None
    body = pos + 2
    pos = body + count
    sender = _texts[octets[body:pos]]
    size = None
    last = 4
    if pos < end and octets[pos] == _SIZE:
        body = pos + 2
        pos = body + octets[pos + 1]
        size = der.read_integer(octets, body, pos)
        last = 5
    values = [storeclear, storessl, recipient, identifier, sender, size, *_EXTENSIONS]
    if pos > end:
        raise MalformedPDU("a notification longer than its TLV")
    if pos < end:
        _TABLE.walk(octets, pos, end, values, last)
    values.append(raw)
    return _make(Notification, values)


def _read_batch(octets: bytes, pos: int, end: int) -> tuple[Notification, ...]:
    values = []
    while pos < end:
        if octets[pos] != der.SEQUENCE:
            raise MalformedPDU("an element of another type inside a SEQUENCE OF")
        body, stop = der.header(octets, pos, end)
        values.append(_read(octets, body, stop, octets[pos:stop]))
        if len(values) > BATCH_NOTIFICATIONS:
            raise MalformedPDU("too many notifications")
        pos = stop
    return tuple(values)


def _octets_of(notification: Notification) -> bytes:
    return notification.raw or encode_notification(notification)


NOTIFICATION = Type(
    lambda octets, pos, end: _read(octets, pos, end, tlv(der.SEQUENCE, octets[pos:end])),
    lambda notification: _content(_octets_of(notification)),
    constructed=True,
)
"""As an element with a tag of its own; `raw` is its TLV as a universal SEQUENCE all the same."""

NOTIFICATIONS = Type(
    _read_batch, lambda batch: b"".join([_octets_of(n) for n in batch]), constructed=True, tags=(der.SEQUENCE,)
)


def _content(octets: bytes) -> bytes:
    return octets[der.header(octets, 0, len(octets))[0] :]


def encode_notification(notification: Notification) -> bytes:
    """The DER TLV (universal SEQUENCE) of a notification of our own; `raw` is ignored."""
    octets = tlv(der.SEQUENCE, _TABLE.encode(notification[:-1]))
    if len(octets) > NOTIFICATION_OCTETS:
        raise ValueError("a notification over 8 KiB")
    return octets


def decode_notification(octets: bytes) -> Notification:
    """One notification TLV, as stored in rows and files. Raises MalformedPDU."""
    try:
        body, stop = der.header(octets, 0, len(octets))
        if octets[0] != der.SEQUENCE or stop != len(octets):
            raise MalformedPDU("octets that are not one notification")
        return _read(octets, body, stop, octets)
    except IndexError:
        raise MalformedPDU("a notification that ends too soon") from None


def recipient_tlv(mailbox: Mailbox) -> bytes:
    """The ready element [2]."""
    return tlv(_RECIPIENT, MAILBOX.encode(mailbox))


def original_tlv(mailbox: Mailbox) -> bytes:
    """The ready element [17]."""
    return tlv(_ORIGINAL, MAILBOX.encode(mailbox))


def hop_tlv(hop: Hop) -> bytes:
    """The ready Hop, to be appended inside [18]."""
    return tlv(der.SEQUENCE, HOP.encode(hop))


def splice(notification: Notification, recipient: bytes, *, original: bytes, hop: bytes) -> bytes:
    """The notification for another mailbox: element [2] replaced by `recipient`, [17] `original` put in if there is
    none, `hop` appended inside [18], [19] one higher (or hops in trace + 1), [23] token dropped, every other
    octet kept (7, question 13). Raises MalformedPDU if it carries over 4 KiB of unknown elements or the result
    would pass the limit of 8 KiB.

    Where a signature stands and no [17], the [17] put in is the [2] that came, octet for octet: it is what was signed.
    """
    raw = notification.raw or encode_notification(notification)
    start = raw[1] - 0x7E if raw[1] > 127 else 2
    try:
        # [0], [1] or not, [2], [3], [4], [5] or not, all of short length: what is put in goes to the end. The module's
        # order leaves only the tags looked at here open; wrong guesses about places end in `lengths` or IndexError.
        lengths = raw[start + 1]
        pos = start + 2 + lengths
        if raw[pos] == _STORESSL:
            lengths |= raw[pos + 1]
            pos += 2 + raw[pos + 1]
        count = raw[pos + 1]
        after = pos + 2 + count
        end = after + _KEY_END
        sender = raw[end + 1]
        end += 2 + sender
        plain = lengths | count | sender < 128 and raw[pos] == _RECIPIENT and raw[after] == _IDENTIFIER
        size = len(raw)
        if end != size:
            plain = plain and raw[end] == _SIZE and end + 2 + raw[end + 1] == size
    except IndexError:
        plain = False
    if not plain:
        return _splice_any(notification, raw, recipient, original, hop)
    added = _added[original, hop]
    content = size - start - after + pos + len(recipient) + len(added)
    if content > _CONTENT_OCTETS:
        raise MalformedPDU(_TOO_LONG)
    return b"".join((_OPENINGS[content], raw[start:pos], recipient, raw[after:], added))


class _Added(dict[tuple[bytes, bytes], bytes]):
    """[17], [18] and [19] where there was none of them: alike for a second per entry (speed 5), so kept ready."""

    def __missing__(self, key: tuple[bytes, bytes]) -> bytes:
        original, hop = key
        trace = tlv(_TRACE, hop) if hop else b""
        octets = original + trace + tlv(_HOPS, b"\x01")
        if len(self) >= MEMO_COUNT:
            self.clear()
        if len(octets) <= ADDED_OCTETS:
            self[key] = octets
        return octets


_added = _Added()
_CONTENT_OCTETS = NOTIFICATION_OCTETS - 4
_OPENINGS = [bytes((der.SEQUENCE,)) + der.length(count) for count in range(_CONTENT_OCTETS + 1)]
"""Tag and length by octets of content, as far as a notification may go."""
_TOO_LONG = "a notification over 8 KiB after the splice"


def _elements(raw: bytes) -> tuple[bytearray, list[bytes]]:
    """The elements of a notification: their tags, and their octets."""
    pos, end = der.header(raw, 0, len(raw))
    tags, elements = bytearray(), []
    while pos < end:
        stop = pos + 2 + raw[pos + 1]
        if raw[pos + 1] > 127:
            stop = der.header(raw, pos, end)[1]
        tags.append(raw[pos])
        elements.append(raw[pos:stop])
        pos = stop
    return tags, elements


def _splice_any(notification: Notification, raw: bytes, recipient: bytes, original: bytes, hop: bytes) -> bytes:
    """Element by element: replace in place, insert before the first higher tag."""
    tags, elements = _elements(raw)
    if not _KNOWN.issuperset(tags):
        _check_unknown(tags, elements)
    if notification.original is None and original:
        if notification.signature is not None:
            original = bytes((_ORIGINAL,)) + elements[tags.index(_RECIPIENT)][1:]
        _put(tags, elements, _ORIGINAL, original)
    _put(tags, elements, _RECIPIENT, recipient)
    if hop:
        _put(tags, elements, _TRACE, _longer_trace(tags, elements, len(notification.trace), hop))
    hops = len(notification.trace) if notification.hops is None else notification.hops
    _put(tags, elements, _HOPS, tlv(_HOPS, CODE.encode(min(hops + 1, 255))))
    if notification.token is not None:
        _put(tags, elements, _TOKEN, b"")
    content = b"".join(elements)
    if len(content) > _CONTENT_OCTETS:
        raise MalformedPDU(_TOO_LONG)
    return _OPENINGS[len(content)] + content


def _check_unknown(tags: bytearray, elements: list[bytes]) -> None:
    unknown = sum(len(octets) for tag, octets in zip(tags, elements, strict=True) if tag not in _KNOWN)
    if unknown > UNKNOWN_OCTETS:
        raise MalformedPDU("more than 4 KiB of unknown elements")


def _longer_trace(tags: bytearray, elements: list[bytes], hops: int, hop: bytes) -> bytes:
    if hops >= TRACE_HOPS:
        raise MalformedPDU("a trace that is full")
    place = tags.find(_TRACE)
    return tlv(_TRACE, (_content(elements[place]) if place >= 0 else b"") + hop)


def _put(tags: bytearray, elements: list[bytes], tag: int, octets: bytes) -> None:
    """`octets` where `tag` stands, else before the first higher tag, where the known ones keep the module's order."""
    place = tags.find(tag)
    if place >= 0:
        elements[place] = octets
        return
    place = len(tags)
    while tags[place - 1] not in _KNOWN_BELOW[tag]:  # a mandatory element ends this
        place -= 1
    while place < len(tags) and _context_number(tags[place]) < tag & der.NUMBER:
        place += 1
    tags.insert(place, tag)
    elements.insert(place, octets)


def _context_number(tag: int) -> int:
    """-1 for the tags of another class, which stand lower than any."""
    return tag & der.NUMBER if tag & der.CLASS == der.CONTEXT else -1


_KNOWN = frozenset(_TABLE.numbers)
_KNOWN_BELOW = {
    tag: frozenset(lower for lower, number in _TABLE.numbers.items() if number < tag & der.NUMBER)
    for tag in (_ORIGINAL, _TRACE, _HOPS)
}
