"""Stream framing: a 4-octet big-endian length before each PDU (protocol 2)."""

from __future__ import annotations


def frame(pdu: bytes) -> bytes:
    return len(pdu).to_bytes(4, "big") + pdu


class Frames:
    """What has arrived, cut into PDUs. `limit` in octets for one PDU."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def receive_data(self, data: bytes) -> None:
        raise NotImplementedError

    def next_pdu(self) -> bytes | None:
        """The next whole PDU, or None. Raises MalformedPDU on a length of zero or over `limit`."""
        raise NotImplementedError

    @property
    def inside(self) -> bool:
        """A PDU has begun and is not complete: the per-PDU read deadline counts."""
        raise NotImplementedError
