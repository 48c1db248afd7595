"""Where others are: static table, SRV, per-user records, each remembered for its TTL (protocol 2 "Lookup", 5.6).

A service that is published over TLS too is used over TLS. Without it only where it is not published, or where
`clear_fallback` says so; never where `require_tls` does, nor because the DNS would not say.

Equal look-ups under way are one; at most AT_ONCE run, each within DEADLINE. A caller that is cancelled abandons its
look-up to the next who waits for it. Every address handed out has passed the filter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal

import dns.name
import dns.rdatatype
import trio
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.IN.SRV import SRV

from forwarder.bridges import DomainFacts
from forwarder.model import AUTO, IM2000, Endpoint, Mailbox, ServiceLocation, parse_domain, user_label
from forwarder.net.address_filter import AddressFilter
from forwarder.net.lookups import DEADLINE, Lookups, Result
from forwarder.net.resolve import Dns, Found, NoAnswer
from forwarder.net.tls_policy import TlsPolicy
from forwarder.net.user_record import parse_user_records
from forwarder.ports import Agent, ByCarrier, Clock, NoService, ServiceName, UserRecord

# seconds, of a look-up's DEADLINE:
SRV_SECONDS = 6.0
ADDRESS_SECONDS = 4.0  # all targets at once
AT_ONCE = 100  # look-ups that run
TARGETS = 16  # SRV records looked at
ADDRESSES = 32  # of a service
SHORTEST, LONGEST = 1, 3600  # seconds a result is trusted, whatever its TTL
ABSENT_SHORTEST, ABSENT_LONGEST = 30, 300  # and an absence

TWIN: Mapping[ServiceName, ServiceName] = {
    "rnasp": "rnasps", "msrap": "msraps", "rnaqp": "rnaqps", "msoap": "msoaps",
}  # fmt: skip

Kind = Literal["baddomain", "noservice", "noserver"]
Takes = Callable[[DomainFacts], bool]
NO_CARRIERS: Mapping[str, Takes] = MappingProxyType({})
NO_WORDS: Mapping[str, str] = MappingProxyType({})


class Locator:
    """Implements ports.Locator.

    static: domain to service to (host, port), asked before the DNS; a host may be an address. literals: whether
    locations may name addresses ([network] literals). Domains are lower-case A-labels. clock in seconds, never back.
    carriers: by name, what each takes; via: [resolve.via], by domain.
    """

    def __init__(
        self,
        address_filter: AddressFilter,
        names: Dns,
        *,
        static: Mapping[str, Mapping[ServiceName, tuple[str, int]]] | None = None,
        literals: bool = False,
        policy: TlsPolicy = TlsPolicy(),  # noqa: B008  # frozen
        carriers: Mapping[str, Takes] = NO_CARRIERS,
        via: Mapping[str, str] = NO_WORDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._carriers = carriers
        self._via = via
        self._filter = address_filter
        self._dns = names
        self._static = {(d, s): place for d, services in (static or {}).items() for s, place in services.items()}
        self._literals = literals
        self._policy = policy
        slots = trio.CapacityLimiter(AT_ONCE)
        self._agents: Lookups[Agent] = Lookups(clock, slots)
        self._users: Lookups[tuple[UserRecord, ...]] = Lookups(clock, slots)

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
        first = location.literals[0]
        if service not in TWIN:  # an address proves only itself
            same = [place for place in location.literals if place.address == first.address]
            return Agent(self._permitted(same), first.address, tls=True)
        if self._policy.requires(first.address):
            raise NoService("forbidden", f"{first}: TLS is required and an address without a name has none to prove")
        return Agent(self._permitted(location.literals), str(first))

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        """Option 6: the records of a mailbox by (group, priority). None for whatever reason = ask the domain's SRV.

        A domain whose agent the static table names is not asked: the table stands before all DNS.
        """
        if (mailbox.domain, "rnasp") in self._static or (mailbox.domain, "rnasps") in self._static:
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

    async def _find(self, domain: str, service: ServiceName) -> Result[Agent]:
        with trio.move_on_after(DEADLINE):
            try:
                agent, seconds = await self._agent(domain, service)
                return Result(agent, max(SHORTEST, min(LONGEST, seconds)))
            except NoAnswer as silence:
                return Result(NoService("noserver", str(silence)), ABSENT_SHORTEST)
            except _Absent as absent:
                why = await self._by_carrier(domain, absent.why) if service == "rnasp" else absent.why
                return Result(why, max(ABSENT_SHORTEST, min(ABSENT_LONGEST, absent.seconds)))
            except NoService as forbidden:
                return Result(forbidden, ABSENT_SHORTEST)
        return Result(NoService("noserver", f"{domain}: no answer within {DEADLINE:.0f} s"), ABSENT_SHORTEST)

    async def _agent(self, domain: str, service: ServiceName) -> tuple[Agent, float]:
        """By TLS where that is published; both are asked for at once, for the deadline has no room for one by one."""
        if service == "rnasp" and self._via.get(domain, IM2000) not in (AUTO, IM2000):
            raise _Absent("noservice", f"[resolve.via] sends {domain} by {self._via[domain]}", ABSENT_LONGEST)
        twin = TWIN.get(service)
        if twin is None or self._policy.requires(domain):
            return await self._secure(domain, twin or service)
        found: dict[ServiceName, _Targets | NoAnswer | _Absent] = {}

        async def ask(service: ServiceName) -> None:
            try:
                found[service] = await self._targets(domain, service)
            except (NoAnswer, _Absent) as error:
                found[service] = error

        async with trio.open_nursery() as nursery:
            for name in (service, twin):
                nursery.start_soon(ask, name)
        return await self._chosen(domain, service, found[service], twin, found[twin])

    async def _by_carrier(self, domain: str, why: NoService) -> NoService:
        """Who else reaches a domain that surely has no agent. Where the DNS does not say, nobody for now."""
        word = self._via.get(domain, AUTO)
        if word == IM2000 or not self._carriers or why.kind not in ("baddomain", "noservice"):
            return why
        if word != AUTO:
            return ByCarrier("noservice", str(why), word) if word in self._carriers else why
        if self._policy.requires(domain):  # to be reached by TLS or not at all
            return why
        try:
            facts = await self._facts(domain)
        except NoAnswer as silence:
            return NoService("noserver", f"{why}; {silence}")
        name = next((name for name, takes in self._carriers.items() if takes(facts)), None)
        kind: Literal["baddomain", "noservice"] = "baddomain" if why.kind == "baddomain" else "noservice"
        return why if name is None else ByCarrier(kind, str(why), name)

    async def _facts(self, domain: str) -> DomainFacts:
        found = await self._dns.ask(domain, dns.rdatatype.MX, SRV_SECONDS)
        mx = [rdata.exchange for rdata in found.rdatas or () if isinstance(rdata, MX)]
        if mx:
            hosts = tuple(host.to_text(True).lower() for host in mx if host != dns.name.root)
            return DomainFacts(domain, hosts, null_mx=not hosts)
        return DomainFacts(domain, address=await self._has_address(domain))

    async def _has_address(self, domain: str) -> bool:
        """Raises NoAnswer where it may have one."""
        silence: NoAnswer | None = None
        for rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                if (await self._dns.ask(domain, rdtype, ADDRESS_SECONDS)).rdatas:
                    return True
            except NoAnswer as error:
                silence = error
        if silence is not None:
            raise silence
        return False

    async def _secure(self, domain: str, service: ServiceName) -> tuple[Agent, float]:
        """By TLS or not at all. That a twin is absent says nothing of the domain."""
        try:
            endpoints, ttl = await self._open(domain, service, await self._targets(domain, service))
        except _Absent as absent:
            kind: Kind = "noserver" if absent.why.kind == "noserver" else "noservice"
            raise _Absent(kind, f"{absent.why} and only TLS will do", absent.seconds) from None
        return Agent(endpoints, domain, tls=True), ttl

    async def _chosen(
        self,
        domain: str,
        service: ServiceName,
        clear: _Targets | NoAnswer | _Absent,
        twin: ServiceName,
        secure: _Targets | NoAnswer | _Absent,
    ) -> tuple[Agent, float]:
        fall_back = self._policy.falls_back(domain)
        if isinstance(secure, NoAnswer) and not fall_back:
            raise secure  # it may be published: who silences the DNS shall not choose for us
        if isinstance(secure, Exception):
            if isinstance(clear, Exception):
                raise clear
            endpoints, ttl = await self._open(domain, service, clear)
            return Agent(endpoints, domain), ttl
        if not fall_back or isinstance(clear, Exception):
            endpoints, ttl = await self._open(domain, twin, secure)
            return Agent(endpoints, domain, tls=True), ttl
        others, ttl = await self._open(domain, service, clear)
        try:
            endpoints, least = await self._open(domain, twin, secure)
        except (_Absent, NoService):
            return Agent(others, domain), ttl
        return Agent(endpoints, domain, tls=True, clear=others), min(ttl, least)

    async def _open(self, domain: str, service: ServiceName, targets: _Targets) -> tuple[tuple[Endpoint, ...], float]:
        """The endpoints that we may try, and for how many seconds."""
        endpoints, ttl = await self._endpoints(domain, service, *targets)
        return self._permitted(endpoints), ttl

    async def _endpoints(
        self, domain: str, service: ServiceName, targets: Sequence[tuple[str, int]], ttl: float
    ) -> tuple[list[Endpoint], float]:
        """All addresses in the order to try, and the least TTL of what led to them."""
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

    async def _targets(self, domain: str, service: ServiceName) -> _Targets:
        """RFC 2782 order; no fallback to the domain's own addresses (protocol 2)."""
        static = self._static.get((domain, service))
        if static:
            return [static], float(LONGEST)
        if any((domain, other) in self._static for other in _family(service)):
            raise _Absent("noservice", f"[resolve.static] names no {service} at {domain}", ABSENT_LONGEST)
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

    async def _records(self, label: str, domain: str) -> Result[tuple[UserRecord, ...]]:
        found = None
        with trio.move_on_after(DEADLINE):
            try:
                found = await self._dns.ask(f"{label}._im2000-user.{domain}", dns.rdatatype.TXT, DEADLINE)
            except NoAnswer:
                found = None
        if found is None or not found.rdatas:
            seconds = found.ttl if found else ABSENT_SHORTEST
            return Result((), max(ABSENT_SHORTEST, min(ABSENT_LONGEST, seconds)))
        texts = [b"".join(rdata.strings).decode("ascii", "replace") for rdata in found.rdatas]
        return Result(parse_user_records(texts), max(SHORTEST, min(LONGEST, found.ttl)))


_Targets = tuple[list[tuple[str, int]], float]
"""Hosts and ports in the order to try, and for how many seconds that holds."""


def _family(service: ServiceName) -> tuple[ServiceName, ...]:
    """A service and its twin: where the static table names the one, it speaks for both."""
    return next((clear, secure) for clear, secure in TWIN.items() if service in (clear, secure))


class _Absent(Exception):
    """The DNS says that there is nothing; for how many seconds."""

    def __init__(self, kind: Kind, text: str, seconds: float) -> None:
        super().__init__(text)
        self.why = NoService(kind, text)
        self.seconds = seconds
