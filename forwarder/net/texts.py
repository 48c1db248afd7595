"""TXT records, remembered for their TTL: what a screen asks the DNS, and a reader who verifies a signature.

Anybody can make us ask, so these look-ups have slots of their own: those of agents and stores never wait for them. What
is remembered of a name is bounded too. No answer is remembered for a moment, so that a flood asks once.
"""

from __future__ import annotations

import time

import dns.rdatatype
import trio

from forwarder.agent.limits import Strangers
from forwarder.net.lookups import Lookups, Result
from forwarder.net.resolve import Dns, NoAnswer
from forwarder.ports import Clock, NoService

SECONDS = 4.0  # for one look-up, under the patience of a screen and of a PDU
AT_ONCE = 32
SHORTEST, LONGEST = 1, 3600  # seconds a result is trusted, whatever its TTL
ABSENT_SHORTEST, ABSENT_LONGEST = 30, 300  # and an absence, or no answer
MOMENT = 5
RECORDS, RECORD_OCTETS = 4, 512  # kept of one name


class TextRecords:
    """Implements plugin.Texts."""

    def __init__(self, names: Dns, clock: Clock = time.monotonic, strangers: Strangers | None = None) -> None:
        self._strangers = strangers
        self._dns = names
        self._lookups: Lookups[tuple[str, ...]] = Lookups(clock, trio.CapacityLimiter(AT_ONCE))

    def known(self, name: str, /) -> tuple[str, ...] | None:
        """From memory, at once. None: not known, or the last look-up had no answer."""
        found = self._lookups.fresh((name, "txt"))
        return None if isinstance(found, NoService) else found

    async def find(self, name: str, /) -> tuple[str, ...]:
        """Raises NoService, a PeerError."""
        return await self._lookups.get((name, "txt"), lambda: self._find(name))

    async def _find(self, name: str) -> Result[tuple[str, ...]]:
        if self._strangers is not None and not self._strangers.admit(name):
            return Result(NoService("noserver", "over the limit look-ups of strange names"), MOMENT)
        try:
            found = await self._dns.ask(name, dns.rdatatype.TXT, SECONDS)
        except NoAnswer as silence:
            return Result(NoService("noserver", str(silence)), ABSENT_SHORTEST)
        if not found.rdatas:
            return Result((), max(ABSENT_SHORTEST, min(ABSENT_LONGEST, found.ttl)))
        if self._strangers is not None:
            self._strangers.good(name)
        texts = [b"".join(rdata.strings).decode("ascii", "replace") for rdata in found.rdatas]
        kept = [text for text in texts if len(text) <= RECORD_OCTETS][:RECORDS]
        return Result(tuple(kept), max(SHORTEST, min(LONGEST, found.ttl)))
