"""What our domains publish, out of their files: `dns show` prints it, the daemon serves it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from forwarder.config.domains import Domain
from forwarder.config.keys import SigningKeys
from forwarder.config.names import domain_file
from forwarder.config.settings import Settings
from forwarder.daemon.keys import records_of
from forwarder.dns.zone import ZoneFacts
from forwarder.model import Endpoint, Route
from forwarder.plugins import Plugins

PUBLISHED = ("rnasp", "msrap", "rnasp_tls", "msrap_tls")
"""What strangers look up; where readers poll and originators submit is private configuration (protocol 1)."""

Bound = Mapping[str, Iterable[Endpoint]]


def zone_facts(
    settings: Settings,
    plugins: Plugins,
    domain: Domain,
    routes: Iterable[Route],
    keys: SigningKeys,
    *,
    bound: Bound | None = None,
    complete: bool = True,
) -> ZoneFacts:
    """routes: the domain's exact addresses. bound: where the services listen, by their name; else as configured."""
    listening = bound if bound is not None else _configured(settings)
    exact = list(routes)
    catch_all = [domain.catch_all] if domain.catch_all else []
    return ZoneFacts(
        domain=domain.name,
        mode="serve" if domain.dns.mode == "serve" else "delegate",
        nameservers=domain.dns.nameservers or (settings.node.name,),
        contact=str(domain.dns.contact or f"hostmaster@{domain.name}"),
        ttl=int(domain.dns.ttl.total_seconds()),
        serial=int(domain_file(settings.folder, domain.name).stat().st_mtime),
        services=dict(_services(settings, listening)),
        addresses={settings.node.name: tuple(_addresses(settings, listening))},
        records=[line for route in [*exact, *catch_all] for line in record_lines(plugins, route)],
        complete=complete,
        tags=bool(domain.tag),
        patterns=bool(domain.patterns),
        others=any(not _publishes(plugins, route) for route in exact),
        keys=records_of(keys, domain, settings.node.name, datetime.now(UTC)),
    )


def record_lines(plugins: Plugins, route: Route) -> list[str]:
    """The zone lines of an address, none where its strategy publishes nothing."""
    spec = plugins.strategies.get(route.strategy)
    if spec is None or spec.records is None:
        return []
    return list(spec.records(route, route.options[route.strategy]))


def _publishes(plugins: Plugins, route: Route) -> bool:
    spec = plugins.strategies.get(route.strategy)
    return spec is not None and spec.records is not None


def _configured(settings: Settings) -> Bound:
    return {name: getattr(settings.listen, name) for name in (*PUBLISHED, "dns")}


def _services(settings: Settings, bound: Bound) -> Iterator[tuple[str, tuple[str, int]]]:
    """Service label to host and port: as the world is told, else this node and the port it listens on."""
    for name in PUBLISHED:
        told = getattr(settings.public, name)
        label = name.replace("_tls", "s")
        if told:
            yield label, (_host(settings, told.host), told.port)
            continue
        first = next(iter(bound.get(name, ())), None)
        if first is not None and first.port:
            yield label, (settings.node.name, first.port)


def _host(settings: Settings, host: str) -> str:
    """An SRV target is a name: an address told to the world is this node's."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return settings.node.name


def _addresses(settings: Settings, bound: Bound) -> Iterator[str]:
    """This node's own addresses, as far as the files say them; loopback only where there is nothing else."""
    told = [getattr(settings.public, name) for name in PUBLISHED]
    candidates = [place.host for place in told if place]
    candidates += [place.address for name in (*PUBLISHED, "dns") for place in bound.get(name, ())]
    found = [text for text in dict.fromkeys(candidates) if _usable(text)]
    outside = [text for text in found if not ipaddress.ip_address(text).is_loopback]
    yield from outside or found


def _usable(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False
