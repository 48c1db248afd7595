"""A message on its way into a POP3 answer: octets in, lines with their dots doubled out, over any edges of slices.

* A message of CRLF lines arrives octet for octet (RFC 1939 3). A bare LF becomes CRLF: clients end lines at LF, and
  LF . CRLF inside a message would else end the answer for some and not for others. So a signature over the message as
  mail (CRLF) stays good, and the size told before is short by the number of such lines.
* A bare CR is an octet like any other; no client ends a line at it.
* What does not end with CRLF gets one before the dot: there is no other way to say it. An empty message stays empty.
* CR and LF of a line's end never part: a CR at a slice's end is held until the next.
"""

from __future__ import annotations

END = b".\r\n"


class Stuffing:
    """lines: of the body at most, after the header section (TOP); None: all. full: no more is needed."""

    def __init__(self, lines: int | None = None) -> None:
        self.full = False
        self._held = b""
        self._at_start = True
        self._in_head = lines is not None
        self._left = lines

    def feed(self, data: bytes) -> bytes:
        """What goes out for these octets; perhaps nothing yet, or any more."""
        if self.full:
            return b""
        data = self._held + data
        self._held = data[-1:] if data.endswith(b"\r") else b""
        data = data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return self._stuffed(self._cut(data))

    def end(self) -> bytes:
        """The rest, and the dot."""
        rest, self._held = self._held, b""
        rest = self._stuffed(b"" if self.full else rest)
        return rest + (b"" if self._at_start else b"\r\n") + END

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return data
        first = b"." if self._at_start and data.startswith(b".") else b""
        self._at_start = data.endswith(b"\n")
        return first + data.replace(b"\n.", b"\n..")

    def _cut(self, data: bytes) -> bytes:
        """The header section, its empty line, and so many lines after it."""
        if self._left is None:
            return data
        body = self._head(data) if self._in_head else 0
        if body < 0:
            return data
        self._in_head = False
        lines = data.count(b"\n", body)
        if lines < self._left:
            self._left -= lines
            return data
        end = body
        for _ in range(self._left):
            end = data.index(b"\n", end) + 1
        self.full = True
        return data[:end]

    def _head(self, data: bytes) -> int:
        """Where the body begins in these octets; -1: not in these."""
        if self._at_start and data.startswith(b"\r\n"):
            return 2
        end = data.find(b"\r\n\r\n")
        return end if end < 0 else end + 4
