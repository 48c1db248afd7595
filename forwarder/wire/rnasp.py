"""RNASP: a store (or a forwarder) notifies an agent. One command, one answer (protocol 3.4, 5.0)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from forwarder.model import Notification, Outcome


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


def decode_command(pdu: bytes) -> Command:
    """Raises MalformedPDU."""
    raise NotImplementedError


def encode_command(command: Command) -> bytes:
    raise NotImplementedError


def encode_batch(notifications: Sequence[bytes], capabilities: bytes = b"") -> bytes:
    """A whole CommandNotify PDU of ready notification TLVs and a ready capabilities TLV (tag [16])."""
    raise NotImplementedError


def decode_response(pdu: bytes) -> Response:
    """Raises MalformedPDU."""
    raise NotImplementedError


def encode_response(response: Response) -> bytes:
    raise NotImplementedError
