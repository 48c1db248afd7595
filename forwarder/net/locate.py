"""Where others are: static table, SRV, per-user records, each remembered for its TTL (protocol 2 "Lookup", 5.6).

Equal look-ups under way are one; at most AT_ONCE run, each within DEADLINE. A caller that is cancelled abandons its
look-up to the next who waits for it. Every address handed out has passed the filter.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Generic, Literal, NamedTuple, TypeVar

import dns.name
import dns.rdatatype
import trio
from dns.rdtypes.IN.SRV import SRV

from forwarder.model import Endpoint, Mailbox, ServiceLocation, parse_domain, user_label
from forwarder.net.address_filter import AddressFilter
from forwarder.net.resolve import Dns, Found, NoAnswer
from forwarder.net.user_record import parse_user_records
from forwarder.ports import Agent, Clock, NoService, ServiceName, UserRecord

DEADLINE = 10.0  # seconds for all questions of one look-up, of these:
SRV_SECONDS = 6.0
ADDRESS_SECONDS = 4.0  # all targets at once
AT_ONCE = 100  # look-ups that run
WAITING = 10_000  # look-ups that run or wait to
REMEMBERED = 65_536  # results of each sort
TARGETS = 16  # SRV records looked at
ADDRESSES = 32  # of a service
SHORTEST, LONGEST = 1, 3600  # seconds a result is trusted, whatever its TTL
ABSENT_SHORTEST, ABSENT_LONGEST = 30, 300  # and an absence

T = TypeVar("T")
Kind = Literal["baddomain", "noservice", "noserver"]


class _Result(NamedTuple, Generic[T]):
    """What a look-up came to, and for how many seconds that holds. A NoService is a result too."""

    value: T | NoService
    seconds: float


class _Memory(Generic[T]):
    """Results by key until they expire, and one look-up at a time for each key."""

    def __init__(self, clock: Clock, slots: trio.CapacityLimiter) -> None:
        self._clock = clock
        self._slots = slots
        self._kept: dict[tuple[str, str], tuple[float, T | NoService]] = {}
        self._under_way: dict[tuple[str, str], trio.Event] = {}

    def fresh(self, key: tuple[str, str]) -> T | NoService | None:
        """From memory, at once."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    async def get(self, key: tuple[str, str], look_up: Callable[[], Awaitable[_Result[T]]]) -> T:
        """From memory, else by `look_up`. Raises NoService, anew for each caller."""
        while (value := self.fresh(key)) is None:
            event = self._under_way.get(key)
            if event is not None:
                await event.wait()
            elif len(self._under_way) >= WAITING:
                raise NoService("noserver", "too many look-ups under way")
            else:
                await self._run(key, look_up)
        if isinstance(value, NoService):
            raise NoService(value.kind, str(value))
        return value

    async def _run(self, key: tuple[str, str], look_up: Callable[[], Awaitable[_Result[T]]]) -> None:
        """Cancelled, it keeps nothing: the next who waits begins anew."""
        event = self._under_way[key] = trio.Event()
        try:
            await self._slot()
            try:
                result = await look_up()
            finally:
                self._slots.release()
            while len(self._kept) >= REMEMBERED:
                del self._kept[next(iter(self._kept))]
            self._kept.pop(key, None)
            self._kept[key] = (self._clock() + result.seconds, result.value)
        finally:
            del self._under_way[key]
            event.set()

    async def _slot(self) -> None:
        with trio.move_on_after(DEADLINE):
            await self._slots.acquire()
            return
        raise NoService("noserver", "too many look-ups under way")


class Locator:
    """Implements ports.Locator.

    static: domain to service to (host, port), asked before the DNS; a host may be an address. literals: whether
    locations may name addresses ([network] literals). Domains are lower-case A-labels. clock in seconds, never back.
    """

    def __init__(
        self,
        address_filter: AddressFilter,
        names: Dns,
        *,
        static: Mapping[str, Mapping[ServiceName, tuple[str, int]]] | None = None,
        literals: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self._filter = address_filter
        self._dns = names
        self._static = {(d, s): place for d, services in (static or {}).items() for s, place in services.items()}
        self._literals = literals
        slots = trio.CapacityLimiter(AT_ONCE)
        self._agents: _Memory[Agent] = _Memory(clock, slots)
        self._users: _Memory[tuple[UserRecord, ...]] = _Memory(clock, slots)

    def known(self, domain: str, service: ServiceName) -> Agent | None:
        """What a look-up found and is still fresh."""
        agent = self._agents.fresh((domain, service))
        return agent if isinstance(agent, Agent) else None

    async def find(self, domain: str, service: ServiceName) -> Agent:
        """The service of a domain. Raises NoService."""
        return await self._agents.get((domain, service), lambda: self._find(domain, service))

    async def place(self, location: ServiceLocation, service: ServiceName) -> Agent:
        """A location out of a notification. Raises NoService: literals that are not allowed are "forbidden"."""
        if location.domain:
            return await self.find(location.domain, service)
        if not location.literals:
            raise NoService("noservice", "a location that names nothing")
        if not self._literals:
            raise NoService("forbidden", "stores named by address are not accepted")
        return Agent(self._permitted(location.literals), str(location.literals[0]))

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        """Option 6: the records of a mailbox by (group, priority). None for whatever reason = ask the domain's SRV.

        A domain whose agent the static table names is not asked: the table stands before all DNS.
        """
        if (mailbox.domain, "rnasp") in self._static:
            return ()
        label = user_label(mailbox.localpart)
        try:
            return await self._users.get((label, mailbox.domain), lambda: self._records(label, mailbox.domain))
        except NoService:
            return ()

    async def resolve(self, host: str, port: int) -> tuple[Endpoint, ...]:
        """The permitted addresses of a host, or of an address itself. Raises NoService. Not remembered."""
        with trio.move_on_after(DEADLINE):
            endpoints, _ = await self._addresses(host, port)
            if not endpoints:
                raise NoService("noserver", f"{host} has no address")
            return self._permitted(endpoints)
        raise NoService("noserver", f"{host}: no answer within {DEADLINE:.0f} s")

    # -- one look-up

    async def _find(self, domain: str, service: ServiceName) -> _Result[Agent]:
        with trio.move_on_after(DEADLINE):
            try:
                endpoints, seconds = await self._endpoints(domain, service)
                permitted = self._permitted(endpoints)
                return _Result(Agent(permitted, domain), max(SHORTEST, min(LONGEST, seconds)))
            except NoAnswer as silence:
                return _Result(NoService("noserver", str(silence)), ABSENT_SHORTEST)
            except _Absent as absent:
                return _Result(absent.why, max(ABSENT_SHORTEST, min(ABSENT_LONGEST, absent.seconds)))
            except NoService as forbidden:
                return _Result(forbidden, ABSENT_SHORTEST)
        return _Result(NoService("noserver", f"{domain}: no answer within {DEADLINE:.0f} s"), ABSENT_SHORTEST)

    async def _endpoints(self, domain: str, service: ServiceName) -> tuple[list[Endpoint], float]:
        """All addresses in the order to try, and the least TTL of what led to them."""
        static = self._static.get((domain, service))
        if static:
            targets, ttl = [static], float(LONGEST)
        else:
            targets, ttl = await self._targets(domain, service)
        found: dict[tuple[str, int], tuple[list[Endpoint], float]] = {}

        async def ask(target: tuple[str, int]) -> None:
            found[target] = await self._addresses(*target)

        async with trio.open_nursery() as nursery:
            for target in dict.fromkeys(targets):
                nursery.start_soon(ask, target)
        endpoints = [endpoint for target in targets for endpoint in found[target][0]]
        ttl = min(ttl, *(seconds for more, seconds in found.values() if more), LONGEST)
        if not endpoints:
            raise _Absent("noserver", f"no target of {service} at {domain} has an address", ttl)
        return endpoints[:ADDRESSES], ttl

    async def _targets(self, domain: str, service: ServiceName) -> tuple[list[tuple[str, int]], float]:
        """RFC 2782 order; no fallback to the domain's own addresses (protocol 2)."""
        name = f"_im2000-{service}._tcp.{domain}"
        try:
            parse_domain(name)
        except ValueError as error:
            raise _Absent("baddomain", str(error), ABSENT_LONGEST) from None
        found = await self._dns.ask(name, dns.rdatatype.SRV, SRV_SECONDS)
        if not found.exists:
            raise _Absent("baddomain", f"{name} does not exist", found.ttl)
        srvs = found.rdatas.processing_order() if found.rdatas else []
        places = [(srv.target, srv.port) for srv in srvs[:TARGETS] if isinstance(srv, SRV)]
        targets = [(host.to_text(True).lower(), port) for host, port in places if host != dns.name.root]
        if not targets:
            raise _Absent("noservice", f"{domain} offers no {service}", found.ttl)
        return targets, found.ttl

    async def _addresses(self, host: str, port: int) -> tuple[list[Endpoint], float]:
        """IPv4 first: where IPv6 is broken each try of it costs a connect's whole deadline."""
        try:
            return [Endpoint(str(ip_address(host)), port)], float(LONGEST)
        except ValueError:
            pass
        answers: dict[dns.rdatatype.RdataType, Found] = {}

        async def ask(rdtype: dns.rdatatype.RdataType) -> None:
            try:
                answers[rdtype] = await self._dns.ask(host, rdtype, ADDRESS_SECONDS)
            except NoAnswer:
                return  # the next target may have addresses

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, dns.rdatatype.A)
            nursery.start_soon(ask, dns.rdatatype.AAAA)
        found = [answers[t] for t in (dns.rdatatype.A, dns.rdatatype.AAAA) if t in answers and answers[t].rdatas]
        endpoints = [Endpoint(str(ip_address(rdata.address)), port) for each in found for rdata in each.rdatas or ()]
        return endpoints, min((each.ttl for each in found), default=ABSENT_SHORTEST)

    def _permitted(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Those that pass the filter. Raises NoService "forbidden" where none does, with the first reason."""
        refusals = {endpoint: self._filter.refusal(endpoint) for endpoint in endpoints}
        permitted = tuple(endpoint for endpoint, refusal in refusals.items() if refusal is None)
        if not permitted:
            raise NoService("forbidden", next(filter(None, refusals.values())))
        return permitted

    async def _records(self, label: str, domain: str) -> _Result[tuple[UserRecord, ...]]:
        found = None
        with trio.move_on_after(DEADLINE):
            try:
                found = await self._dns.ask(f"{label}._im2000-user.{domain}", dns.rdatatype.TXT, DEADLINE)
            except NoAnswer:
                found = None
        if found is None or not found.rdatas:
            seconds = found.ttl if found else ABSENT_SHORTEST
            return _Result((), max(ABSENT_SHORTEST, min(ABSENT_LONGEST, seconds)))
        texts = [b"".join(rdata.strings).decode("ascii", "replace") for rdata in found.rdatas]
        return _Result(parse_user_records(texts), max(SHORTEST, min(LONGEST, found.ttl)))


class _Absent(Exception):
    """The DNS says that there is nothing; for how many seconds."""

    def __init__(self, kind: Kind, text: str, seconds: float) -> None:
        super().__init__(text)
        self.why = NoService(kind, text)
        self.seconds = seconds
