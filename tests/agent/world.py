"""An agent on memory ports: addresses in a dict, agents that answer by script, a database that commits at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from forwarder.agent.carriage import Carriage
from forwarder.agent.courier import Courier
from forwarder.agent.decide import Decider
from forwarder.agent.dispatch import Dispatcher
from forwarder.agent.errands import Errands
from forwarder.agent.limits import SubmitterLimit
from forwarder.agent.links import Links
from forwarder.agent.marks import Marks
from forwarder.agent.members import Members
from forwarder.agent.owed import Retry
from forwarder.agent.perform import Performer
from forwarder.agent.repeats import Repeats
from forwarder.agent.routes import Routes
from forwarder.agent.screens import Guarded, Screens
from forwarder.agent.story import Story
from forwarder.agent.tick import Tick
from forwarder.bridges import Carry
from forwarder.model import (
    Endpoint,
    Mailbox,
    Notification,
    Outcome,
    Peer,
    Route,
    ServiceLocation,
    parse_mailbox,
)
from forwarder.plugin import Again, Case, Plan, Strategy, Work, Works
from forwarder.ports import (
    Agent,
    Answer,
    Arrival,
    BodySize,
    Debt,
    Found,
    Gone,
    Heard,
    Nobody,
    NoService,
    NotOurs,
    PullOrder,
    Results,
    Sight,
    Status2004,
)
from forwarder.wire.notification import decode_notification, encode_notification

TODAY = Peer("192.0.2.9", 1000, "store.example", frozenset({"results", "redirect", "moved"}))
OF_2004 = Peer("192.0.2.10", 1000)


def notification(
    to: str, key: int = 1, sender: str = "toby", store: str = "store.example", **fields: Any
) -> Notification:
    """As it would have come by wire."""
    made = Notification(
        ServiceLocation(store), None, parse_mailbox(to), key.to_bytes(16, "big"), sender, 1234, **fields
    )
    return decode_notification(encode_notification(made))


def route(address: str, strategy: str = "rewrite_resend", to: str = "", **fields: Any) -> Route:
    mailbox = parse_mailbox(address)
    targets = tuple(parse_mailbox(text) for text in to.split())
    return Route(mailbox.folded, str(mailbox.folded), strategy, targets, **fields)


class Book:
    """ports.Addresses."""

    def __init__(self, hosted: Collection[str]) -> None:
        self.domains = set(hosted)
        self.routes: dict[Mailbox, Route] = {}
        self.generation = 0
        self.reads = 0
        self.warm: set[Mailbox] = set()

    def put(self, *routes: Route) -> None:
        for made in routes:
            self.routes[made.address] = made
        self.generation += 1

    def hosted_sender(self, sender: str) -> bool:
        return self.hosted(sender.rpartition("@")[2])

    def hosted(self, domain: str) -> bool:
        return domain in self.domains

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        return self._find(mailbox) if mailbox.folded in self.warm else None

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        self.warm |= {mailbox.folded for mailbox in mailboxes}
        return {mailbox: self._find(mailbox) for mailbox in mailboxes}

    async def entry(self, entry: str) -> Route | None:
        await trio.lowlevel.checkpoint()
        return self.routes.get(parse_mailbox(entry))

    def _find(self, mailbox: Mailbox) -> Answer:
        if mailbox.domain not in self.domains:
            return NotOurs()
        found = self.routes.get(mailbox.folded)
        return Found(found) if found is not None else Nobody(tell=True)


@dataclass
class Offer:
    """Strategies by name: functions from a case to a plan."""

    makers: dict[str, Callable[[Route], Strategy]]

    def make(self, name: str, route: Route) -> Strategy:
        return self.makers[name](route)

    def plan(self, strategy: Strategy, case: Case) -> Plan:
        return strategy.plan(case)

    async def work(self, strategy: Strategy, case: Case, work: Work) -> Plan | Again | None:
        assert isinstance(strategy, Works)
        return await strategy.work(case, work)


class Where:
    """ports.Locator: every domain has an agent, but for those in `missing`."""

    def __init__(self) -> None:
        self.missing: dict[str, NoService] = {}
        self.found: set[str] = set()

    def known(self, domain: str, service: str) -> Agent | None:
        return self._agent(domain) if domain in self.found else None

    async def find(self, domain: str, service: str) -> Agent:
        await trio.lowlevel.checkpoint()
        if domain in self.missing:
            raise self.missing[domain]
        self.found.add(domain)
        return self._agent(domain)

    async def place(self, location: ServiceLocation, service: str) -> Agent:
        raise AssertionError("the agent places nothing")

    async def records(self, mailbox: Mailbox) -> Sequence[Any]:
        raise AssertionError("the agent asks for no records")

    def _agent(self, domain: str) -> Agent:
        return Agent((Endpoint("198.51.100.1", 7101),), domain)


Script = Callable[[Notification], Outcome | None]


class Wires:
    """ports.Sessions: agents that answer each notification by `script`; None = never. `legacy`: agents of 2004."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.script: Script = lambda n: Outcome(0)
        self.legacy: set[str] = set()
        self.sent: list[tuple[str, str, list[Notification]]] = []
        self.busy: dict[tuple[str, str], int] = {}
        self.delay: Callable[[Notification], float] = lambda n: 0.0

    def idle(self, agent: Agent, lane: str) -> int:
        return 0

    def count(self, agent: Agent, lane: str) -> int:
        return self.busy.get((agent.name, lane), 0)

    def send(
        self,
        agent: Agent,
        lane: str,
        notifications: Sequence[bytes],
        done: Callable[[Heard], None],
        *,
        redirect: bool,
    ) -> None:
        items = [decode_notification(octets) for octets in notifications]
        self.sent.append((agent.name, lane, items))
        self.busy[agent.name, lane] = self.count(agent, lane) + 1
        self._nursery.start_soon(self._answer, agent, lane, items, done)

    async def _answer(self, agent: Agent, lane: str, items: list[Notification], done: Callable[[Heard], None]) -> None:
        await trio.sleep(max(self.delay(item) for item in items))
        outcomes = [self.script(item) for item in items]
        if None in outcomes:
            return
        self.busy[agent.name, lane] -= 1
        if agent.name in self.legacy:
            done(Status2004(all(outcome is not None and outcome.code < 16 for outcome in outcomes)))
        else:
            done(Results(tuple(outcome for outcome in outcomes if outcome is not None)))

    def recipients(self) -> list[str]:
        return [str(item.recipient) for _, _, items in self.sent for item in items]


class Disk:
    """ports.Inbox, Ledger, Trace, Puller and Sources in memory. `commit` answers at the end of the tick."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick
        self.arrivals: list[Arrival] = []
        self.debts: dict[int, Debt] = {}
        self.on_disk: dict[int, Debt] = {}
        self.lines: list[str] = []
        self.pulled: list[PullOrder] = []
        self.memories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.full = False
        self.withdrawn = False
        self.promising = False
        self.looks = 0
        self.copies: dict[Mailbox, bytes] = {}
        self.senders: dict[bytes, str] = {}
        self.unpinned: list[bytes] = []
        self.changed: list[tuple[str, str, list[str], list[str]]] = []

    def deposit_soon(self, arrivals: Sequence[Arrival], done: Callable[[Sequence[Outcome] | Exception], None]) -> None:
        if self.full:
            self.tick.soon(lambda: done(OSError("disk full")))
            return
        self.arrivals += arrivals
        self.tick.soon(lambda: done([Outcome(0) for _ in arrivals]))

    def promises(self, entry: str) -> bool:
        return self.promising

    def accept_soon(self, debts: Sequence[Debt], done: Callable[[Sequence[int] | Exception], None]) -> None:
        if self.full:
            self.tick.soon(lambda: done(OSError("disk full")))
            return
        numbers = []
        for debt in debts:
            numbers.append(len(self.debts) + 1)
            self.debts[numbers[-1]] = debt._replace(number=numbers[-1])
        self.tick.soon(lambda: done(numbers))

    def settle_soon(self, number: int, state: bytes, *, closed: bool) -> None:
        self.debts[number] = self.debts[number]._replace(state=state, open=not closed)

    def arrived_soon(
        self, number: int, state: bytes, unpin: Debt, done: Callable[[int | Exception | None], None]
    ) -> None:
        """All stores are others'."""

        def accepted(numbers: Sequence[int] | Exception) -> None:
            if isinstance(numbers, Exception):
                done(numbers)
                return
            self.settle_soon(number, state, closed=True)
            done(numbers[0])

        self.accept_soon([unpin], accepted)

    async def settled(self) -> None:
        self.on_disk = dict(self.debts)

    def reopen_soon(self, number: int, state: bytes, done: Callable[[Exception | None], None]) -> None:
        if self.full:
            self.tick.soon(lambda: done(OSError("disk full")))
            return
        self.settle_soon(number, state, closed=False)
        self.tick.soon(lambda: done(None))

    async def open_debts(self) -> Sequence[Debt]:
        return [debt for debt in self.debts.values() if debt.open]

    async def debt(self, number: int) -> Debt | None:
        return self.debts.get(number)

    async def recipients(self, since: int) -> Sequence[Mailbox]:
        return list({d.recipient for d in self.debts.values() if d.kind == "resend" and d.accepted >= since})

    async def debts_for(self, recipient: Mailbox, since: int, after: int, limit: int) -> Sequence[Debt]:
        found = [d for d in self.debts.values() if d.recipient == recipient and d.accepted >= since]
        return [d for d in found if d.number > after and d.kind == "resend"][:limit]

    async def held(self) -> Sequence[tuple[Mailbox, bytes]]:
        return list(self.copies.items())

    async def change_members(
        self, address: Mailbox, entry: str, to: Collection[Mailbox], readers: Collection[str]
    ) -> tuple[int, int]:
        self.changed.append((str(address), entry, sorted(map(str, to)), sorted(readers)))
        return 0, 0

    async def sights(self, since: int) -> Sequence[Sight]:
        return [Sight(d.store, d.key, d.recipient, d.accepted, d.number) for d in self.debts.values()]

    async def forget(self, before: int) -> int:
        return 0

    def remember_soon(self, entry: str, strategy: str, values: Mapping[str, bytes]) -> None:
        self.memories.setdefault((entry, strategy), {}).update(values)

    async def memory(self, entry: str, strategy: str) -> Mapping[str, bytes]:
        return self.memories.get((entry, strategy), {})

    def write(self, *lines: str) -> None:
        self.lines += lines

    async def pull(self, order: PullOrder) -> Outcome:
        self.pulled.append(order)
        return Outcome(0)

    async def sender(self, notification: Notification) -> str | None:
        return self.senders.get(notification.identifier)

    async def unpin(self, notification: Notification) -> None:
        self.unpinned.append(notification.identifier)

    async def look(self, notification: Notification) -> BodySize:
        self.looks += 1
        if self.withdrawn:
            raise Gone
        return BodySize(None, None, None)


class Quiet:
    """plugin.Log that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))


@dataclass
class World:
    """One agent, named mx.pobox.example, hosting pobox.example. Its clock stands until turned."""

    book: Book
    wires: Wires
    where: Where
    disk: Disk
    dispatcher: Dispatcher
    courier: Courier
    members: Members
    links: Links
    log: Quiet
    offer: Offer
    performer: Performer
    now: list[float] = field(default_factory=lambda: [1_800_000_000.0])

    def clock(self) -> float:
        return self.now[0]

    async def notify(self, *notifications: Notification, peer: Peer = TODAY) -> tuple[list[Outcome], bool]:
        """As one PDU; what it is told, and whether a peer of 2004 hears of a failure."""
        done, told = trio.Event(), list[tuple[list[Outcome], bool]]()

        def answer(outcomes: Sequence[Outcome], failed: bool) -> None:
            told.append((list(outcomes), failed))
            done.set()

        self.dispatcher.receive(notifications, peer, answer)
        with trio.fail_after(120):
            await done.wait()
        return told[0]

    async def code(self, *args: Any, **kwargs: Any) -> int:
        outcomes, _ = await self.notify(*args, **kwargs)
        return outcomes[0].code


def build(
    nursery: trio.Nursery,
    makers: dict[str, Callable[[Route], Strategy]],
    *,
    screens: Sequence[Guarded] = (),
    rate: float = 0,
    disk: Disk | None = None,
    carriers: Mapping[str, Carry] | None = None,
) -> World:
    now = [1_800_000_000.0]

    def clock() -> float:
        return now[0]

    log = Quiet()
    tick = Tick(lambda error: log.info("tick failed", error=str(error)))
    disk = disk or Disk(tick)
    disk.tick = tick
    book, wires, where, offer = Book({"pobox.example"}), Wires(nursery), Where(), Offer(makers)
    name = "mx.pobox.example"
    links = Links(where, wires, tick, nursery)
    repeats = Repeats(name, b"secret", hops=8, remembered=1000, clock=clock)
    routes = Routes(book, offer, disk, name=name, mark=repeats.mark, depth=10, targets=50)
    retry = Retry(30, 86400, 7 * 86400)
    errands = Errands(nursery, tick, disk, offer, book, disk, retry.wait, 7 * 86400, clock, log)
    marks = Marks(repeats, book, clock, name=name)
    carriage = Carriage(carriers or {}, nursery, tick, disk, disk.sender, book.hosted_sender, clock, log)  # type: ignore[arg-type]
    errands.unpin = disk.unpin
    courier = Courier(links, disk, disk, errands, marks, Story(disk, log, clock), carriage, retry, clock)  # type: ignore[arg-type]
    world: list[World] = []

    def inner(octets: bytes, told: Callable[[Outcome], None]) -> None:
        world[0].dispatcher.receive_inner(octets, told)

    performer = Performer(routes, links, repeats, courier, marks, disk, disk, tick, clock, inner)  # type: ignore[arg-type]
    decider = Decider(routes, offer)
    dispatcher = Dispatcher(
        SubmitterLimit(rate, (), clock),
        routes,
        repeats,
        Screens(screens, log),
        decider,
        performer,
        disk,
        tick,
        nursery,
        clock,
        log,
        literals=False,
    )
    courier.inner = inner
    errands.perform = dispatcher.perform
    members = Members(routes, decider, courier, disk, disk, disk, book, clock, log)  # type: ignore[arg-type]
    errands.pulled = members.pulled
    for task in (tick.run, links.run, dispatcher.run, courier.run, members.run):
        nursery.start_soon(task)
    world.append(World(book, wires, where, disk, dispatcher, courier, members, links, log, offer, performer, now))
    return world[0]
