"""How often one address may be connected to, whatever the cause (protocol 8.2): strangers name whom we connect to.

A notification names any store, a redirect any agent, an SRV record any host: each alone is a rumour, all together must
not become a flood at somebody who never asked. Sessions that last are not touched by this; new ones are:

* `RATE` connections a second to one address (IPv6: to a /64), `BURST` at once;
* HALF_OPEN that are being opened in all, so that addresses which never answer do not use up our files;
* of both, those that only a stranger's word asks for have STRANGE: who names a good host does not make its mail wait;
* nor does he get us taken for a guesser of keys there: after MISSES a minute, his word leads there no more;
* after a failed connect the endpoint rests, twice as long each time, from FIRST to LONGEST seconds. Not its address:
  whoever names a dead port there would close a living one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NoReturn

import trio

from forwarder.agent.limits import Buckets, Struck, unheard
from forwarder.model import Endpoint, client_block
from forwarder.ports import Clock, NoService

RATE, BURST = 20.0, 100.0
HALF_OPEN = 256
STRANGE = 0.5
MISSES = 10.0
"""With the pulls that are under way no more than the 20 that a store allows an address (8.5)."""
FIRST, LONGEST = 1.0, 60.0
FREE_FAILURES = 3
"""Failures in a row before an endpoint rests: a peer that restarts is not made to wait."""
RESTING = 10_000


class Destinations:
    """`admit` before a connect, `ended` after it."""

    def __init__(self, clock: Clock, struck: Struck = unheard) -> None:
        self._clock = clock
        self._struck = struck
        self._buckets = Buckets(RATE, BURST, clock)
        self._strange = Buckets(RATE * STRANGE, BURST * STRANGE, clock)
        self._misses = Buckets(MISSES / 60, MISSES, clock)
        self._failures: OrderedDict[Endpoint, tuple[int, float]] = OrderedDict()
        self._opening = trio.CapacityLimiter(HALF_OPEN)
        self._opening_strange = trio.CapacityLimiter(int(HALF_OPEN * STRANGE))

    @asynccontextmanager
    async def opening(self, *, strange: bool = False) -> AsyncGenerator[None]:
        """While it is being opened."""
        async with AsyncExitStack() as held:
            if strange:
                await held.enter_async_context(self._opening_strange)
            await held.enter_async_context(self._opening)
            yield

    def admit(self, endpoint: Endpoint, *, strange: bool = False) -> None:
        """Raises NoService "noserver": not now. strange: nothing but a stranger's word asks for it."""
        failures, until = self._failures.get(endpoint, (0, 0.0))
        if failures and until > self._clock():
            raise NoService("noserver", f"{endpoint} rests after {failures} failures")
        host = client_block(endpoint.address)
        if strange and not self._misses.enough(self._misses.of(host), 1.0, self._clock()):
            self._over(endpoint, "misses at a store")
        if strange and not self._strange.take(host):
            self._over(endpoint, "connections to an address for strangers")
        if not self._buckets.take(host):
            self._over(endpoint, "connections to an address")

    def missed(self, endpoint: Endpoint) -> None:
        """What a stranger's word named was not there."""
        self._misses.take(client_block(endpoint.address))

    def _over(self, endpoint: Endpoint, limit: str) -> NoReturn:
        self._struck(limit, endpoint.address)
        raise NoService("noserver", f"{endpoint}: over the limit {limit}")

    def ended(self, endpoint: Endpoint, *, well: bool) -> None:
        failures, _ = self._failures.pop(endpoint, (0, 0.0))
        if well:
            return
        rest = min(LONGEST, FIRST * 2.0 ** min(failures - FREE_FAILURES, 10)) if failures >= FREE_FAILURES else 0.0
        self._failures[endpoint] = (failures + 1, self._clock() + rest)
        if len(self._failures) > RESTING:
            self._failures.popitem(last=False)
