"""MSRAP: a reader fetches, silences and un-pins at a message store (protocol 3.2, 3.4, 4)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from forwarder.model import ContentDigest
from forwarder.wire.elements import ANY_COUNT, DIGEST, KEY, LIST_NAME, OCTETS, TIME, UNSIGNED
from forwarder.wire.rnaqp import AUTHENTICATE, AUTHENTICATED, Authenticate, Authenticated
from forwarder.wire.rnasp import NULL, STATUS, Null, Status
from forwarder.wire.shape import Arm, Choice, Field, PDUs, Sequence, enumerated, integer, sequence_of


class View(IntEnum):
    """RetrievalType: which part of the message."""

    nothing = 0
    summaryonly = 1
    headersonly = 2
    all = 3


class ScanList(NamedTuple):
    listname: str
    begintime: int


class Silence(NamedTuple):
    identifier: bytes


class UnPin(NamedTuple):
    identifier: bytes


class QuerySize(NamedTuple):
    identifier: bytes


class Retrieve(NamedTuple):
    """Octets offset..offset+length of a view; length 0 of `nothing` is the existence test."""

    identifier: bytes
    view: View
    offset: int
    length: int


class Split(NamedTuple):
    """Extension [17], reserved: no one sends it yet."""

    identifier: bytes
    pieces: int


Command = ScanList | Silence | UnPin | QuerySize | Retrieve | Authenticate | Split


class Scanned(NamedTuple):
    messages: tuple[bytes, ...]
    endtime: int


class Silenced(NamedTuple):
    """ResponseSilence."""


class UnPinned(NamedTuple):
    """ResponseUnPin."""


class Retrieved(NamedTuple):
    data: bytes
    size: int | None = None


class Size(NamedTuple):
    """ResponseQuerySize."""

    size: int
    digest: ContentDigest | None = None
    expires: int | None = None


class SplitInto(NamedTuple):
    identifiers: tuple[bytes, ...]


class Response(NamedTuple):
    abort: bool
    status: Status
    data: Null | Scanned | Silenced | UnPinned | Retrieved | Size | Authenticated | SplitInto = Null()


_KEYS = sequence_of(KEY, ANY_COUNT)
_PDUS: PDUs[Command, Response] = PDUs(
    Choice(
        Arm(0, ScanList, Sequence(ScanList, Field(0, LIST_NAME), Field(1, TIME)).type),
        Arm(1, Silence, Sequence(Silence, Field(0, KEY)).type),
        Arm(2, UnPin, Sequence(UnPin, Field(0, KEY)).type),
        Arm(3, QuerySize, Sequence(QuerySize, Field(0, KEY)).type),
        Arm(
            4,
            Retrieve,
            Sequence(Retrieve, Field(0, KEY), Field(1, enumerated(View)), Field(2, UNSIGNED), Field(3, UNSIGNED)).type,
        ),
        Arm(16, Authenticate, AUTHENTICATE),
        Arm(17, Split, Sequence(Split, Field(0, KEY), Field(1, integer(1, 1000))).type),
    ),
    STATUS,
    Choice(
        Arm(0, Null, NULL),
        Arm(1, Scanned, Sequence(Scanned, Field(0, _KEYS), Field(1, TIME)).type),
        Arm(2, Silenced, Sequence(Silenced).type),
        Arm(3, UnPinned, Sequence(UnPinned).type),
        Arm(4, Retrieved, Sequence(Retrieved, Field(0, OCTETS), Field(1, UNSIGNED, None), twin=0).type),
        Arm(5, Size, Sequence(Size, Field(0, UNSIGNED), Field(16, DIGEST, None), Field(17, TIME, None)).type),
        Arm(16, Authenticated, AUTHENTICATED),
        Arm(17, SplitInto, Sequence(SplitInto, Field(0, _KEYS)).type),
    ),
    Response,
)

decode_command, encode_command = _PDUS.decode_command, _PDUS.encode_command
decode_response, encode_response = _PDUS.decode_response, _PDUS.encode_response
