"""Who reaches a domain that has no agent: what the DNS surely says of it, and what `[resolve.via]` says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import dns.message
import dns.rcode
import pytest

from forwarder.bridges import DomainFacts
from forwarder.net.tls_policy import TlsPolicy
from forwarder.ports import ByCarrier, NoService
from forwarder_smtp_bridge import takes

from .test_locate import ISP, kind_of, locator

Nameserver = Any  # the scripted one of conftest.py, which no test can import
StartNameserver = Callable[[str], Awaitable[Nameserver]]

ZONE = """
mail 300 IN MX 20 second.mail
mail 300 IN MX 10 first.mail
refuses 300 IN MX 0 .
only 300 IN A 93.184.216.3
only6 300 IN AAAA 2606:2800::3
nothing 300 IN TXT "no mail here"
offers 300 IN MX 10 first.mail
_im2000-rnasp._tcp.offers 300 IN SRV 0 0 0 .
half 300 IN MX 10 first.mail
_im2000-rnasp._tcp.half 300 IN SRV 0 0 7101 nowhere
"""


class Seen:
    """A carrier's `takes`, as the bridge has it, and what it was asked."""

    def __init__(self) -> None:
        self.facts: list[DomainFacts] = []

    def __call__(self, facts: DomainFacts) -> bool:
        self.facts.append(facts)
        return takes(facts)


async def way(look_up: Awaitable[object]) -> str:
    """Who carries to it; else why nobody does."""
    try:
        await look_up
    except ByCarrier as error:
        return error.carrier
    except NoService as error:
        return error.kind
    return "agent"


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("mail.example", "smtp"),
        ("only.example", "smtp"),
        ("only6.example", "smtp"),
        ("offers.example", "smtp"),
        ("refuses.example", "baddomain"),
        ("nothing.example", "baddomain"),
        ("nowhere.example", "baddomain"),
        ("half.example", "noserver"),
        ("isp.example", "agent"),
    ],
)
async def test_auto_is_an_agent_where_one_is_published_else_smtp_where_mail_is_taken(
    nameserver: StartNameserver, domain: str, found: str
) -> None:
    """half: it names an agent that has no address now. That is down, not absent."""
    where = locator(await nameserver(ISP + ZONE), carriers={"smtp": takes})
    assert await way(where.find(domain, "rnasp")) == found


async def test_a_carrier_is_told_all_hosts_that_take_mail_and_that_none_does(nameserver: StartNameserver) -> None:
    seen = Seen()
    where = locator(await nameserver(ZONE), carriers={"smtp": seen})
    for domain in ("mail.example", "refuses.example", "only.example", "nothing.example"):
        await way(where.find(domain, "rnasp"))
    mail, *others = seen.facts
    assert (mail.domain, sorted(mail.mx), mail.null_mx) == (
        "mail.example",
        ["first.mail.example", "second.mail.example"],
        False,
    )
    assert others == [
        DomainFacts("refuses.example", null_mx=True),
        DomainFacts("only.example", address=True),
        DomainFacts("nothing.example"),
    ]


@pytest.mark.parametrize(
    ("domain", "failing"), [("mail.example", "SRV"), ("mail.example", "MX"), ("only.example", "A")]
)
async def test_where_the_dns_does_not_say_nobody_carries_for_now(
    nameserver: StartNameserver, monkeypatch: pytest.MonkeyPatch, domain: str, failing: str
) -> None:
    """It may have an agent, or refuse all mail, or have an address: asked again soon."""
    server = await nameserver(ZONE)
    answer = server.answer

    def failed(query: dns.message.Message) -> dns.message.Message:
        made: dns.message.Message = answer(query)
        if query.question[0].rdtype.name == failing:
            made.set_rcode(dns.rcode.SERVFAIL)
        return made

    monkeypatch.setattr(server, "answer", failed)
    assert await way(locator(server, carriers={"smtp": takes}).find(domain, "rnasp")) == "noserver"


async def test_without_a_carrier_nothing_is_asked_beside_the_agent(nameserver: StartNameserver) -> None:
    server = await nameserver(ZONE)
    assert await kind_of(locator(server).find("mail.example", "rnasp")) == "baddomain"
    assert all(rdtype == "SRV" for _, rdtype in server.asked)


async def test_other_services_than_the_agents_are_never_carried(nameserver: StartNameserver) -> None:
    where = locator(await nameserver(ZONE), carriers={"smtp": takes})
    assert await way(where.find("mail.example", "msrap")) == "baddomain"


@pytest.mark.parametrize(
    ("word", "domain", "found"),
    [
        ("im2000", "mail.example", "baddomain"),
        ("smtp", "isp.example", "smtp"),
        ("smtp", "nowhere.example", "smtp"),
        ("smtp", "refuses.example", "smtp"),
        ("pigeons", "mail.example", "noservice"),
        ("auto", "mail.example", "smtp"),
        ("auto", "isp.example", "agent"),
    ],
)
async def test_what_resolve_via_says_of_a_domain_rules_over_its_dns(
    nameserver: StartNameserver, word: str, domain: str, found: str
) -> None:
    """pigeons: no such carrier is configured; then it waits."""
    where = locator(await nameserver(ISP + ZONE), carriers={"smtp": takes}, via={domain: word})
    assert await way(where.find(domain, "rnasp")) == found


async def test_who_must_be_reached_by_tls_is_never_carried_unless_it_is_said(nameserver: StartNameserver) -> None:
    policy = TlsPolicy(frozenset({"mail.example"}), frozenset())
    server = await nameserver(ZONE)
    where = locator(server, carriers={"smtp": takes}, policy=policy)
    assert await way(where.find("mail.example", "rnasp")) == "noservice"
    said = locator(server, carriers={"smtp": takes}, policy=policy, via={"mail.example": "smtp"})
    assert await way(said.find("mail.example", "rnasp")) == "smtp"


async def test_the_first_carrier_that_takes_it_does(nameserver: StartNameserver) -> None:
    carriers = {"none": lambda facts: False, "first": lambda facts: True, "second": lambda facts: True}
    assert await way(locator(await nameserver(ZONE), carriers=carriers).find("mail.example", "rnasp")) == "first"
