"""Notifications: made, signed, verified, and rewritten as a forwarder does (docs/protocol.md 6.2, 8.1, 11.3)."""

from __future__ import annotations

import hashlib
from typing import Any

from . import der, ed25519
from .module import Record, content, decode, encode

COVERED = (0, 1, 2, 3, 4, 5, 16, 21, 25, 22)
PREFIX = b"im2000-notify-1\0"


def mailbox(text: str) -> dict[str, Any]:
    local, _, domain = text.rpartition("@")
    return {"localpart": local, "domain": domain.split(".")}


def address(box: dict[str, Any]) -> str:
    return f"{box['localpart']}@{'.'.join(box['domain'])}"


def at_domain(name: str) -> tuple[str, list[str]]:
    return "domain", name.split(".")


def sha256(octets: bytes) -> dict[str, Any]:
    return {"algorithm": 1, "value": hashlib.sha256(octets).digest()}


def covered(notification: bytes) -> bytes:
    """What a signature speaks for, out of the content of a notification."""
    found = {tag & 0x1F: (tag, body) for tag, body in der.elements(notification) if tag & der.CLASSES == der.CONTEXT}
    parts = []
    for number in COVERED:
        if number == 2 and 17 in found:
            parts.append(der.element(0xA2, found[17][1]))
        elif number == 22:
            parts.append(_unsigned(*found[22]))
        elif number in found:
            parts.append(der.element(*found[number]))
    return PREFIX + der.element(0x30, b"".join(parts))


def _unsigned(tag: int, body: bytes) -> bytes:
    inner = [(t, b"" if t == 0x84 else b) for t, b in der.elements(body)]
    return der.element(tag, b"".join(der.element(*one) for one in inner))


def sign(notification: dict[str, Any], secret: bytes, selector: str, domain: str, at: int) -> dict[str, Any]:
    """The notification with a signature by the store `domain`."""
    head = {"domain": domain.split("."), "selector": selector, "algorithm": 1, "at": at}
    unsigned = {**notification, "signature": {**head, "value": b""}}
    value = ed25519.sign(secret, covered(content("Notification", unsigned)))
    return {**notification, "signature": {**head, "value": value}}


def verified(notification: Record, public: bytes) -> bool:
    """The signature is there, is by that key, and by the domain that both locations name."""
    signature = notification.get("signature")
    if signature is None or signature["algorithm"] != 1:
        return False
    for name in ("storeclear", "storessl"):
        if name in notification and notification[name] not in (("literals", []), ("domain", signature["domain"])):
            return False
    return ed25519.verifies(public, covered(notification.raw), signature["value"])


def rewritten(notification: Record, target: str, hop: dict[str, Any]) -> Record:
    """For another recipient; all that is not the rewriter's own stays octet for octet, where it stood."""
    found = [
        (tag & 0x1F if tag & der.CLASSES == der.CONTEXT else -1, tag, body)
        for tag, body in der.elements(notification.raw)
    ]
    came = {number: body for number, _, body in found}
    own = {2: der.element(0xA2, content("MailBox", mailbox(target))), 17: der.element(0xB1, came.get(17, came[2]))}
    own[18] = der.element(0xB2, came.get(18, b"") + encode("Hop", hop))
    own[19] = der.element(0x93, der.integer(1 + notification.get("hops", len(notification.get("trace", [])))))
    parts: list[bytes] = []
    for number, tag, body in found:
        parts += [own.pop(mine) for mine in sorted(own) if mine < number]
        if number != 23:
            parts.append(own.pop(number, der.element(tag, body)))
    parts += [own[mine] for mine in sorted(own)]
    made: Record = decode("Notification", der.element(0x30, b"".join(parts)))
    return made
