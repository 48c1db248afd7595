"""MSOAP: an originator submits, tracks and cancels at his message store (protocol 3.2, 3.4, 4)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from forwarder.model import Mailbox
from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.rnasp import Null


class Status(IntEnum):
    """MSOAP has numbers of its own (protocol 3.1)."""

    noerror = 0
    errormalformedpdu = 1
    errorcommandtimeout = 2
    errorunexpectedcommand = 3
    errorserviceshutdown = 4
    errorinternalproblem = 5
    errornotauthenticated = 6
    errornotpermitted = 7
    errornotenoughroom = 8
    errorwouldexceedquota = 9
    errorlifetimetooshort = 10


class SubmissionStatus(IntEnum):
    acceptable = 0
    submissionaccessdenied = 1


class NotificationStatus(IntEnum):
    unprocessed = 0
    baddomain = 1
    noservice = 2
    noserver = 3
    protocolerror = 4
    nouser = 5
    notifying = 6
    silenced = 7


class ReadStatus(IntEnum):
    unread = 0
    summarised = 1
    readheaders = 2
    readall = 3


class SubmitEnvelope(NamedTuple):
    """lifetime in seconds from the last chunk."""

    recipients: tuple[Mailbox, ...]
    lists: tuple[str, ...]
    lifetime: int


class SubmitMsgChunk(NamedTuple):
    islast: bool
    offset: int
    data: bytes


class Track(NamedTuple):
    identifier: bytes


class Cancel(NamedTuple):
    identifier: bytes


Command = Authenticate | SubmitEnvelope | SubmitMsgChunk | Track | Cancel


class EnvelopeAnswer(NamedTuple):
    recipients: tuple[SubmissionStatus, ...]
    lists: tuple[SubmissionStatus, ...]


class ChunkAnswer(NamedTuple):
    """Keys on the last chunk: one for each acceptable recipient, in envelope order; one for the lists."""

    identifiers: tuple[bytes, ...] = ()
    listidentifier: bytes | None = None


class DeliveryStatus(NamedTuple):
    notificationstatus: NotificationStatus
    read: ReadStatus
    pinned: bool
    redirectedto: tuple[Mailbox, ...] = ()
    lastcode: int | None = None


class Tracked(NamedTuple):
    delivery: DeliveryStatus


class Cancelled(NamedTuple):
    """ResponseCancel."""


class Response(NamedTuple):
    abort: bool
    status: Status
    data: Null | Authenticated | EnvelopeAnswer | ChunkAnswer | Tracked | Cancelled = Null()


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
