"""How much may wait for an entry: the mail-bomb guard (protocol 6, 8b; operator 4 [limits]).

Counters in memory, rebuilt at start from the rows. What waits counts until somebody has dealt with it; what came counts
for its day (UTC). A sender is [store, sender] as one network submits it, a store too: anybody may name them, and who
forges them uses up his own share, not that of the innocent (protocol 8.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from forwarder.agent.limits import network

DAY = 86_400


class InboxLimits(NamedTuple):
    """Of one entry; 0 = none. `Route.limits` may name the same words."""

    waiting: int = 10_000
    waiting_per_sender: int = 200
    per_sender_per_day: int = 1_000
    per_store_per_day: int = 5_000


class Origin(NamedTuple):
    """Whose quota an item uses."""

    entry: str
    store: str
    sender: str
    network: str = ""

    @property
    def of_store(self) -> tuple[str, str, str]:
        return self.entry, self.store, self.network

    @classmethod
    def by(cls, entry: str, store: str, sender: str, address: str) -> Origin:
        """address: who submitted it."""
        return cls(entry, store, sender, network(address))


class Caps:
    """What waits and what came today. An item taken in is counted once and taken back once."""

    def __init__(self, limits: InboxLimits) -> None:
        self._limits = limits
        self._waiting: Counter[str] = Counter()
        self._waiting_from: Counter[Origin] = Counter()
        self._today: Counter[Origin] = Counter()
        self._today_store: Counter[tuple[str, str, str]] = Counter()
        self._day = 0

    def strikes(self, origin: Origin, limits: Mapping[str, int], now: int) -> str | None:
        """The name of the limit that one more item would pass, None if it may come in."""
        self.turn(now)
        least = self._limits if not limits else self._limits._replace(**_ours(limits))
        if least.waiting and self._waiting[origin.entry] >= least.waiting:
            return "waiting"
        if least.waiting_per_sender and self._waiting_from[origin] >= least.waiting_per_sender:
            return "waiting_per_sender"
        if least.per_sender_per_day and self._today[origin] >= least.per_sender_per_day:
            return "per_sender_per_day"
        if least.per_store_per_day and self._today_store[origin.of_store] >= least.per_store_per_day:
            return "per_store_per_day"
        return None

    def came(self, origin: Origin, count: int = 1) -> None:
        """One more waits, and came today."""
        self.waits(origin, count)
        self.counted_today(origin, count)

    def waits(self, origin: Origin, count: int = 1) -> None:
        self._waiting[origin.entry] += count
        self._waiting_from[origin] += count

    def counted_today(self, origin: Origin, count: int = 1) -> None:
        self._today[origin] += count
        self._today_store[origin.of_store] += count

    def dealt_with(self, origins: Iterable[Origin]) -> None:
        """These wait no longer."""
        for origin in origins:
            _less(self._waiting, origin.entry)
            _less(self._waiting_from, origin)

    def taken_back(self, origins: Iterable[Origin]) -> None:
        """These were counted and are no items of their own: repeats, or not written after all."""
        for origin in origins:
            self.dealt_with((origin,))
            _less(self._today, origin)
            _less(self._today_store, origin.of_store)

    def turn(self, now: int) -> None:
        """A new day: what came on the last one counts no more."""
        if now // DAY > self._day:
            self._day = now // DAY
            self._today.clear()
            self._today_store.clear()


def _ours(limits: Mapping[str, int]) -> dict[str, int]:
    return {name: limits[name] for name in InboxLimits._fields if name in limits}


def _less(counter: Counter[str] | Counter[Origin] | Counter[tuple[str, str, str]], key: object) -> None:
    counts: Counter[object] = counter  # type: ignore[assignment]  # a Counter is invariant in its key
    if counts[key] > 1:
        counts[key] -= 1
    else:
        counts.pop(key, None)
