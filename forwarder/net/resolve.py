"""Questions to the DNS: which nameservers are asked about which zone, and what their silence means.

dnspython asks, on Trio, over UDP and for long answers over TCP. Nothing is remembered here: `locate` does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdataset
import dns.rdatatype
import dns.resolver

from forwarder.model import Endpoint

TRY_SECONDS = 2.0  # for one nameserver; then the next is asked
PAYLOAD = 1232  # octets of a UDP answer (DNS flag day 2020)
NEGATIVE_SECONDS = 30  # where an absence comes without a SOA


class NoAnswer(Exception):
    """No nameserver said anything to be trusted: time-out, SERVFAIL, REFUSED, no nameserver at all."""


class Found(NamedTuple):
    """rdatas: None where the name does not exist (NXDOMAIN), empty where it has no such records. ttl in seconds."""

    rdatas: dns.rdataset.Rdataset | None
    exists: bool
    ttl: int


class Dns:
    """The nameservers to ask; none = the system's. zones: asked elsewhere with all below, the longest match wins."""

    def __init__(self, nameservers: Sequence[Endpoint], zones: Mapping[str, Sequence[Endpoint]]) -> None:
        self._default = _resolver(nameservers) if nameservers else _system()
        self._zones = {domain: _resolver(servers) for domain, servers in zones.items()}
        self._backend = dns.asyncbackend.get_backend("trio")

    async def ask(self, name: str, rdtype: dns.rdatatype.RdataType, seconds: float) -> Found:
        """CNAMEs followed. Raises NoAnswer, after `seconds` at most."""
        resolver = self._resolver_of(name)
        if resolver is None:
            raise NoAnswer("no nameserver is known: set [resolve] nameservers")
        try:
            answer = await resolver.resolve(
                f"{name}.", rdtype, raise_on_no_answer=False, lifetime=seconds, search=False, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as absent:
            return Found(None, False, _negative_ttl(list(absent.responses().values())))  # type: ignore[no-untyped-call]
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise NoAnswer(f"{name} {rdtype.name}: {str(error) or type(error).__name__}") from None
        if answer.rrset is None:
            return Found(None, True, _negative_ttl([answer.response]))
        return Found(answer.rrset, True, answer.chaining_result.minimum_ttl)

    def _resolver_of(self, name: str) -> dns.asyncresolver.Resolver | None:
        suffix = name
        while suffix:
            if suffix in self._zones:
                return self._zones[suffix]
            suffix = suffix.partition(".")[2]
        return self._default


def _resolver(nameservers: Sequence[Endpoint]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in nameservers]
    return _tuned(resolver)


def _system() -> dns.asyncresolver.Resolver | None:
    try:
        return _tuned(dns.asyncresolver.Resolver())
    except dns.resolver.NoResolverConfiguration:
        return None


def _tuned(resolver: dns.asyncresolver.Resolver) -> dns.asyncresolver.Resolver:
    resolver.timeout = TRY_SECONDS
    resolver.use_edns(0, 0, PAYLOAD)
    return resolver


def _negative_ttl(responses: Sequence[dns.message.Message]) -> int:
    """Seconds that an absence may be remembered (RFC 2308 5): the lesser of the SOA's TTL and its last field."""
    for response in responses:
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return int(min(rrset.ttl, rrset[0].minimum))
    return NEGATIVE_SECONDS
