"""RNASP: a store (or a forwarder) notifies an agent. One command, one answer (protocol 3.4, 5.0)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from forwarder.model import Notification, Outcome, Redirect
from forwarder.wire import der
from forwarder.wire.der import tlv
from forwarder.wire.elements import CODE, DOMAIN, LOCATION, MAILBOX, SECONDS, TEXT, TOKEN
from forwarder.wire.notification import NOTIFICATIONS
from forwarder.wire.shape import (
    COMMAND,
    MEMO_COUNT,
    Arm,
    Choice,
    Field,
    Memo,
    PDUs,
    Sequence,
    Type,
    enumerated,
    integer,
    memo,
    sequence_of,
)

_COMMANDDATA = _COMMANDNOTIFY = _NOTIFICATIONS = 0xA0
_BATCH_CAPABILITIES = 0xB0

RESULTS = 1000
REDIRECTS = 50
FEATURES = 64
READY_OCTETS = 256
ANSWERS = 1024
ANSWER_OCTETS = 1024
"""Decoded answers that are remembered; that to a batch of a hundred, all taken, has 550 octets."""


class Status(IntEnum):
    """Numbers of RNASP, RNAQP and MSRAP; 7 is MSRAP's (protocol 3.1)."""

    noerror = 0
    errormalformedpdu = 1
    errorcommandtimeout = 2
    errornotauthenticated = 3
    errorunexpectedcommand = 4
    errorserviceshutdown = 5
    errorinternalproblem = 6
    errornosuchmessage = 7


class Capabilities(NamedTuple):
    """What a peer can, for this PDU (5.0)."""

    version: int
    features: frozenset[str]
    notifier: str | None = None


class Null(NamedTuple):
    """The empty arm: errors, timeouts, aborts."""


class Notify(NamedTuple):
    """CommandNotify. An empty batch is the probe."""

    notifications: tuple[Notification, ...]
    capabilities: Capabilities | None = None


class NotifyAnswer(NamedTuple):
    """ResponseNotify: one outcome for each notification, in order, to who asked for results."""

    results: tuple[Outcome, ...] | None = None
    capabilities: Capabilities | None = None


class Response(NamedTuple):
    abort: bool
    status: Status
    data: Null | NotifyAnswer = Null()


Command = Notify


_TOKENS = ("results", "redirect", "moved", "trace", "digest", "sig", "origin", "durable", "report")
"""The order in which features are written (5.0); others follow in the order of the alphabet."""


def _in_order(features: frozenset[str]) -> list[str]:
    return [token for token in _TOKENS if token in features] + sorted(features.difference(_TOKENS))


_FEATURE_LIST = sequence_of(TEXT, FEATURES)
_FEATURES = Type(
    lambda octets, pos, end: frozenset(_FEATURE_LIST.decode(octets, pos, end)),
    lambda features: _FEATURE_LIST.encode(_in_order(features)),
    constructed=True,
)
_REDIRECT = Sequence(
    Redirect,
    Field(0, MAILBOX),
    Field(1, LOCATION, None),
    Field(2, CODE),
    Field(3, SECONDS, None),
    Field(4, TOKEN, None),
).type
_RESULT = Sequence(
    Outcome,
    Field(0, CODE),
    Field(1, sequence_of(_REDIRECT, REDIRECTS), ()),
    Field(2, SECONDS, None),
    Field(3, SECONDS, None),
    Field(4, TEXT, ""),
).type
_CAPABILITIES = memo(
    Sequence(Capabilities, Field(0, integer(1, 255)), Field(1, _FEATURES), Field(2, DOMAIN, None)).type
)
STATUS = enumerated(Status)
NULL = Sequence(Null).type


class _Results(dict[Outcome, bytes]):
    """Ready NotifyResults: of a hundred answers most are alike."""

    def __missing__(self, outcome: Outcome) -> bytes:
        octets = tlv(der.SEQUENCE, _RESULT.encode(outcome))
        if not outcome.redirects:
            if len(self) >= MEMO_COUNT:
                self.clear()
            self[outcome] = octets
        return octets


_results = _Results()
_RESULTS = sequence_of(memo(_RESULT), RESULTS)._replace(
    encode=lambda outcomes: b"".join([_results[outcome] for outcome in outcomes])
)
_NOTIFY = Sequence(Notify, Field(0, NOTIFICATIONS), Field(16, _CAPABILITIES, None))
_ANSWER = Sequence(NotifyAnswer, Field(16, _RESULTS, None), Field(17, _CAPABILITIES, None))
_PDUS: PDUs[Command, Response] = PDUs(
    Choice(Arm(0, Notify, _NOTIFY.type)),
    STATUS,
    Choice(Arm(0, Null, NULL), Arm(1, NotifyAnswer, _ANSWER.type)),
    Response,
)


decode_command, encode_command = _PDUS.decode_command, _PDUS.encode_command
"""Notifications that have their octets go as they came, the others are encoded."""


def encode_capabilities(capabilities: Capabilities) -> bytes:
    """The ready element [16] of CommandNotify, for encode_batch."""
    return tlv(_BATCH_CAPABILITIES, _CAPABILITIES.encode(capabilities))


def encode_batch(notifications: Iterable[bytes], capabilities: bytes = b"") -> bytes:
    """A whole CommandNotify PDU of ready notification TLVs and a ready capabilities TLV (tag [16])."""
    batch = tlv(_NOTIFICATIONS, b"".join(notifications))
    return tlv(COMMAND, tlv(_COMMANDDATA, tlv(_COMMANDNOTIFY, batch + capabilities)))


def decode_response(pdu: bytes) -> Response:
    """Raises MalformedPDU. Answers that come again and again are remembered by their octets."""
    return _answers[pdu]


def encode_response(response: Response) -> bytes:
    """Answers of one result at most are kept ready."""
    results = response.data.results if isinstance(response.data, NotifyAnswer) else None
    if results is not None and len(results) > 1:
        return _PDUS.encode_response(response)
    return _ready[response]


_answers: Memo[Response] = Memo(lambda pdu, pos, end: _PDUS.decode_response(pdu), ANSWERS, ANSWER_OCTETS)


class _Ready(dict[Response, bytes]):
    def __missing__(self, response: Response) -> bytes:
        octets = _PDUS.encode_response(response)
        if len(octets) <= READY_OCTETS:
            if len(self) >= MEMO_COUNT:
                self.clear()
            self[response] = octets
        return octets


_ready = _Ready()
