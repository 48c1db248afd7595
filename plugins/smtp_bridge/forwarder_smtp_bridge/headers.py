"""What the header section of a message says of its way: Received and Delivered-To, for loops across worlds (section 9).

Octets are looked at, nothing is decoded. Of a section of over HEAD octets only these count.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD = 64 << 10
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)", re.MULTILINE)


class Way(NamedTuple):
    """received: how many Received fields. delivered: addresses of Delivered-To fields, folded, as (all, beneath).

    beneath: only those that stand under a Received field: an MTA in front writes its own above its Received line.
    """

    received: int
    delivered: frozenset[str]
    beneath: frozenset[str]


def way_of(head: bytes) -> Way:
    """Of the first octets of a message."""
    section = _END.split(head[:HEAD], maxsplit=1)[0]
    received, delivered, beneath = 0, set[str](), set[str]()
    for name, value in _FIELD.findall(section):
        word = name.lower()
        if word == b"received":
            received += 1
        elif word == b"delivered-to":
            address = value.decode("utf-8", "replace").strip().lower()
            delivered.add(address)
            if received:
                beneath.add(address)
    return Way(received, frozenset(delivered), frozenset(beneath))
