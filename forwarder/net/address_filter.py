"""Where we may connect to (protocol 8.3): strangers name our peers, so none of them may be a door into our own network.

Pure: an endpoint in, a reason to refuse or None out. Asked after every look-up and again with the very address of
every connect. What is embedded in an IPv6 address (mapped, NAT64, 6to4) is judged by the IPv4 address it leads to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from forwarder.model import Endpoint

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FIRST_PORT = 1024  # below live the services that a length word might upset (8.2)

# IANA's special-purpose registries (RFC 6890 and later), by what they are to us.
_CLOSED_4 = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "documentation",
    "192.88.99.0/24": "6to4 relay",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_CLOSED_6 = {
    "::/128": "unspecified",
    "::1/128": "loopback",
    "fe80::/10": "link-local",
    "fc00::/7": "unique local",
    "ff00::/8": "multicast",
    "2001::/23": "reserved",  # Teredo, benchmarking, ORCHID
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
}
_CLOSED: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(text), what) for text, what in (_CLOSED_4 | _CLOSED_6).items()
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")  # all that is routed; the rest is reserved, site-local, discard-only ...
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressFilter:
    """allow: networks open although they are closed to others, low ports included. own: whether we listen there."""

    def __init__(self, allow: Sequence[Network], own: Callable[[Endpoint], bool]) -> None:
        self._allow = tuple(allow)
        self._own = own

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Why not to connect there; None: permitted."""
        try:
            address = ipaddress.ip_address(endpoint.address)
        except ValueError:
            return f"{endpoint.address!r} is no IP address"
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        inner = _embedded(address)
        if any(self._own(Endpoint(str(form), endpoint.port)) for form in (address, inner) if form):
            return f"{endpoint} is ourselves under a foreign name"
        if not 0 < endpoint.port < 65536:
            return f"{endpoint} has no port"
        if any(address in network for network in self._allow):
            return None
        if endpoint.port < FIRST_PORT:
            return f"{endpoint}: port below {FIRST_PORT}"
        what = _closed(address) or (inner and _closed(inner))
        return f"{endpoint}: {what} address" if what else None


def may_log_in(address: str, allowed: Sequence[Network]) -> bool:
    """Whether a password may travel to or from there without TLS: loopback, and `[network] clear_login` (7.18)."""
    there = ipaddress.ip_address(address)
    return there.is_loopback or any(there.version == net.version and there in net for net in allowed)


def _closed(address: Address) -> str | None:
    for network, what in _CLOSED:
        if address in network:
            return what
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return "link-local"
        if address not in _GLOBAL_6 and address not in _NAT64:
            return "reserved"
    return None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address end at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return address.sixtofour
