"""The notifications our store writes: a letter when the message comes, its address when it goes out.

The letter is kept beside the message; recipient, key and store are filled in at each attempt, so that a change of the
store's published name counts at once. All forwarding marks stand here, never inside the message's octets (5.4).
"""

from __future__ import annotations

import hashlib

from forwarder.model import (
    KEY_OCTETS,
    SHA256,
    ContentDigest,
    Hop,
    Mailbox,
    Notification,
    Origin,
    ServiceLocation,
    Signature,
)
from forwarder.ports import Due
from forwarder.signature import ED25519, SigningKey, sign
from forwarder.wire.notification import decode_notification, encode_notification

_NOBODY = Mailbox("-", "invalid")
_NOWHERE = ServiceLocation()
HANDLE_OCTETS = 6


def letter(sender: str, size: int, sha256: bytes, claimed: Mailbox | None, expires: int) -> bytes:
    """For a message submitted at our store by the account `sender`."""
    return encode_notification(_blank(sender, size, sha256, claimed, expires))


def copied(
    source: Notification, sender: Mailbox, hop: Hop, size: int, sha256: bytes, claimed: Mailbox | None, expires: int
) -> bytes:
    """For a message pulled from another store by the address `sender`."""
    location = source.storeclear if source.storeclear != _NOWHERE or not source.storessl else source.storessl
    origin = Origin(location, source.sender, hashlib.sha256(source.identifier).digest()[:HANDLE_OCTETS])
    blank = _blank(str(sender), size, sha256, claimed or source.claimedfrom, expires)
    hops = (len(source.trace) if source.hops is None else source.hops) + 1
    return encode_notification(
        blank._replace(
            original=source.original or source.recipient, trace=(*source.trace, hop), hops=min(hops, 255), origin=origin
        )
    )


def addressed(due: Due, store: str, *, tls: bool = False, key: SigningKey | None = None, at: int = 0) -> bytes:
    """The TLV that goes out for a key. store: the domain that our notifications name; tls: and name over TLS too.

    key: signs it, at that time, so each attempt bears the key of its day.
    """
    blank = decode_notification(due.letter)
    plain = blank._replace(
        storeclear=ServiceLocation(store),
        storessl=ServiceLocation(store) if tls else None,
        recipient=due.recipient,
        identifier=due.identifier,
        original=due.original or blank.original,
        token=due.token,
    )
    return encode_notification(plain) if key is None else _signed(plain, key, at)


def _signed(plain: Notification, key: SigningKey, at: int) -> bytes:
    """Unsigned where a long trace leaves no room: absent is neutral, lost is not."""
    blank = Signature(key.domain, key.selector, ED25519, at, b"")
    try:
        value = sign(encode_notification(plain._replace(signature=blank)), key.private)
        return encode_notification(plain._replace(signature=blank._replace(value=value)))
    except ValueError:
        return encode_notification(plain)


def sender_of(due: Due) -> str:
    return decode_notification(due.letter).sender


def _blank(sender: str, size: int, sha256: bytes, claimed: Mailbox | None, expires: int) -> Notification:
    digest = ContentDigest(SHA256, sha256)
    return Notification(
        *(_NOWHERE, None, _NOBODY, bytes(KEY_OCTETS), sender),
        size=size,
        digest=digest,
        expires=expires,
        claimedfrom=claimed,
    )
