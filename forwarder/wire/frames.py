"""Stream framing: a 4-octet big-endian length before each PDU (protocol 2).

What arrives in one piece is cut out of that piece; only a torn PDU is collected, so each octet is copied at most twice.
"""

from __future__ import annotations

from forwarder.wire.der import MalformedPDU

LENGTH_OCTETS = 4


class Oversize(MalformedPDU):
    """A frame whose length is over the limit; nothing of it is read."""


def frame(pdu: bytes) -> bytes:
    return len(pdu).to_bytes(LENGTH_OCTETS, "big") + pdu


class Frames:
    """What has arrived, cut into PDUs. `limit` in octets for one PDU."""

    __slots__ = ("_data", "_pos", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data: bytes | bytearray = b""
        self._pos = 0

    def receive_data(self, data: bytes) -> None:
        rest = self._data
        if self._pos == len(rest):
            self._data = data
        elif isinstance(rest, bytearray):
            del rest[: self._pos]
            rest += data
        else:
            self._data = bytearray(rest[self._pos :])
            self._data += data
        self._pos = 0

    def next_pdu(self) -> bytes | None:
        """The next whole PDU, or None. Raises MalformedPDU on a length of zero or over `limit`."""
        data = self._data
        begin = self._pos + LENGTH_OCTETS
        if begin > len(data):
            return None
        count = int.from_bytes(data[self._pos : begin], "big")
        if not 0 < count <= self.limit:
            raise Oversize(f"a frame of {count} octets") if count else MalformedPDU("a frame of no octets")
        end = begin + count
        if end > len(data):
            return None
        self._pos = end
        return bytes(data[begin:end])

    @property
    def held(self) -> int:
        """Octets that have arrived and were not handed out."""
        return len(self._data) - self._pos

    @property
    def empty(self) -> bool:
        """Nothing has arrived that was not handed out."""
        return self._pos == len(self._data)

    @property
    def inside(self) -> bool:
        """A PDU has begun and is not complete: the per-PDU read deadline counts."""
        begin = self._pos + LENGTH_OCTETS
        if begin > len(self._data):
            return not self.empty
        return begin + int.from_bytes(self._data[self._pos : begin], "big") > len(self._data)
