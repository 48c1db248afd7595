"""Query octets in, answer octets out: no socket, no clock, no log, and no exception whatever the packet holds.

We answer with authority for our own zones and REFUSE the rest, recurse for nobody, transfer nothing. Names keep the
case they were asked in (draft-vixie-dnsext-dns0x20). While the catalogue is incomplete an unknown user is SERVFAIL,
never NXDOMAIN: a sender then asks the domain's SRV, and no mail is refused for a user we have not seen yet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from forwarder.dns.names import HEADER_OCTETS, OPT, FormErr, Query, read_query, wire_name
from forwarder.dns.zone import IN, SOA, USER, Zone, each_rr

FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 1, 2, 3, 4, 5, 16
ANY, MAILA, IXFR = 255, 254, 251
UDP_OCTETS = 512  # what a resolver without EDNS can take (RFC 1035 2.3.4)
EDNS_OCTETS = 1232  # the most we send by UDP: never a fragment (DNS flag day 2020)
TCP_OCTETS = 65535
READY = 32768  # answers kept: of names that exist, in the spellings they were asked for
READY_OCTETS = 256  # the longest query they are kept for: 50 MB at the very most
QR, AA, TC = 0x80, 0x04, 0x02  # of octet 2
RD, CD = 0x01, 0x10  # of octets 2 and 3: handed back as they came

_HEAD = struct.Struct("!BBHHHH")

Change = tuple[str, str, Sequence[str]]


class Answerer:
    """Answers for a set of zones, which is swapped as a whole."""

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self._zones = {zone.apex: zone for zone in zones}
        self._ready: dict[bytes, bytes] = {}
        self._journal: list[Change] | None = None

    def prepare(self) -> None:
        """New zones are being made (one making at a time): changes of users are kept, to be made in them too."""
        self._journal = []

    def swap(self, zones: Iterable[Zone]) -> None:
        """From the next query on these zones, with what has changed since `prepare`."""
        self._zones = {zone.apex: zone for zone in zones}
        changes, self._journal = self._journal or (), None
        for change in changes:
            self._set(*change)
        self._ready.clear()

    def set_records(self, domain: str, label: str, lines: Sequence[str]) -> None:
        """These zone lines are now all there is of one user of a domain; none: the name is gone. Raises ValueError.

        A domain that has no zone here is passed over.
        """
        self._set(domain, label, lines)
        if self._journal is not None:
            self._journal.append((domain, label, lines))
        self._ready.clear()

    def answer_udp(self, packet: bytes) -> bytes | None:
        """The answer, at most as long as its sender can take, else empty with TC. None: say nothing."""
        ready = self._ready.get(packet[2:])
        if ready is not None:
            return packet[:2] + ready
        answer, exists = self._answer(packet, EDNS_OCTETS)
        if answer is not None and exists and len(packet) <= READY_OCTETS:
            if len(self._ready) >= READY:
                del self._ready[next(iter(self._ready))]
            self._ready[packet[2:]] = answer[2:]
        return answer

    def answer_tcp(self, packet: bytes) -> bytes | None:
        """The whole answer. None: not worth one, hang up."""
        return self._answer(packet, TCP_OCTETS)[0]

    def truncated(self, packet: bytes) -> bytes | None:
        """ "Ask me by TCP": what a client over its rate is told now and then (never longer than its question)."""
        try:
            query = read_query(packet) if len(packet) >= HEADER_OCTETS and packet[2] < QR else None
        except FormErr:
            return None
        return _reply(packet, query, 0, TC) if query else None

    def _set(self, domain: str, label: str, lines: Sequence[str]) -> None:
        for apex in (f"{USER}.{domain}", domain):
            zone = self._zones.get(wire_name(apex))
            if zone is not None:
                zone.set_user(label, lines)
                return

    def _answer(self, packet: bytes, most: int) -> tuple[bytes | None, bool]:
        """The answer, and whether the name asked for exists (only such answers are kept)."""
        if len(packet) < HEADER_OCTETS or packet[2] & QR:
            return None, False
        if packet[2] & 0x78:
            return _bare(packet, NOTIMP), False
        try:
            query = read_query(packet)
        except FormErr:
            return _bare(packet, FORMERR), False
        if query.edns:
            if query.edns.version:
                return _reply(packet, query, BADVERS, 0), False
            limit = min(most, max(UDP_OCTETS, query.edns.size)) if most < TCP_OCTETS else most
        else:
            limit = UDP_OCTETS if most < TCP_OCTETS else most
        return self._look_up(packet, query, limit)

    def _look_up(self, packet: bytes, query: Query, limit: int) -> tuple[bytes, bool]:
        zone, depth = self._zone(query)
        if zone is None or query.qclass != IN or IXFR <= query.qtype <= MAILA:
            return _reply(packet, query, REFUSED, 0), False
        apex_at = len(query.name) - len(zone.apex)
        relative = query.name[:apex_at]
        node = zone.find(relative, query.starts[:depth])
        if node is None and zone.undecided(relative):
            return _reply(packet, query, SERVFAIL, 0), False
        records = _select(node if relative else zone.soa() + (node or b""), query.qtype) if node is not None else []
        if records:
            answer = _reply(packet, query, 0, AA, records)
        else:
            owner = (0xC000 | HEADER_OCTETS + apex_at).to_bytes(2, "big")
            proof = [zone.soa(owner, zone.negative_ttl)]
            answer = _reply(packet, query, NXDOMAIN if node is None else 0, AA, (), proof)
        if len(answer) > limit:
            answer = _reply(packet, query, 0, AA | TC)
        return answer, node is not None

    def _zone(self, query: Query) -> tuple[Zone | None, int]:
        """The closest zone above a name, and how many labels the name has below it."""
        for depth, start in enumerate((*query.starts, len(query.name) - 1)):
            zone = self._zones.get(query.name[start:])
            if zone is not None:
                return zone, depth
        return None, 0


def _select(node: bytes, qtype: int) -> list[bytes]:
    """The records of a type; of ANY one set is enough (RFC 8482 4.1)."""
    if qtype == ANY:
        qtype = next((rdtype for rdtype, _ in each_rr(node) if rdtype != SOA), SOA)
    return [octets for rdtype, octets in each_rr(node) if rdtype == qtype]


def _bare(packet: bytes, rcode: int) -> bytes:
    """An answer that repeats no question: there was none we understood."""
    return packet[:2] + bytes((QR | packet[2] & (0x78 | RD), rcode)) + bytes(8)


def _reply(
    packet: bytes, query: Query, rcode: int, flags: int, answers: Sequence[bytes] = (), authority: Sequence[bytes] = ()
) -> bytes:
    """Header, the question as it was asked, the sections, and an OPT where the query had one."""
    edns = query.edns
    octets = QR | flags | packet[2] & RD, packet[3] & CD | rcode & 0xF
    head = _HEAD.pack(*octets, 1, len(answers), len(authority), 1 if edns else 0)
    opt = b""
    if edns:
        size = EDNS_OCTETS.to_bytes(2, "big")
        opt = b"\0" + OPT.to_bytes(2, "big") + size + bytes((rcode >> 4, 0, 0x80 if edns.do else 0, 0, 0, 0))
    return b"".join((packet[:2], head, packet[HEADER_OCTETS : query.end], *answers, *authority, opt))
