"""What the header section of a message says of its way: for loops across worlds (bridges.md 9), and for SMTPUTF8.

Octets are looked at, nothing is decoded but addresses. Of a section of over HEAD octets only these count.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from forwarder.model import Mailbox

HEAD = 64 << 10
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:((?:[^\r\n]+|\r?\n[ \t])*)", re.MULTILINE)
_BY_UTF8 = re.compile(rb"\swith\s+UTF8(?:SMTP|LMTP)S?A?\s", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(@.*)\Z', re.DOTALL)


class Way(NamedTuple):
    """received: how many Received fields. delivered: addresses of Delivered-To fields; beneath: those that stand
    under a Received field, for an MTA in front of us writes its own above its Received line.

    asked_utf8: the MTA that had it last was asked for SMTPUTF8 (RFC 6531 4.3). wide: the fields are UTF-8 beyond ASCII.
    """

    received: int
    delivered: frozenset[str]
    beneath: frozenset[str]
    asked_utf8: bool
    wide: bool

    def was_at(self, mailbox: Mailbox) -> bool:
        return _form(mailbox) in self.delivered

    def was_at_before(self, mailbox: Mailbox) -> bool:
        """Before the MTA in front of us had it."""
        return _form(mailbox) in self.beneath


def way_of(head: bytes) -> Way:
    """Of the first octets of a message."""
    section = _END.split(head[:HEAD], maxsplit=1)[0]
    received, delivered, beneath, asked = 0, set[str](), set[str](), False
    for name, value in _FIELD.findall(section):
        word = name.lower()
        if word == b"received":
            received += 1
            asked = asked or (received == 1 and bool(_BY_UTF8.search(value + b"\n")))
        elif word == b"delivered-to":
            address = _unquoted(value.decode("utf-8", "replace").strip())
            delivered.add(address)
            if received:
                beneath.add(address)
    return Way(received, frozenset(delivered), frozenset(beneath), asked, _wide(section))


def _wide(section: bytes) -> bool:
    """Octets that are no UTF-8 are nothing that SMTPUTF8 could speak of; they go as they came."""
    if section.isascii():
        return False
    try:
        section[: section.rfind(b"\n") + 1 or None].decode()
    except UnicodeDecodeError:
        return False
    return True


def _form(mailbox: Mailbox) -> str:
    return f"{mailbox.localpart}@{mailbox.domain}".lower()


def _unquoted(address: str) -> str:
    """As `_form`."""
    address = address.removeprefix("<").removesuffix(">")
    match = _QUOTED.match(address)
    return (re.sub(r"\\(.)", r"\1", match[1]) + match[2] if match else address).lower()
