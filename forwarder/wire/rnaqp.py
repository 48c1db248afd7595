"""RNAQP: a reader asks an agent what waits for him (protocol 3.2, 3.4, 5.1)."""

from __future__ import annotations

from typing import NamedTuple

from forwarder.model import ClientLocation, Notification
from forwarder.wire.elements import CLIENT, OCTETS, TEXT, TIME
from forwarder.wire.notification import NOTIFICATION
from forwarder.wire.rnasp import NULL, Null, Status
from forwarder.wire.shape import BOOLEAN, Arm, Choice, Field, PDUs, Sequence, enumerated, integer, sequence_of

ITEMS = 1000
CURSORS = 1000


class Authenticate(NamedTuple):
    account: str
    password: str


class RetrieveAndClear(NamedTuple):
    """As published: hand over and forget in one step."""

    max: int | None = None


class Peek(NamedTuple):
    """Extension [16]: show, keep."""

    after: bytes | None
    max: int


class Clear(NamedTuple):
    """Extension [17]: forget these, for all accounts of their mailbox."""

    cursors: tuple[bytes, ...]


Command = Authenticate | RetrieveAndClear | Peek | Clear


class Item(NamedTuple):
    """NotificationAndLocalData. `notification` is as it came, its octets included."""

    notification: Notification
    submitter: ClientLocation
    date: int
    cursor: bytes | None = None


class Authenticated(NamedTuple):
    """ResponseAuthenticate."""


class RetrievedAndCleared(NamedTuple):
    items: tuple[Item, ...]
    more: bool | None = None


class Peeked(NamedTuple):
    items: tuple[Item, ...]
    more: bool | None = None


class Cleared(NamedTuple):
    """ResponseClear."""


class Response(NamedTuple):
    abort: bool
    status: Status
    data: Null | Authenticated | RetrievedAndCleared | Peeked | Cleared = Null()


AUTHENTICATE = Sequence(Authenticate, Field(0, TEXT), Field(1, TEXT)).type
AUTHENTICATED = Sequence(Authenticated).type
_MAX = integer(1, 65535)
_ITEM = Sequence(Item, Field(0, NOTIFICATION), Field(1, CLIENT), Field(2, TIME), Field(16, OCTETS, None)).type
_LIST = (Field(0, sequence_of(_ITEM, ITEMS)), Field(16, BOOLEAN, None))
STATUS = enumerated(Status, read_as={Status.errornosuchmessage: Status.errornotauthenticated})
"""7 is errornotauthenticated once more (gap 10): read as 3, never written."""
_PDUS: PDUs[Command, Response] = PDUs(
    Choice(
        Arm(0, Authenticate, AUTHENTICATE),
        Arm(1, RetrieveAndClear, Sequence(RetrieveAndClear, Field(16, _MAX, None)).type),
        Arm(16, Peek, Sequence(Peek, Field(0, OCTETS, None), Field(1, _MAX)).type),
        Arm(17, Clear, Sequence(Clear, Field(0, sequence_of(OCTETS, CURSORS))).type),
    ),
    STATUS,
    Choice(
        Arm(0, Null, NULL),
        Arm(1, Authenticated, AUTHENTICATED),
        Arm(2, RetrievedAndCleared, Sequence(RetrievedAndCleared, *_LIST).type),
        Arm(16, Peeked, Sequence(Peeked, *_LIST).type),
        Arm(17, Cleared, Sequence(Cleared).type),
    ),
    Response,
)

decode_command, encode_command = _PDUS.decode_command, _PDUS.encode_command
decode_response, encode_response = _PDUS.decode_response, _PDUS.encode_response
