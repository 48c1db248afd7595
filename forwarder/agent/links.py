"""Other agents as the core sees them: for each a queue, what is out, and its suspects. No socket, no waiting.

* What waits for one agent goes as one batch at the end of the tick, once the agent showed `results` (speed 3);
  before that, singles, and after HINT without a sight of them (protocol 5.0).
* Slow targets must not hurt fast ones (speed 4): a target whose batch is out over 100 ms is a suspect and goes singly
  over side sessions until it answers within 20 ms; what has waited 20 ms opens another session.
* Every item ends once: answered, lost, or out of time. Queues are bounded; the limit answers 35 and is named.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import trio

from forwarder.agent.limits import Struck, unheard
from forwarder.agent.tick import Tick
from forwarder.model import Mailbox, Outcome
from forwarder.plugin import PeerError
from forwarder.ports import Agent, Heard, Locator, Lost, NoService, Proven, Results, Sessions, Status2004

BATCH_ITEMS = 100
BATCH_OCTETS = 512 * 1024
"""What we send in one batch at most (protocol 3.6), octets of its notifications."""
SLOW = 0.1
QUICK = 0.02
SESSIONS = 4
SESSIONS_2004 = 16
SIDE_SESSIONS = 16
QUEUE = 50_000
TWICE_A_QUICK = QUICK / 2
HINT = 86400.0
"""Seconds that an agent is taken for one that gives results since it last did."""
LINKS = 10_000
FORBIDDEN = 1_000

Told = Callable[[Outcome | PeerError], None]


class QueueFull(PeerError):
    """`QUEUE` notifications wait for this agent already."""


class OutOfTime(PeerError):
    """The item's deadline passed before its agent answered."""


class Outgoing(Protocol):
    """One notification on its way to one mailbox. `ended`: nobody waits for its answer any more; what it is told
    then counts for nothing."""

    octets: bytes
    target: Mailbox
    deadline: float
    since: float
    ended: bool

    def tell(self, answer: Outcome | PeerError, /) -> None: ...


class Letter:
    """Octets for a mailbox whose answer goes to a function, called once."""

    __slots__ = ("_told", "deadline", "ended", "octets", "since", "target")

    def __init__(self, octets: bytes, target: Mailbox, told: Told, deadline: float, since: float) -> None:
        self.octets = octets
        self.target = target
        self.deadline = deadline
        self.since = since
        self.ended = False
        self._told = told

    def tell(self, answer: Outcome | PeerError, /) -> None:
        if not self.ended:
            self.ended = True
            self._told(answer)


@dataclass(slots=True, eq=False)
class Batch:
    """What one session carries now."""

    items: list[Outgoing]
    since: float
    side: bool = False
    suspected: bool = False


class Link:
    """One agent: its queue, its batches out, its suspects."""

    def __init__(self, agent: Agent, sessions: Sessions, touch: Callable[[Link], None], *, redirect: bool) -> None:
        self.agent = agent
        self.dirty = False
        self.extended = False
        self.queue: deque[Outgoing] = deque()
        self.side: deque[Outgoing] = deque()
        self.out: set[Batch] = set()
        self.suspects: OrderedDict[Mailbox, None] = OrderedDict()
        self._sessions = sessions
        self._touch = touch
        self._redirect = redirect
        self._proven = redirect and agent.tls and not agent.clear
        self._main, self._side = ("redirect", "redirect side") if redirect else ("main", "side")
        self._expired = 0.0
        self._hint_ends = 0.0

    @property
    def waiting(self) -> int:
        return len(self.queue) + len(self.side)

    @property
    def resting(self) -> bool:
        return not (self.queue or self.side or self.out)

    def put(self, item: Outgoing) -> bool:
        """At the end of this tick. False: too much waits already."""
        if len(self.queue) + len(self.side) >= QUEUE:
            return False
        if self.suspects and item.target in self.suspects:
            self.side.append(item)
        else:
            self.queue.append(item)
        if not self.dirty:
            self._touch(self)
        return True

    def flush(self) -> None:
        """Sends what may be sent now. Called at the end of a tick and by the clock."""
        self.dirty = False
        now = trio.current_time()
        if now >= self._hint_ends:
            self.extended = False
        most = SESSIONS if self.extended else SESSIONS_2004
        while self.queue and self._room(self._main, most, self.queue[0], now):
            self._send(self._take(), self._main, now)
        while self.side and self._room(self._side, SIDE_SESSIONS, None, now):
            item = self.side.popleft()
            if not item.ended:
                self._send([item], self._side, now)

    def _room(self, lane: str, most: int, oldest: Outgoing | None, now: float) -> bool:
        if self._sessions.idle(self.agent, lane):
            return True
        count = self._sessions.count(self.agent, lane)
        if oldest is not None and count and self.extended and now - oldest.since < QUICK:
            return False
        return count < most

    def _take(self) -> list[Outgoing]:
        items = list(islice(self.queue, BATCH_ITEMS if self.extended else 1))
        octets = sum([len(item.octets) for item in items])
        while octets > BATCH_OCTETS and len(items) > 1:
            octets -= len(items.pop().octets)
        for _ in items:
            self.queue.popleft()
        return [item for item in items if not item.ended]

    def _send(self, items: list[Outgoing], lane: str, now: float) -> None:
        if not items:
            return
        batch = Batch(items, now, lane == self._side)
        self.out.add(batch)
        octets = [item.octets for item in items]
        self._sessions.send(self.agent, lane, octets, lambda heard: self._heard(batch, heard), redirect=self._redirect)

    def _heard(self, batch: Batch, heard: Heard) -> None:
        self.out.discard(batch)
        self._touch(self)
        if isinstance(heard, Results) and len(heard.outcomes) == len(batch.items):
            self.extended, self._hint_ends = True, batch.since + HINT
            if self.suspects and trio.current_time() - batch.since < QUICK:
                self._clear(batch.items)
            outcomes: Iterable[Outcome] = map(Proven._make, heard.outcomes) if self._proven else heard.outcomes
            for item, outcome in zip(batch.items, outcomes, strict=True):
                item.tell(outcome)
        elif isinstance(heard, Status2004) and (heard.received or len(batch.items) == 1):
            self.extended = False
            self._of_2004(batch, received=heard.received)
        elif isinstance(heard, Lost):
            failure = PeerError(heard.text) if heard.connected else NoService("noserver", heard.text)
            for item in batch.items:
                item.tell(failure)
        else:
            self.extended = False
            self._undecided(batch.items)

    def _of_2004(self, batch: Batch, *, received: bool) -> None:
        if self.suspects and trio.current_time() - batch.since < QUICK:
            self._clear(batch.items)
        for item in batch.items:
            item.tell(Outcome(0) if received else PeerError("the agent answered an error status"))

    def _undecided(self, items: list[Outgoing]) -> None:
        """An error status or a bad count for a batch decides nothing: each goes again, singly (protocol 4)."""
        if len(items) == 1:
            items[0].tell(PeerError("the agent answered a count of results that differs"))
        else:
            self.queue.extendleft(reversed([item for item in items if not item.ended]))

    def _clear(self, items: Iterable[Outgoing]) -> None:
        for item in items:
            self.suspects.pop(item.target, None)

    def tend(self, now: float) -> None:
        """The clock's look: suspects, sessions for what has waited, and (once a second) deadlines."""
        for batch in self.out:
            if not batch.suspected and now - batch.since > SLOW:
                batch.suspected = True
                self._suspect(batch)
        if now - self._expired >= 1:
            self._expired = now
            self._expire(now)
        if self.queue or self.side:
            self.flush()

    def _expire(self, now: float) -> None:
        for items in (self.queue, self.side, *(batch.items for batch in self.out)):
            for item in items:
                if item.deadline <= now:
                    item.tell(OutOfTime("no answer in time"))

    def _suspect(self, batch: Batch) -> None:
        for item in batch.items:
            self.suspects[item.target] = None
        while len(self.suspects) > QUEUE:
            self.suspects.popitem(last=False)
        if not batch.side and self.queue:
            queued, self.queue = self.queue, deque()
            for item in queued:
                (self.side if item.target in self.suspects else self.queue).append(item)


class Links:
    """All agents. `offer` never waits; unknown domains are located by a task of their own, once for all who wait."""

    def __init__(self, locator: Locator, sessions: Sessions, tick: Tick, nursery: trio.Nursery) -> None:
        self._locator = locator
        self._sessions = sessions
        self._tick = tick
        self._nursery = nursery
        self._links: dict[tuple[Agent, bool], Link] = {}
        self._at_hand: dict[tuple[str, bool], Link] = {}
        self._locating: dict[str, list[tuple[Outgoing, bool]]] = {}
        self._busy = trio.Event()
        self.struck: Struck = unheard
        self.forbidden: dict[str, str] = {}
        """Domains of our targets whose agent is where we must not connect to, and why: for `status`."""

    def offer(
        self,
        target: Mailbox,
        octets: bytes,
        told: Told,
        *,
        deadline: float,
        rna: str | None = None,
        redirect: bool = False,
    ) -> None:
        """`octets` to the agent of `target` (or of the domain `rna`), at the end of this tick."""
        self.carry(Letter(octets, target, told, deadline, self._tick.time()), rna or target.domain, redirect)

    def carry(self, item: Outgoing, domain: str, redirect: bool = False) -> None:
        """The same for what is an Outgoing already: to the agent of this domain."""
        link = self._at_hand.get((domain, redirect)) or self._known(domain, redirect)
        if link is not None:
            if not link.put(item):
                self._strike(item)
        elif domain in self._locating:
            self._wait(domain, item, redirect)
        else:
            self._locating[domain] = [(item, redirect)]
            self._nursery.start_soon(self._locate, domain)

    def _known(self, domain: str, redirect: bool) -> Link | None:
        """The link of a domain whose agent is known; at hand for the rest of this tick."""
        agent = self._locator.known(domain, "rnasp")
        if agent is None:
            return None
        if not self._at_hand:
            self._tick.soon(self._at_hand.clear)
        link = self._at_hand[domain, redirect] = self._link(agent, redirect)
        return link

    def _wait(self, domain: str, item: Outgoing, redirect: bool) -> None:
        waiting = self._locating[domain]
        if len(waiting) >= QUEUE:
            self._strike(item)
        else:
            waiting.append((item, redirect))

    def _strike(self, item: Outgoing) -> None:
        self.struck("agent queue", item.target.domain)
        self._tick.soon(lambda: item.tell(QueueFull("over the limit agent queue")))

    async def _locate(self, domain: str) -> None:
        failure: PeerError = PeerError("not located")
        agent = None
        try:
            agent = await self._locator.find(domain, "rnasp")
        except PeerError as error:
            failure = error
        except Exception as error:
            failure = PeerError(f"the look-up of {domain} failed: {type(error).__name__}: {error}")
        finally:
            self._note(domain, failure if agent is None else None)
            for item, redirect in self._locating.pop(domain):
                if agent is None:
                    item.tell(failure)
                elif not self._link(agent, redirect).put(item):
                    self._strike(item)

    def _note(self, domain: str, failure: PeerError | None) -> None:
        if isinstance(failure, NoService) and failure.kind == "forbidden":
            if len(self.forbidden) < FORBIDDEN:
                self.forbidden[domain] = str(failure)
        elif self.forbidden:
            self.forbidden.pop(domain, None)

    def _link(self, agent: Agent, redirect: bool) -> Link:
        link = self._links.get((agent, redirect))
        return self._new_link(agent, redirect) if link is None else link

    def _new_link(self, agent: Agent, redirect: bool) -> Link:
        if len(self._links) >= LINKS:
            self._links = {name: link for name, link in self._links.items() if not link.resting}
        link = self._links[agent, redirect] = Link(agent, self._sessions, self._touch, redirect=redirect)
        return link

    def _touch(self, link: Link) -> None:
        if not link.dirty:
            link.dirty = True
            self._tick.soon(link.flush)
            self._busy.set()

    async def run(self) -> None:
        """The one clock of all links: it stands still while nothing is out."""
        while True:
            await self._busy.wait()
            await trio.sleep(TWICE_A_QUICK)
            now = trio.current_time()
            resting = True
            for link in list(self._links.values()):
                if not link.resting:
                    resting = False
                    link.tend(now)
            if resting and not self._locating:
                self._busy = trio.Event()

    @property
    def waiting(self) -> int:
        """Notifications queued or out, for `status` and for the drain."""
        out = sum(link.waiting + sum(len(b.items) for b in link.out) for link in self._links.values())
        return out + sum(len(waiting) for waiting in self._locating.values())

    def suspects(self) -> int:
        return sum(len(link.suspects) for link in self._links.values())
