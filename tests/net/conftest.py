"""A nameserver scripted by the test: a zone text read by dnspython, with a count of what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
import trio

from forwarder.model import Endpoint


class Nameserver:
    """Answers for `zone`; `silent` names get no answer, `failing` ones SERVFAIL."""

    def __init__(self, text: str) -> None:
        self.publish(text)
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.gate: trio.Event | None = None
        self.endpoint = Endpoint("127.0.0.1", 0)

    def publish(self, text: str) -> None:
        soa = "@ 60 IN SOA ns.example. host.example. 1 2 3 4 45\n@ 60 IN NS ns.example.\n"
        self.zone = dns.zone.from_text(soa + text, "example.", relativize=False)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
            await udp.bind(("127.0.0.1", 0))
            self.endpoint = Endpoint(*udp.getsockname())
            task_status.started()
            while True:
                packet, client = await udp.recvfrom(4096)
                answer = self.answer(dns.message.from_wire(packet))
                if self.gate is not None:
                    await self.gate.wait()
                if answer:
                    await udp.sendto(answer.to_wire(), client)

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.asked[name, question.rdtype.name] += 1
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        rdataset = self.zone.get_rdataset(question.name, question.rdtype)
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif rdataset is not None:
            answer.answer.append(dns.rrset.from_rdata_list(question.name, rdataset.ttl, list(rdataset)))
        else:
            soa = self.zone.find_rdataset("@", dns.rdatatype.SOA)
            answer.authority.append(dns.rrset.from_rdata_list(self.zone.origin or dns.name.root, 60, list(soa)))
            if self.zone.get_node(question.name) is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


StartNameserver = Callable[[str], Awaitable[Nameserver]]


@pytest.fixture
async def nameserver(nursery: trio.Nursery) -> StartNameserver:
    """Starts one on loopback for a text of zone lines under `example.`"""

    async def start(text: str) -> Nameserver:
        made = Nameserver(text)
        await nursery.start(made.run)
        return made

    return start
