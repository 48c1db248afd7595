"""A name server of our own on loopback: it knows what a test tells it, and says NXDOMAIN to the rest.

`turns` are answers one after the other, for names that change between two questions; the last of them stays.
"""

from __future__ import annotations

import socket
import threading

import dns.message
import dns.rcode
import dns.rrset


class Names:
    """Answers over UDP in a thread of its own."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.records: dict[tuple[str, str], list[str]] = {}
        self.turns: dict[tuple[str, str], list[list[str]]] = {}
        self.ttl = 60
        self.empty: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            packet, client = self._socket.recvfrom(4096)
            if not packet:
                return
            self._socket.sendto(self._answer(dns.message.from_wire(packet)).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name, rdtype = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
        self.asked.append(name)
        if turns := self.turns.get((name, rdtype)):
            self.records[name, rdtype] = turns.pop(0)
        answer = dns.message.make_response(query)
        if name in self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records := self.records.get((name, rdtype)):
            answer.answer.append(dns.rrset.from_text_list(question.name, self.ttl, "IN", rdtype, records))
        elif name not in self.empty and not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()
