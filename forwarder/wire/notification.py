"""A notification's octets: decode once, encode ours, splice what passes through (protocol 3.4, 5.3)."""

from __future__ import annotations

from forwarder.model import Hop, Mailbox, Notification


def encode_notification(notification: Notification) -> bytes:
    """The DER TLV (universal SEQUENCE) of a notification of our own; `raw` is ignored."""
    raise NotImplementedError


def decode_notification(octets: bytes) -> Notification:
    """One notification TLV, as stored in rows and files. Raises MalformedPDU."""
    raise NotImplementedError


def recipient_tlv(mailbox: Mailbox) -> bytes:
    """The ready element [2]."""
    raise NotImplementedError


def original_tlv(mailbox: Mailbox) -> bytes:
    """The ready element [17]."""
    raise NotImplementedError


def hop_tlv(hop: Hop) -> bytes:
    """The ready Hop, to be appended inside [18]."""
    raise NotImplementedError


def splice(notification: Notification, recipient: bytes, *, original: bytes, hop: bytes) -> bytes:
    """The notification for another mailbox: element [2] replaced by `recipient`, [17] `original` put in if there is
    none, `hop` appended inside [18], [19] one higher (or hops in trace + 1), [23] token dropped, every other
    octet kept (7, question 13). Raises MalformedPDU if it carries over 4 KiB of unknown elements or the result
    would pass the limit of 8 KiB.
    """
    raise NotImplementedError
