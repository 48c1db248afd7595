"""Lists: a name, and keys by the second they came (protocol 3.2, 5.5).

* ScanList gives [begin, end); `end` is the next begin and never past the present second, nor past a second in which a
  key is on its way to the disk: so a reader who goes on from `end` meets every key, some of them twice. Not even where
  he asks from a time to come.
* A full answer ends at a second's border.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

SCAN_KEYS = 10_000
MOST_KEYS = 50_000
"""Keys that one answer can hold at all: 18 octets each in a PDU of 1 MiB."""


class Page(NamedTuple):
    """One answer to ScanList."""

    keys: tuple[bytes, ...]
    end: int


def capability() -> str:
    """A list name for readers of 2004: 128 random bits, nothing in it to guess."""
    return secrets.token_hex(16)


def page(found: Sequence[tuple[int, bytes]], begin: int, present: int, limit: int = SCAN_KEYS) -> Page:
    """`found`: (second, key) from `begin` on, in order, more than `limit` of them where there are more."""
    shown = [item for item in found if item[0] <= present]
    if len(shown) <= limit:
        return Page(tuple(key for _, key in shown), present)
    first, border = shown[0][0], shown[limit][0]
    if border == first:  # one second holds more than an answer: whole, or there would be no way past it
        return Page(tuple(key for second, key in shown if second == first), min(first + 1, present))
    return Page(tuple(key for second, key in shown if second < border), border)
