"""The octets of a message as SMTP's DATA carries them, in pieces: nothing is held but the piece.

What has only CRLF lines passes unchanged but for dot-stuffing, so signatures stay valid. A bare LF becomes CRLF and a
bare CR a space whoever sent it: SMTP forbids both (RFC 5321 2.3.8), and LF . CRLF would end the message at a smarthost
that forgives them and let its rest speak as commands. The last piece holds the dot: in a write of its own it could
wait 40 ms for an acknowledgement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE = 64 << 10

Spool = Callable[[], BinaryIO]
"""Opens a message at its first octet; asked again for each try. Called in a thread."""

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_RETURN_PATH = re.compile(rb"return-path[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE)


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


def pieces(file: BinaryIO, *, front: bytes = b"", return_path: bool = True) -> Iterator[bytes]:
    """`front`, then the message; without the Return-Path field at its head if that shall not stay."""
    first = file.read(PIECE)
    found = None if return_path else _RETURN_PATH.match(first)
    if found and found.end() < len(first):
        first = first[found.end() :]
    yield front + first
    while piece := file.read(PIECE):
        yield piece


@dataclass(frozen=True, slots=True)
class Survey:
    """What must be known before MAIL. size: octets as RFC 1870 counts them, before dots are stuffed."""

    size: int
    eight_bit: bool
    changed: int


def survey(message: Iterable[bytes]) -> Survey:
    lines, size, eight_bit = Lines(), 0, False
    for piece in message:
        size += len(lines.feed(piece))
        eight_bit = eight_bit or not piece.isascii()
    return Survey(size + len(lines.finish()), eight_bit, lines.changed)


def data(message: Iterable[bytes]) -> Iterator[bytes]:
    """As it follows 354, the final dot within the last piece."""
    lines, fresh, held = Lines(), True, b""
    for piece in message:
        octets = lines.feed(piece)
        if not octets:
            continue
        if held:
            yield held
        held = (b"." if fresh and octets.startswith(b".") else b"") + octets.replace(b"\r\n.", b"\r\n..")
        fresh = octets.endswith(b"\n")
    yield held + lines.finish() + b".\r\n"
