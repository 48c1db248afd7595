"""What a domain publishes, out of its files: for `dns show`, which works without a daemon."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from forwarder.cli.errors import Wrong
from forwarder.cli.folder import Folder
from forwarder.config.lines import ConfigError
from forwarder.config.names import domain_file
from forwarder.config.reading import Host, Reader
from forwarder.config.settings import Settings
from forwarder.config.sweep import sweep_domain
from forwarder.dns.zone import ZoneFacts
from forwarder.model import Route

PUBLISHED = ("rnasp", "msrap", "rnasp_tls", "msrap_tls")
"""What strangers look up; where readers poll and originators submit is private configuration (protocol 1)."""


def zone_facts(folder: Folder, host: Host) -> tuple[ZoneFacts, bool]:
    """The facts, and whether we serve the domain's records ourselves. Raises Wrong for a broken domain file."""
    domain, settings = host.domain, folder.settings
    if domain is None:
        raise Wrong(str(host.error))
    reader = Reader(settings.folder, settings, folder.plugins.strategies)
    routes = [found for found in sweep_domain(reader, domain) if not isinstance(found, ConfigError)]
    catch_all = [domain.catch_all] if domain.catch_all else []
    nameservers = domain.dns.nameservers or (settings.node.name,)
    facts = ZoneFacts(
        domain=domain.name,
        mode="serve" if domain.dns.mode == "serve" else "delegate",
        nameservers=nameservers,
        contact=str(domain.dns.contact or f"hostmaster@{domain.name}"),
        ttl=int(domain.dns.ttl.total_seconds()),
        serial=int(domain_file(settings.folder, domain.name).stat().st_mtime),
        services=dict(_services(settings)),
        addresses={settings.node.name: tuple(_addresses(settings))},
        records=[line for route in [*routes, *catch_all] for line in _lines(folder, route)],
        tags=bool(domain.tag),
        patterns=bool(domain.patterns),
        others=any(not _publishes(folder, route) for route in routes),
    )
    return facts, domain.dns.mode != "off"


def _services(settings: Settings) -> Iterator[tuple[str, tuple[str, int]]]:
    """Service label to host and port: as the world is told, else this node and the port it listens on."""
    for name in PUBLISHED:
        told = getattr(settings.public, name)
        listening = getattr(settings.listen, name)
        label = name.replace("_tls", "s")
        if told:
            yield label, (_host(settings, told.host), told.port)
        elif listening and listening[0].port:
            yield label, (settings.node.name, listening[0].port)


def _host(settings: Settings, host: str) -> str:
    """An SRV target is a name: an address told to the world is this node's."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return settings.node.name


def _addresses(settings: Settings) -> Iterator[str]:
    """This node's own addresses, as far as the files say them."""
    told = [getattr(settings.public, name) for name in PUBLISHED]
    candidates = [place.host for place in told if place]
    candidates += [place.address for name in (*PUBLISHED, "dns") for place in getattr(settings.listen, name)]
    for text in dict.fromkeys(candidates):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not address.is_unspecified and not address.is_loopback:
            yield text


def _publishes(folder: Folder, route: Route) -> bool:
    return folder.plugins.strategies[route.strategy].records is not None


def _lines(folder: Folder, route: Route) -> list[str]:
    records = folder.plugins.strategies[route.strategy].records
    return [] if records is None else list(records(route, route.options[route.strategy]))
