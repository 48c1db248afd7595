"""Postfix's socketmap protocol, the server's side, sans-IO: netstrings of "TABLE KEY", one answer each, in order.

Source: socketmap_table(5). receive_data, next_question until None; `answer` before the next question.
"""

from __future__ import annotations

import re
from typing import NamedTuple

REQUEST = 4096  # octets; an address has 512 at most
ANSWER = 100_000  # octets, what Postfix's client takes
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,3}):")
_DIGITS = 5  # of a length, its colon included


class Malformed(Exception):
    """No protocol that we speak: close."""


class Question(NamedTuple):
    """What is asked, and in which table. What is no UTF-8 in the key comes as U+FFFD."""

    table: str
    key: str


class MapSession:
    """One connection."""

    def __init__(self) -> None:
        self._in = bytearray()
        self._out = bytearray()

    @property
    def held(self) -> int:
        """Octets received and not handed out: below REQUEST and one receive, if it is called only after None."""
        return len(self._in)

    def receive_data(self, data: bytes | bytearray) -> None:
        """What the stream gave."""
        self._in += data

    def data_to_send(self) -> bytes:
        """The answers since the last call."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def next_question(self) -> Question | None:
        """None: it is not complete. Raises Malformed."""
        match = _LENGTH.match(self._in)
        if match is None:
            if len(self._in) >= _DIGITS or not re.fullmatch(rb"[0-9]*", self._in):
                raise Malformed("no netstring")
            return None
        length, start = int(match[1]), match.end()
        if length > REQUEST:
            raise Malformed(f"{length} octets are no address")
        if len(self._in) <= start + length:
            return None
        if self._in[start + length] != ord(","):
            raise Malformed("no end of a netstring")
        table, space, key = self._in[start : start + length].decode(errors="replace").partition(" ")
        if not space:
            raise Malformed("no key")
        del self._in[: start + length + 1]
        return Question(table, key)

    def answer(self, text: str) -> None:
        """ "OK data", "NOTFOUND ", "TEMP reason", "PERM reason"; one that Postfix would not take becomes TEMP."""
        octets = text.encode()
        if len(octets) > ANSWER:
            octets = b"TEMP the answer is too long"
        self._out += b"%d:%b," % (len(octets), octets)
