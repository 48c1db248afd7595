"""How often one address may be connected to, whatever the cause (protocol 8.2): strangers name whom we connect to.

A notification names any store, a redirect any agent, an SRV record any host: each alone is a rumour, all together must
not become a flood at somebody who never asked. Sessions that last are not touched by this; new ones are:

* `RATE` connections a second to one address (IPv6: to a /64), `BURST` at once;
* HALF_OPEN that are being opened in all, so that addresses which never answer do not use up our files;
* after a failed connect the endpoint rests, twice as long each time, from FIRST to LONGEST seconds. Not its address:
  whoever names a dead port there would close a living one.
"""

from __future__ import annotations

from collections import OrderedDict

import trio

from forwarder.agent.limits import Buckets, Struck, submitter, unheard
from forwarder.model import Endpoint
from forwarder.ports import Clock, NoService

RATE, BURST = 20.0, 100.0
HALF_OPEN = 256
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
        self._failures: OrderedDict[Endpoint, tuple[int, float]] = OrderedDict()
        self.opening = trio.CapacityLimiter(HALF_OPEN)

    def admit(self, endpoint: Endpoint) -> None:
        """Raises NoService "noserver": not now."""
        failures, until = self._failures.get(endpoint, (0, 0.0))
        if failures and until > self._clock():
            raise NoService("noserver", f"{endpoint} rests after {failures} failures")
        if not self._buckets.take(submitter(endpoint.address)):
            self._struck("connections to an address", endpoint.address)
            raise NoService("noserver", f"{endpoint}: over the limit connections to an address")

    def ended(self, endpoint: Endpoint, *, well: bool) -> None:
        failures, _ = self._failures.pop(endpoint, (0, 0.0))
        if well:
            return
        rest = min(LONGEST, FIRST * 2.0 ** min(failures - FREE_FAILURES, 10)) if failures >= FREE_FAILURES else 0.0
        self._failures[endpoint] = (failures + 1, self._clock() + rest)
        if len(self._failures) > RESTING:
            self._failures.popitem(last=False)
