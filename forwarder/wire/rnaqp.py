"""RNAQP: a reader asks an agent what waits for him (protocol 3.2, 3.4, 5.1)."""

from __future__ import annotations

from typing import NamedTuple

from forwarder.model import ClientLocation, Notification
from forwarder.wire.rnasp import Null, Status


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
