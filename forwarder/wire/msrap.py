"""MSRAP: a reader fetches, silences and un-pins at a message store (protocol 3.2, 3.4, 4)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from forwarder.model import ContentDigest
from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.rnasp import Null, Status


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


def decode_command(pdu: bytes) -> Command:
    """Raises MalformedPDU."""
    raise NotImplementedError


def encode_command(command: Command) -> bytes:
    raise NotImplementedError


def decode_response(pdu: bytes) -> Response:
    """Raises MalformedPDU."""
    raise NotImplementedError


def encode_response(response: Response) -> bytes:
    raise NotImplementedError
