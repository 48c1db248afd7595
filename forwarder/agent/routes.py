"""From a mailbox to who acts for it: the compiled entry (strategy, ready octets) and the legs its targets expand to.

Nothing here waits. Where a file has to be read first, the answer is Cold: the mailboxes to read; the dispatcher reads
all cold ones of a tick in one thread call and asks again with what it read (`fresh`).
A hosted target that is a plain forward and on is expanded in place; any other hosted one is a leaf, handled by its own
strategy in process. Each final target stands once, with every path to it (operator 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakValueDictionary

from forwarder.model import AUTO, IM2000, Hop, Mailbox, Outcome, Route
from forwarder.plugin import Plan, Strategy
from forwarder.ports import Addresses, Answer, Broken, Found, Memories, Nobody, Strategies
from forwarder.wire.notification import hop_tlv, original_tlv, recipient_tlv
from forwarder.wire.outcome import ACCEPTED, DEFERRED, LOOP, NOUSER, REFUSED

ENTRIES = 100_000
NESTED_TRUSTED = 1.0
PLAIN_FORWARD = "rewrite_resend"

Fresh = Mapping[Mailbox, Answer]
Path = tuple[Mailbox, ...]


class Cold(NamedTuple):
    """These have to be read before the question can be answered."""

    mailboxes: frozenset[Mailbox]


class Leg(NamedTuple):
    """One final target. paths: by which hosted mailboxes it is reached, () = directly.

    via: a carrier that its file asks for, "im2000" for none, "" = as the locator finds.
    """

    mailbox: Mailbox
    recipient: bytes
    leaf: bool
    paths: tuple[Path, ...]
    via: str = ""

    @property
    def carried(self) -> bool:
        """By a carrier, whatever the locator would find."""
        return self.via not in ("", IM2000)


class Expansion(NamedTuple):
    """The final targets of a Resend, or why there are none to be had."""

    legs: tuple[Leg, ...]
    refusal: Outcome | None = None
    limit: str = ""
    """The one of [limits] that struck."""


class _Kept(NamedTuple):
    """An expansion and how long it counts: hosted targets are looked at again, foreign ones change with their entry."""

    generation: int
    until: float
    expansion: Expansion


class Straight(NamedTuple):
    """This very plan means: to this one foreign target. True while the generation lasts (nothing of it is hosted)."""

    plan: Plan
    generation: int
    leg: Leg


class Memory(dict[str, bytes]):
    """What a strategy remembers of an entry, as it is now. One for all mailboxes and versions that lead there."""

    __slots__ = ("__weakref__",)


class Entry:
    """A mailbox as received, compiled: its route, strategies made, and what we add to a notification kept ready."""

    __slots__ = (
        "_hops",
        "_mark",
        "_name",
        "_second",
        "always_on",
        "expansions",
        "folded",
        "memories",
        "memory",
        "original",
        "route",
        "straight",
        "strategies",
    )

    def __init__(self, mailbox: Mailbox, route: Route, memories: dict[str, Memory], name: str, mark: bytes) -> None:
        self.route = route
        self.always_on = route.state == "on" and route.expires is None
        self.straight: Straight | None = None
        self.folded = mailbox.folded
        self.original = original_tlv(mailbox)
        self.strategies: dict[str, Strategy] = {}
        self.expansions: dict[Path, _Kept] = {}
        self.memories = memories
        self.memory = self.memory_of(route.strategy)
        self._name = name
        self._mark = mark
        self._second = -1
        self._hops: dict[int, bytes] = {}

    def memory_of(self, strategy: str) -> Memory:
        """What one of its strategies remembers: its own, or its fallback. Neither sees the other's."""
        return self.memories.setdefault(strategy, Memory())

    def hop(self, now: float, how: int) -> bytes:
        """Our Hop, ready; alike for one second."""
        if int(now) != self._second:
            self._second = int(now)
            self._hops.clear()
        octets = self._hops.get(how)
        if octets is None:
            octets = self._hops[how] = hop_tlv(Hop(self._name, self._mark, self._second, how))
        return octets


class Routes:
    """Compiled entries, bounded; and expansions, made anew for each generation of the address files."""

    def __init__(
        self,
        addresses: Addresses,
        strategies: Strategies,
        memories: Memories,
        *,
        name: str,
        mark: Callable[[Mailbox], bytes],
        depth: int,
        targets: int,
    ) -> None:
        self._addresses = addresses
        self._strategies = strategies
        self._memories = memories
        self._name = name
        self._mark = mark
        self._depth = depth
        self._targets = targets
        self._entries: dict[Mailbox, Entry] = {}
        self._remembered: WeakValueDictionary[tuple[str, str], Memory] = WeakValueDictionary()

    def entry(self, mailbox: Mailbox, fresh: Fresh) -> Entry | Outcome | Cold:
        """Who acts for it, or the outcome where nobody does."""
        answer = fresh[mailbox] if fresh and mailbox in fresh else self._addresses.look_up(mailbox)
        if type(answer) is Found:
            entry = self._entries.get(mailbox)
            if entry is not None and entry.route is answer.route:
                return entry
            return Cold(frozenset((mailbox,)))
        if answer is None:
            return Cold(frozenset((mailbox,)))
        if isinstance(answer, Nobody):
            return Outcome(NOUSER) if answer.tell else Outcome(ACCEPTED)
        if isinstance(answer, Broken):
            return Outcome(DEFERRED, retryafter=300)
        return Outcome(REFUSED)

    def known(self, mailbox: Mailbox) -> Answer | None:
        """What the files say, from memory; None where `read` has to come first."""
        return None if isinstance(self.entry(mailbox, {}), Cold) else self._addresses.look_up(mailbox)

    async def read(self, cold: frozenset[Mailbox]) -> Fresh:
        """Reads the files of cold mailboxes and compiles the entries found."""
        answers = await self._addresses.read(cold)
        for mailbox, answer in answers.items():
            if isinstance(answer, Found):
                known = self._entries.get(mailbox)
                if known is None or known.route is not answer.route:
                    await self._compile(mailbox, answer.route)
        return answers

    async def _compile(self, mailbox: Mailbox, route: Route) -> None:
        names = {route.strategy, route.fallback or route.strategy}
        stored = {name: await self._memories.memory(route.entry, name) for name in names}
        entry = self.compiled(mailbox, route, stored)
        while len(self._entries) >= ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries.pop(mailbox, None)
        self._entries[mailbox] = entry

    def compiled(self, mailbox: Mailbox, route: Route, stored: Mapping[str, Mapping[str, bytes]]) -> Entry:
        """stored: by strategy, as the ledger has it, which rules only where no other entry holds a newer one."""
        memories = {
            name: self._remembered.setdefault((route.entry, name), Memory(values)) for name, values in stored.items()
        }
        return Entry(mailbox, route, memories, self._name, self._mark(mailbox.folded))

    def strategy(self, entry: Entry, name: str) -> Strategy | None:
        """The entry's own strategy or its fallback, made once; None where it is not installed."""
        made = entry.strategies.get(name)
        if made is None:
            route = entry.route if name == entry.route.strategy else replace(entry.route, strategy=name)
            try:
                made = entry.strategies[name] = self._strategies.make(name, route)
            except KeyError:
                return None
        return made

    def expand(self, entry: Entry, to: Path, fresh: Fresh, now: float) -> Expansion | Cold:
        """The legs of a Resend: hosted plain forwards opened, each final target once."""
        kept = entry.expansions.get(to)
        if kept is not None and kept.generation == self._addresses.generation and now < kept.until:
            return kept.expansion
        walk = _Walk(self._addresses, fresh, self._depth)
        walk.down(to, (entry.route.address,), entry.route.via)
        if walk.cold:
            return Cold(frozenset(walk.cold))
        expansion = self._expansion(entry.route, walk)
        if len(entry.expansions) >= 64:
            entry.expansions.clear()
        until = now + NESTED_TRUSTED if walk.nested else math.inf
        entry.expansions[to] = _Kept(self._addresses.generation, until, expansion)
        return expansion

    def straight(self, entry: Entry, plan: Plan) -> Leg | None:
        """The one foreign target that this very plan is known to go to."""
        known = entry.straight
        if known is None or known.plan is not plan or known.generation != self._addresses.generation:
            return None
        return known.leg

    def remember_straight(self, entry: Entry, plan: Plan, expansion: Expansion) -> None:
        """So that the next notification with this plan, all of it one Resend that sticks to nothing, goes straight."""
        leg = expansion.legs[0] if len(expansion.legs) == 1 else None
        if leg is not None and leg.paths == ((),) and not leg.leaf and not leg.via:
            entry.straight = Straight(plan, self._addresses.generation, leg)

    def _expansion(self, route: Route, walk: _Walk) -> Expansion:
        if walk.circle:
            return Expansion((), Outcome(LOOP, text="its targets lead back to it"))
        most = route.limits.get("targets", self._targets)
        limit = "depth" if walk.too_deep else "targets" if most and len(walk.found) > most else ""
        if limit:
            return Expansion((), Outcome(DEFERRED, retryafter=86400, text=f"over the limit {limit}"), limit)
        legs = [
            Leg(mailbox, recipient_tlv(mailbox), self._addresses.hosted(mailbox.domain), tuple(paths), via)
            for mailbox, paths, via in walk.found.values()
        ]
        return Expansion(tuple(legs))


class _Walk:
    """Down the hosted plain forwards, depth first, every path kept."""

    def __init__(self, addresses: Addresses, fresh: Fresh, depth: int) -> None:
        self._addresses = addresses
        self._fresh = fresh
        self._depth = depth
        self.cold: set[Mailbox] = set()
        self.circle = False
        self.too_deep = False
        self.nested = False
        self.found: dict[Mailbox, tuple[Mailbox, list[Path], str]] = {}

    def down(self, to: Path, path: Path, via: Mapping[Mailbox, str]) -> None:
        """via: what the file that names these targets says of them; nothing of hosted ones counts."""
        for mailbox in to:
            if self._addresses.hosted(mailbox.domain):
                self._hosted(mailbox, path)
            else:
                word = via.get(mailbox, AUTO) if via else AUTO
                self._final(mailbox, path, "" if word == AUTO else word)

    def _hosted(self, mailbox: Mailbox, path: Path) -> None:
        self.nested = True
        answer = self._fresh[mailbox] if mailbox in self._fresh else self._addresses.look_up(mailbox)
        if answer is None:
            self.cold.add(mailbox)
            return
        address = answer.route.address if isinstance(answer, Found) else mailbox.folded
        if address in path:
            self.circle = True
        elif len(path) > self._depth:
            self.too_deep = True
        elif isinstance(answer, Found) and _plain(answer.route):
            self.down(answer.route.to, (*path, address), answer.route.via)
        else:
            self._final(mailbox, path)

    def _final(self, mailbox: Mailbox, path: Path, via: str = "") -> None:
        self.found.setdefault(mailbox.folded, (mailbox, [], via))[1].append(path[1:])


def _plain(route: Route) -> bool:
    return route.strategy == PLAIN_FORWARD and route.state == "on" and route.expires is None
