"""The octets of a message as SMTP's DATA carries them, made as it comes in: nothing is held but the piece.

What has only CRLF lines passes unchanged but for dot-stuffing, so signatures stay valid. A bare LF becomes CRLF and a
bare CR a space whoever sent it: SMTP forbids both (RFC 5321 2.3.8), and LF . CRLF would end the message at a smarthost
that forgives them and let its rest speak as commands.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

PIECE = 64 << 10

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_NAME = b"return-path"
_RETURN_PATH = re.compile(_NAME + rb"[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that is whole, and what must be known of it before MAIL.

    size: octets as RFC 1870 counts them, before dots are stuffed. changed: bare CR and LF that were replaced.
    """

    size: int
    eight_bit: bool
    changed: int
    pieces: Callable[[], AsyncGenerator[bytes, None]]
    """What follows 354, up to the dot; from its first octet for each try. Raises OSError."""


class Lines:
    """Makes every line end CRLF. `changed` counts what was replaced; the last line is ended too, which is no change."""

    def __init__(self) -> None:
        self.changed = 0
        self._cr = b""
        self._open = False

    def feed(self, piece: bytes) -> bytes:
        """Never ends between CR and LF."""
        octets = self._cr + piece
        self._cr = b"\r" if octets.endswith(b"\r") else b""
        octets = octets[: len(octets) - len(self._cr)]
        if not octets:
            return b""
        if not octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n"):
            octets, spaces = _BARE_CR.subn(b" ", octets)
            octets, ends = _BARE_LF.subn(b"\r\n", octets)
            self.changed += spaces + ends
        self._open = not octets.endswith(b"\n")
        return octets

    def finish(self) -> bytes:
        """What is still missing of the last line."""
        last = b" " if self._cr else b""
        self.changed += len(last)
        return last + b"\r\n" if last or self._open else b""


class Stuffing:
    """`front`, then the message; without the Return-Path field at its head if that shall not stay.

    size, eight_bit, changed: as in `Letter`, of what went through so far.
    """

    def __init__(self, front: bytes = b"", *, return_path: bool = True) -> None:
        self.size = 0
        self.eight_bit = False
        self._front = front
        self._head: bytes | None = None if return_path else b""
        """What has come while it is open whether a Return-Path is at the head; None: that is known, or no matter."""
        self._lines = Lines()
        self._fresh = True

    @property
    def changed(self) -> int:
        return self._lines.changed

    def feed(self, piece: bytes) -> bytes:
        if self._head is not None:
            self._head += piece
            length = _return_path(self._head)
            if length is None:
                return b""
            piece, self._head = self._head[length:], None
        return self._stuffed(piece)

    def finish(self) -> bytes:
        """What is still missing; the dot is not part of it."""
        held, self._head = self._head or b"", None
        last = self._stuffed(held)
        missing = self._lines.finish()
        self.size += len(missing)
        return last + missing

    def _stuffed(self, piece: bytes) -> bytes:
        octets = self._lines.feed(self._front + piece)
        self._front = b""
        if not octets:
            return b""
        self.size += len(octets)
        self.eight_bit = self.eight_bit or not octets.isascii()
        dot = b"." if self._fresh and octets.startswith(b".") else b""
        self._fresh = octets.endswith(b"\n")
        return dot + octets.replace(b"\r\n.", b"\r\n..")


def _return_path(head: bytes) -> int | None:
    """The length of the field at the head, 0 if it is another. None: more must come, but not more than a piece."""
    more = None if len(head) < PIECE else 0
    found = _RETURN_PATH.match(head)
    if found is None:
        other = b"\n" in head or head[: len(_NAME)].lower() != _NAME[: len(head)]
        return 0 if other else more
    end = found.end()
    return more if head[end : end + 1] in (b"", b" ", b"\t") else end
