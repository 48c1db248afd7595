"""MSOAP: an originator submits, tracks and cancels at his message store (protocol 3.2, 3.4, 4)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from forwarder.model import Mailbox
from forwarder.wire.elements import ANY_COUNT, CODE, KEY, LIST_NAME, MAILBOX, OCTETS, SECONDS, UNSIGNED
from forwarder.wire.rnaqp import AUTHENTICATE, AUTHENTICATED, Authenticate, Authenticated
from forwarder.wire.rnasp import NULL, Null
from forwarder.wire.shape import BOOLEAN, Arm, Choice, Field, PDUs, Sequence, enumerated, sequence_of


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


_MAILBOXES = sequence_of(MAILBOX, ANY_COUNT)
_STATUSES = sequence_of(enumerated(SubmissionStatus), ANY_COUNT)
_DELIVERY = Sequence(
    DeliveryStatus,
    Field(0, enumerated(NotificationStatus)),
    Field(1, enumerated(ReadStatus)),
    Field(2, BOOLEAN),
    Field(16, _MAILBOXES, ()),
    Field(17, CODE, None),
).type
_ENVELOPE = Sequence(
    SubmitEnvelope,
    Field(0, _MAILBOXES, ()),
    Field(1, sequence_of(LIST_NAME, ANY_COUNT), ()),
    Field(2, SECONDS),
).type
_PDUS: PDUs[Command, Response] = PDUs(
    Choice(
        Arm(0, Authenticate, AUTHENTICATE),
        Arm(1, SubmitEnvelope, _ENVELOPE),
        Arm(
            2,
            SubmitMsgChunk,
            Sequence(SubmitMsgChunk, Field(0, BOOLEAN), Field(1, UNSIGNED), Field(2, OCTETS)).type,
        ),
        Arm(3, Track, Sequence(Track, Field(0, KEY)).type),
        Arm(4, Cancel, Sequence(Cancel, Field(0, KEY)).type),
    ),
    enumerated(Status),
    Choice(
        Arm(0, Null, NULL),
        Arm(1, Authenticated, AUTHENTICATED),
        Arm(2, EnvelopeAnswer, Sequence(EnvelopeAnswer, Field(0, _STATUSES, ()), Field(1, _STATUSES, ())).type),
        Arm(
            3,
            ChunkAnswer,
            Sequence(ChunkAnswer, Field(0, sequence_of(KEY, ANY_COUNT), ()), Field(1, KEY, None)).type,
        ),
        Arm(4, Tracked, Sequence(Tracked, Field(0, _DELIVERY)).type),
        Arm(5, Cancelled, Sequence(Cancelled).type),
    ),
    Response,
)

decode_command, encode_command = _PDUS.decode_command, _PDUS.encode_command
decode_response, encode_response = _PDUS.decode_response, _PDUS.encode_response
