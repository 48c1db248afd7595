"""How many answers a network may have in a second: answers go where a forged sender address points.

Counted for each /24 and /56, as response rate limiting does (ISC RRL): over the limit every second answer is an empty
one with TC, so that a real client comes back by TCP, whose address is no forgery; the others are dropped.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Literal

NETWORKS = 65536  # counted at once; beyond them counting begins anew

Struck = Callable[[str, str], None]
Verdict = Literal["answer", "slip", "drop"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_of(address: str) -> str | bytes:
    """The /24 or /56 of an address as `recvfrom` gives it: what one customer may command."""
    if ":" not in address:
        return address[: address.rindex(".")]
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:15] if packed[:12] == bytes(10) + b"\xff\xff" else packed[:7]


def unheard(name: str, who: str) -> None:
    """Where nobody counts."""


class AnswerRate:
    """Counts by whole seconds. per_second = 0: no limit. trusted: networks that have none."""

    def __init__(self, per_second: int, trusted: Sequence[Network] = ()) -> None:
        self._limit = per_second
        self._trusted = tuple(trusted)
        self.struck: Struck = unheard
        self._second = 0
        self._counts: dict[str | bytes, int] = {}
        self._free: dict[str | bytes, bool] = {}

    def verdict(self, address: str, now: float) -> Verdict:
        """What the next answer to an address may be. now in seconds, never going back."""
        if not self._limit:
            return "answer"
        if int(now) != self._second or len(self._counts) >= NETWORKS:
            self._second = int(now)
            self._counts.clear()
        network = network_of(address)
        count = self._counts[network] = self._counts.get(network, 0) + 1
        if count <= self._limit or self._trusts(address):
            return "answer"
        self.struck("dns answers", address)
        return "slip" if (count - self._limit) % 2 else "drop"

    def _trusts(self, address: str) -> bool:
        """Asked only beyond the limit; remembered, since it takes 3 us."""
        free = self._free.get(address)
        if free is None:
            if len(self._free) >= NETWORKS:
                self._free.clear()
            parsed = ipaddress.ip_address(address.partition("%")[0])
            free = self._free[address] = any(parsed in network for network in self._trusted)
        return free
