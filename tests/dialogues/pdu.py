"""PDUs by an independent codec: asn1tools, compiled from our module. What is sent here is made by it, what the daemon
sends is read by it, so the daemon's own codec is not believed.

asn1tools is blind to unknown elements in mid-sequence (and loops on bad input): only what the daemon sends is decoded,
and unknown elements that it must have passed on are looked for, octet for octet, and cut out first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asn1tools

import forwarder.wire

MODULE = Path(forwarder.wire.__file__).with_name("im2000.asn1")
SPEC = asn1tools.compile_files(str(MODULE), "der")
TOP = {"rnasp": "RNASPPDU", "rnaqp": "RNAQPPDU", "msrap": "MSRAPPDU", "msoap": "MSOAPPDU"}
_CLOSED = {"errormalformedpdu", "errorcommandtimeout", "errorserviceshutdown"}
_ABORTS = _CLOSED | {"errorunexpectedcommand", "errorinternalproblem"}


def tlv(tag: int, content: bytes) -> bytes:
    count = len(content)
    if count < 0x80:
        return bytes((tag, count)) + content
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def parts(content: bytes) -> list[bytes]:
    """The elements of a constructed content."""
    found, at = [], 0
    while at < len(content):
        count, body = content[at + 1], at + 2
        if count & 0x80:
            body += count & 0x7F
            count = int.from_bytes(content[at + 2 : body], "big")
        found.append(content[at : body + count])
        at = body + count
    return found


def inside(element: bytes) -> bytes:
    """The content of an element."""
    return element[2 + (element[1] & 0x7F if element[1] & 0x80 else 0) :]


def encode(protocol: str, what: str, value: Any) -> bytes:
    """what: "command" or "response"."""
    octets: bytes = SPEC.encode(TOP[protocol], (what, value))
    return octets


def decode(protocol: str, octets: bytes) -> Any:
    return SPEC.decode(TOP[protocol], octets)


def command(protocol: str, arm: str, value: Any) -> bytes:
    return encode(protocol, "command", {"commanddata": (arm, value)})


def response(protocol: str, arm: str, value: Any, status: str = "noerror", *, abort: bool = False) -> bytes:
    return encode(protocol, "response", {"forceabort": abort, "status": status, "responsedata": (arm, value)})


def error(protocol: str, status: str) -> bytes:
    return response(protocol, "null", {}, status, abort=status in _ABORTS)


def notify(notifications: list[bytes], capabilities: bytes = b"") -> bytes:
    """A CommandNotify of ready notifications, unknown elements and all."""
    return tlv(0xA1, tlv(0xA0, tlv(0xA0, tlv(0xA0, b"".join(notifications)) + capabilities)))


def capabilities(*features: str, name: str | None = None) -> bytes:
    value: dict[str, Any] = {"version": 1, "features": list(features)}
    if name is not None:
        value["notifier"] = name.split(".")
    return tlv(0xB0, inside(SPEC.encode("Capabilities", value)))


def with_elements(notification: bytes, unknown: list[bytes]) -> bytes:
    """Puts them where their tags belong."""
    elements = sorted([*parts(inside(notification)), *unknown], key=lambda element: element[0] & 0x1F)
    return tlv(0x30, b"".join(elements))


def notifications(pdu: bytes) -> list[bytes]:
    """The notifications of a CommandNotify, as they stand."""
    return parts(inside(parts(inside(inside(inside(pdu))))[0]))


def frame(pdu: bytes) -> bytes:
    return len(pdu).to_bytes(4, "big") + pdu
