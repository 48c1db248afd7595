"""The octets between 354 and the end of data, as they come and without memory of what went by (RFC 5321 4.5.2).

CR LF . CR LF ends, and nothing else does: LF.LF, LF.CRLF, CR.CR and all their kin are content. The dot behind a CR LF
goes, no other octet is changed. A piece never parts what might become one of the two.
"""

from __future__ import annotations

PIECE = 64 * 1024
_END = b"\r\n.\r\n"
_BEGINNINGS = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))


class Unstuffing:
    """Takes a message out of the front of a buffer, piece by piece.

    Data begins at the beginning of a line: the CR LF of the DATA command is taken for the one before it.
    """

    def __init__(self, held: bytearray) -> None:
        held[:0] = b"\r\n"
        self._held = held
        self._first = True
        self.ended = False

    def take(self) -> bytes:
        """At most PIECE octets; b"" if the message has `ended`, or if more must come first."""
        window = bytes(self._held[:PIECE])
        end = window.find(_END)
        self.ended = end >= 0
        stop = end + 2 if self.ended else len(window) - _undecided(window)
        del self._held[: stop + 3 if self.ended else stop]
        piece = window[:stop].replace(b"\r\n.", b"\r\n")
        if self._first and stop:
            self._first = False
            piece = piece[2:]
        return piece


def _undecided(window: bytes) -> int:
    """How many octets at the end may be the beginning of an end."""
    return next((len(start) for start in _BEGINNINGS if window.endswith(start)), 0)
