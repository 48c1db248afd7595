"""How we reach others: names, the address filter, TLS, sessions, and the links on top. Built once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from forwarder.agent.limits import Strangers, Struck, SubmitterLimit
from forwarder.agent.links import Links
from forwarder.agent.tick import Tick
from forwarder.config.certificates import believe
from forwarder.config.settings import Settings
from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter
from forwarder.net.destinations import Destinations
from forwarder.net.dial import Dialer
from forwarder.net.locate import Locator, Takes
from forwarder.net.resolve import Dns
from forwarder.net.sessions import Pool
from forwarder.net.tls import Trust, system_context, system_trust
from forwarder.net.tls_policy import TlsPolicy
from forwarder.plugin import Log


@dataclass(frozen=True, slots=True)
class Reach:
    """The way out. Every connection passes `dialer`, and with it the address filter."""

    names: Dns
    dialer: Dialer
    locator: Locator
    trust: Trust
    pool: Pool
    tick: Tick
    links: Links
    strangers: Strangers

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """For plugins: a name or an address, and a port."""
        [endpoint, *_] = await self.locator.resolve(host, port)
        return await self.dialer.connect(endpoint)


def reach(
    settings: Settings,
    nursery: trio.Nursery,
    own: Callable[[Endpoint], bool],
    log: Log,
    submitters: SubmitterLimit,
    struck: Struck,
    carriers: Mapping[str, Takes],
) -> Reach:
    """own: whether we listen there ourselves (protocol 8.3)."""
    address_filter = AddressFilter(settings.network.allow, own)
    dialer = Dialer(address_filter, Destinations(time.monotonic, struck), submitters.exempt)
    names = Dns(settings.resolve.nameservers, settings.resolve.zones)
    locator = _locator(settings, address_filter, names, carriers)
    trust = _trust(settings)
    pool = Pool(dialer.connect, nursery, name=settings.node.name, trust=trust)
    tick = Tick(lambda error: log.info("tick failed", error=str(error), exc_info=error))
    links = Links(locator, pool, tick, nursery)
    links.struck = struck
    return Reach(names, dialer, locator, trust, pool, tick, links, Strangers(time.monotonic, struck))


def _locator(settings: Settings, address_filter: AddressFilter, names: Dns, carriers: Mapping[str, Takes]) -> Locator:
    network, resolve = settings.network, settings.resolve
    static = {domain: services.places for domain, services in resolve.static.items()}
    policy = TlsPolicy(frozenset(network.require_tls), frozenset(network.clear_fallback))
    return Locator(
        address_filter,
        names,
        static=static,
        literals=network.literals,
        policy=policy,
        carriers=carriers,
        via=resolve.via,
    )


def _trust(settings: Settings) -> Trust:
    """The system's authorities are read when the first TLS service is met, a file of our own now."""
    if not settings.network.ca:
        return system_trust
    context = system_context()
    believe(context, settings.path(settings.network.ca))
    return lambda: context
