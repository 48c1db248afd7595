"""How much strangers may ask of us, and what becomes known of it (protocol 8.1, 8.2, 8.4).

* Every limit has a name. When it strikes, `Strikes` counts it for `status` and tells the log, which a flood must not
  fill: each name at once, then once in QUIET seconds with the count since.
* A submitter is an IPv4 address or an IPv6 /64; a network is a /24 or a /56, what one customer may command. Both are
  charged. A store and sender that a notification names are charged only together with who submitted it: anybody may
  name them, and the innocent must still get through from elsewhere.
* Networks of `[network] trusted` are free of all this. All tables are bounded.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from forwarder.model import Notification, client_block
from forwarder.plugin import Log
from forwarder.ports import Clock

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
BURST_SECONDS = 10
BUCKETS = 65536
QUIET = 10.0
NETWORK_SHARE = 4
"""So many submitters' worth a network may send."""
SENDER_SHARE = 4
"""A [store, sender] of a submitter that has used half of its bucket has 1 / SENDER_SHARE of it."""
ASKS, ASKS_AT_ONCE = 1.0, 60.0
"""Notifications a second, and at once, of one network for which a screen may ask the network."""

STRANGE, STRANGE_AT_ONCE = 2.0, 200.0

Struck = Callable[[str, str], None]
"""The limit's name, and whom it struck."""


def unheard(name: str, who: str) -> None:
    """Where nobody counts."""


class Strikes:
    """The counts by name, for `status`; the log hears of it."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}

    def __call__(self, name: str, who: str) -> None:
        self.counts[name] += 1
        when, count = self._told.get(name, (-QUIET, 0))
        now = self._clock()
        if now - when >= QUIET:
            self._told[name] = (now, self.counts[name])
            self._log.info("limit struck", limit=name, by=who, times=self.counts[name] - count)


def network(address: str) -> str:
    """The network a submitter is counted under."""
    if ":" not in address:
        return address.rpartition(".")[0]
    return str(ipaddress.ip_network((address.partition("%")[0], 56), strict=False))


class Bucket:
    """Tokens, and since when."""

    __slots__ = ("since", "tokens")

    def __init__(self, tokens: float, since: float) -> None:
        self.tokens = tokens
        self.since = since


class Buckets:
    """Token buckets by name, BUCKETS of them, the oldest made go first: `rate` tokens a second, at most `full`."""

    def __init__(self, rate: float, full: float, clock: Clock) -> None:
        self._rate = rate
        self._full = full
        self._clock = clock
        self._buckets: dict[Hashable, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: Hashable) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[name] = Bucket(self._full, self._clock())
        return bucket

    def enough(self, bucket: Bucket, wanted: float, now: float) -> bool:
        """Fills it up to now. More than there ever are counts as all there are."""
        if now > bucket.since:
            bucket.tokens = min(self._full, bucket.tokens + (now - bucket.since) * self._rate)
            bucket.since = now
        return bucket.tokens >= wanted or bucket.tokens >= self._full

    def take(self, name: Hashable) -> bool:
        """Takes one; False where there is none."""
        bucket = self.of(name)
        if not self.enough(bucket, 1.0, self._clock()):
            return False
        bucket.tokens -= 1.0
        return True


NOBODY: Mapping[int, str] = {}


class SubmitterLimit:
    """`rate` notifications a second from one submitter, with ten seconds' worth at once; 0 = no limit."""

    def __init__(self, rate: float, trusted: Sequence[Network], clock: Clock, struck: Struck = unheard) -> None:
        self._rate = rate
        self._trusted = tuple(trusted)
        self._clock = clock
        self._struck = struck
        self._half = rate * BURST_SECONDS / 2
        self._submitters = Buckets(rate, rate * BURST_SECONDS, clock)
        self._networks = Buckets(rate * NETWORK_SHARE, rate * NETWORK_SHARE * BURST_SECONDS, clock)
        share = rate / SENDER_SHARE
        self._senders = Buckets(share, max(1.0, share * BURST_SECONDS), clock)
        self._asks = Buckets(ASKS, ASKS_AT_ONCE, clock)
        self._exempt: dict[str, bool] = {}
        self._charged: dict[str, tuple[Bucket, Bucket] | None] = {}

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

    def refused(self, address: str, notifications: Sequence[Notification]) -> Mapping[int, str]:
        """Which of a PDU's notifications are too many, by place, and the limit that says so.

        All-or-nothing for the submitter and his network; one by one for the senders named, once half is used.
        """
        if not self._rate:
            return NOBODY
        charged = self._charged[address] if address in self._charged else self._charge(address)
        if charged is None:
            return NOBODY
        own, common = charged
        now, count = self._clock(), len(notifications)
        if not self._submitters.enough(own, count, now):
            limit = "submitter_rate"
        elif not self._networks.enough(common, count, now):
            limit = "submitter_rate of a network"
        else:
            pressed = own.tokens < self._half
            own.tokens -= count
            common.tokens -= count
            return self._senders_over(client_block(address), notifications) if pressed else NOBODY
        self._struck(limit, address)
        return dict.fromkeys(range(count), limit)

    def _charge(self, address: str) -> tuple[Bucket, Bucket] | None:
        """The buckets that an address draws on, kept at hand; None for our own machines."""
        if len(self._charged) >= BUCKETS:
            self._charged.clear()
        buckets = None
        if not self.exempt(address):
            buckets = self._submitters.of(client_block(address)), self._networks.of(network(address))
        self._charged[address] = buckets
        return buckets

    def _senders_over(self, name: str, notifications: Sequence[Notification]) -> Mapping[int, str]:
        over = {
            place: "submitter_rate of a sender"
            for place, one in enumerate(notifications)
            if not self._senders.take((name, one.store, one.sender))
        }
        if over:
            self._struck("submitter_rate of a sender", name)
        return over

    def may_ask(self, address: str) -> bool:
        """Whether a screen may ask the network for a notification of his."""
        if self.exempt(address) or self._asks.take(network(address)):
            return True
        self._struck("screen look-ups", address)
        return False


class Strangers:
    """Look-ups of names that only strangers gave us: STRANGE a second, STRANGE_AT_ONCE at once, for the whole node.

    A name that was good once is no stranger's while it is remembered, so a flood of made-up names does not close the
    way to those we know. Bounded like everything a stranger fills.
    """

    def __init__(self, clock: Clock, struck: Struck = unheard) -> None:
        self._bucket = Buckets(STRANGE, STRANGE_AT_ONCE, clock)
        self._struck = struck
        self._good: OrderedDict[str, None] = OrderedDict()

    def admit(self, name: str) -> bool:
        if name in self._good or self._bucket.take(""):
            return True
        self._struck("look-ups of strange names", name)
        return False

    def good(self, name: str) -> None:
        self._good[name] = None
        self._good.move_to_end(name)
        if len(self._good) > BUCKETS:
            self._good.popitem(last=False)


class Pending(NamedTuple):
    """Whose work it is that waits to be done: an entry's, for a [store, sender], brought by a network."""

    entry: str
    store: str
    sender: str
    network: str


class PullLimit:
    """How many pulls wait to be done (8b): of an entry, of [store, sender] there, and of whoever brings them.

    What is done, or has failed for good, counts no more. Rows read back at start do not count: they are no more.
    """

    def __init__(self, waiting: int, waiting_per_sender: int, exempt: Callable[[str], bool], struck: Struck) -> None:
        self._waiting = waiting
        self._per_sender = waiting_per_sender
        self._exempt = exempt
        self._struck = struck
        self._counts: Counter[Hashable] = Counter()
        self._owed: dict[int, Pending] = {}

    def enter(self, pending: Pending, address: str, limits: Mapping[str, int]) -> str | None:
        """Counts it; else the name of the limit that one more would pass. limits: the entry's own."""
        most = limits.get("waiting", self._waiting)
        of_sender = limits.get("waiting_per_sender", self._per_sender)
        strange = bool(pending.network) and not self._exempt(address)
        limit = None
        if most and self._counts[pending.entry] >= most:
            limit = "waiting"
        elif of_sender and self._counts[pending] >= of_sender:
            limit = "waiting_per_sender"
        elif self._per_sender and strange and self._counts[pending.entry, pending.network] >= self._per_sender:
            limit = "waiting_per_sender of a network"
        if limit:
            self._struck(limit, address)
        else:
            self._count(pending, 1)
        return limit

    def accepted(self, number: int, pending: Pending) -> None:
        """Its row's number."""
        self._owed[number] = pending

    def ended(self, number: int) -> None:
        pending = self._owed.pop(number, None)
        if pending is not None:
            self.leave(pending)

    def leave(self, pending: Pending) -> None:
        self._count(pending, -1)

    def _count(self, pending: Pending, change: int) -> None:
        for name in (pending.entry, pending, (pending.entry, pending.network)):
            self._counts[name] += change
            if not self._counts[name]:
                del self._counts[name]
