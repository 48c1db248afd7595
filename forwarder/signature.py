"""The Ed25519 signature of a notification (protocol 5.0): what it covers, how its key is published, whether it is good.

Octets in, octets or a verdict out: no clock, no look-up. What is covered is taken from the octets that came, element by
element, so whatever a forwarder adds or replaces (recipient, trace, hops, origin, report, token) changes nothing.
`cryptography` is imported when there is something to sign or to verify, never by a verb that does neither.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from forwarder.model import Notification

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PURPOSE = b"im2000-notify-1\0"
ED25519 = 1
LABEL = "_im2000-key"
KEY_OCTETS = 32
RECORDS = 4
"""Keys tried of one name."""

Verdict = Literal["good", "wrong", "unknown"]
"""unknown: no such key is published, which proves nothing either way."""

_SEQUENCE, _RECIPIENT, _ORIGINAL, _SIGNATURE, _VALUE = 0x30, 0xA2, 0xB1, 0xB6, 0x84
_COVERED = (0xA0, 0xA1, _RECIPIENT, 0x83, 0x84, 0x85, 0xB0, 0x95, 0xB9)
"""Elements 0, 1, 2 (or 17 in its place), 3, 4, 5, 16, 21, 25, in this order; [22] follows."""
_SELECTOR = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?){0,3}\Z")
_TAG = re.compile(r"\s*([a-z][a-z0-9_]*)\s*=\s*(.*?)\s*\Z")


class SigningKey(NamedTuple):
    """A store's private key. domain: the store's; private: the 32 octets of RFC 8032 5.1.5."""

    domain: str
    selector: str
    private: bytes


class WrongSignature(ValueError):
    """No key could make this signature good. The text says why."""


# -- what is signed


def signed_octets(raw: bytes) -> bytes:
    """What a signature covers of a notification's octets (its TLV). Raises ValueError where it has none."""
    elements = dict(_elements(_content(raw)))
    if _SIGNATURE not in elements:
        raise ValueError("a notification without a signature")
    if _ORIGINAL in elements:
        elements[_RECIPIENT] = bytes((_RECIPIENT,)) + elements[_ORIGINAL][1:]
    parts = [elements[tag] for tag in _COVERED if tag in elements]
    signature = [
        bytes((_VALUE, 0)) if tag == _VALUE else octets for tag, octets in _elements(_content(elements[_SIGNATURE]))
    ]
    return PURPOSE + _tlv(_SEQUENCE, b"".join((*parts, _tlv(_SIGNATURE, b"".join(signature)))))


def _content(octets: bytes) -> bytes:
    return octets[2 if octets[1] < 128 else 2 + (octets[1] & 0x7F) :]


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Of octets that were decoded before: tags have one octet, lengths are definite."""
    at = 0
    while at < len(content):
        length, start = content[at + 1], at + 2
        if length > 127:
            start += length & 0x7F
            length = int.from_bytes(content[at + 2 : start], "big")
        yield content[at], content[at : start + length]
        at = start + length


def _tlv(tag: int, content: bytes) -> bytes:
    count = len(content)
    if count < 128:
        return bytes((tag, count)) + content
    length = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


# -- signing


def new_private() -> bytes:
    """A new key, from the system's randomness."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def sign(raw: bytes, private: bytes) -> bytes:
    """The value for a notification whose [22] stands with an empty one."""
    return _private(private).sign(signed_octets(raw))


@lru_cache(maxsize=256)
def key_record(private: bytes) -> str:
    """The text of the TXT record that publishes a key."""
    public = base64.b64encode(_private(private).public_key().public_bytes_raw()).decode()
    return f"v=im2k1; k=ed25519; p={public}"


def key_name(domain: str, selector: str) -> str:
    """Where it stands in the DNS."""
    return f"{selector}.{LABEL}.{domain}"


# -- verifying


def question(notification: Notification) -> str | None:
    """The name whose TXT records hold its key; None: it bears no signature, or one of a sort that we do not know.

    Raises WrongSignature where it does not fit the store it names, whatever the DNS says.
    """
    signature = notification.signature
    if signature is None or signature.algorithm != ED25519:
        return None
    locations = (notification.storeclear, notification.storessl)
    named = {location.domain for location in locations if location is not None and location.domain}
    if named != {signature.domain}:
        raise WrongSignature("it is not by the store that the notification names")
    selector = signature.selector.lower()
    name = key_name(signature.domain, selector)
    if not _SELECTOR.match(selector) or len(name) > 253:
        raise WrongSignature("its selector is no name")
    return name


def judge(notification: Notification, records: Sequence[str]) -> Verdict:
    """By the TXT records that `question` names. A key that is withdrawn (empty p) makes a signature wrong."""
    keys = [key for key in map(_published, records[:RECORDS]) if key is not None]
    if not keys:
        return "unknown"
    assert notification.signature is not None
    return "good" if _fits(keys, notification.signature.value, signed_octets(notification.raw)) else "wrong"


def _fits(keys: Iterable[bytes], value: bytes, octets: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    for key in keys:
        try:
            _public(key).verify(value, octets)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _published(record: str) -> bytes | None:
    """The public key of a record, b"" where it is withdrawn; None: no record of ours, or one with a mistake in it."""
    tags: dict[str, str] = {}
    for part in record.rstrip("; ").split(";"):
        found = _TAG.match(part)
        if not found or found[1] in tags:
            return None
        tags[found[1]] = found[2]
    if next(iter(tags)) != "v" or tags["v"] != "im2k1" or tags.get("k") != "ed25519" or "p" not in tags:
        return None
    try:
        key = base64.b64decode("".join(tags["p"].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) in (0, KEY_OCTETS) else None


@lru_cache(maxsize=256)
def _private(octets: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(octets)


@lru_cache(maxsize=4096)
def _public(octets: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(octets)
