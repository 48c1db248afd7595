"""How much one submitter may send: a token bucket for each address (protocol 8.1), bounded in number.

An IPv6 submitter is a /64, an IPv4 one a single address. Networks of `[network] trusted` have no bucket.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence

from forwarder.ports import Clock

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
BURST_SECONDS = 10
BUCKETS = 65536


def submitter(address: str) -> str:
    """The name a submitter is counted under."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


class SubmitterLimit:
    """`rate` notifications a second from one submitter, with ten seconds' worth at once; 0 = no limit."""

    def __init__(self, rate: float, trusted: Sequence[Network], clock: Clock) -> None:
        self._rate = rate
        self._trusted = tuple(trusted)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._exempt: dict[str, bool] = {}
        self.struck = 0

    def exempt(self, address: str) -> bool:
        """Whether the address is one of our own machines or edge servers."""
        known = self._exempt.get(address)
        if known is None:
            try:
                parsed = ipaddress.ip_address(address.partition("%")[0])
                known = any(parsed.version == net.version and parsed in net for net in self._trusted)
            except ValueError:
                known = False
            if len(self._exempt) >= BUCKETS:
                self._exempt.clear()
            self._exempt[address] = known
        return known

    def allows(self, address: str, notifications: int) -> bool:
        """Takes that many tokens; False (and nothing taken) where there are not enough."""
        if not self._rate or self.exempt(address):
            return True
        name, now = submitter(address), self._clock()
        full = self._rate * BURST_SECONDS
        tokens, since = self._buckets.pop(name, (full, now))
        tokens = min(full, tokens + max(0.0, now - since) * self._rate)
        allowed = tokens >= min(notifications, full)
        self._buckets[name] = (tokens - notifications if allowed else tokens, now)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        self.struck += not allowed
        return allowed
