"""Guessing keys costs patience (protocol 8.5): after FREE misses in a minute an address waits before each look.

A miss is a key, or a list's name, that this store never issued. The wait comes before the look and is the same for
every command, so it tells nothing; who only shares the address with a guesser is slower, never refused.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from forwarder.agent.limits import Struck, unheard
from forwarder.model import client_block

FREE = 20
WINDOW = 60.0
LONGEST = 16.0
ADDRESSES = 10_000


class Misses:
    """Counts by IPv4 address or IPv6 /64, the last ADDRESSES of them."""

    def __init__(self) -> None:
        self.struck: Struck = unheard
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> None:
        name = client_block(address)
        begin, count = self._windows.pop(name, (trio.current_time(), 0))
        if trio.current_time() - begin > WINDOW:
            begin, count = trio.current_time(), 0
        self._windows[name] = (begin, count + 1)
        if len(self._windows) > ADDRESSES:
            self._windows.popitem(last=False)

    async def wait(self, address: str) -> None:
        begin, count = self._windows.get(client_block(address), (0.0, 0))
        if count > FREE and trio.current_time() - begin <= WINDOW:
            self.struck("key guesses", address)
            await trio.sleep(min(LONGEST, 0.5 * 2.0 ** min(count - FREE, 10)))
