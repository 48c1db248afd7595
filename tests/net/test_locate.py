"""Where others are: SRV in its order, what absence means, how long it is remembered, and who may not be reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from forwarder.model import Endpoint, Mailbox, ServiceLocation, format_user_record, user_label
from forwarder.net.address_filter import AddressFilter
from forwarder.net.locate import Locator
from forwarder.net.resolve import Dns
from forwarder.net.tls_policy import TlsPolicy
from forwarder.ports import Agent, NoService
from forwarder.ports import Locator as LocatorPort

Nameserver = Any  # the scripted one of conftest.py, which no test can import
StartNameserver = Callable[[str], Awaitable[Nameserver]]

ISP = """
_im2000-rnasp._tcp.isp 300 IN SRV 20 0 7102 far
_im2000-rnasp._tcp.isp 300 IN SRV 10 0 7101 near
_im2000-msrap._tcp.isp 300 IN TXT "no SRV here"
_im2000-rnaqp._tcp.isp 300 IN SRV 0 0 0 .
near 300 IN A 93.184.216.1
near 300 IN AAAA 2606:2800::1
far 300 IN A 93.184.216.2
"""


def open_filter(*allow: str) -> AddressFilter:
    return AddressFilter([ipaddress.ip_network(text) for text in allow], own=lambda endpoint: False)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def locator(server: Nameserver, clock: Clock | None = None, *allow: str, **more: Any) -> Locator:
    return Locator(open_filter(*allow), Dns([server.endpoint], {}), clock=clock or Clock(), **more)


async def kind_of(look_up: Awaitable[object]) -> str:
    try:
        await look_up
    except NoService as error:
        return error.kind
    raise AssertionError("found")


async def test_targets_come_in_order_of_priority_with_all_their_addresses(nameserver: StartNameserver) -> None:
    port: LocatorPort = locator(await nameserver(ISP))
    assert port.known("isp.example", "rnasp") is None
    agent = await port.find("isp.example", "rnasp")
    near = Endpoint("93.184.216.1", 7101), Endpoint("2606:2800::1", 7101)
    assert agent == Agent((*near, Endpoint("93.184.216.2", 7102)), "isp.example")
    assert port.known("isp.example", "rnasp") is agent


@pytest.mark.parametrize(
    ("domain", "service", "kind"),
    [
        ("nowhere.example", "rnasp", "baddomain"),
        ("isp.example", "msrap", "noservice"),
        ("isp.example", "rnaqp", "noservice"),
        ("isp.example", "msoap", "noserver"),
        ("failing.example", "rnasp", "noserver"),
        ("empty.example", "rnasp", "noserver"),
        ("inside.example", "rnasp", "forbidden"),
        ("low.example", "rnasp", "forbidden"),
        ("x" * 63 + "." + "y" * 63 + "." + "z" * 63 + "." + "w" * 50 + ".example", "rnasp", "baddomain"),
    ],
)
async def test_each_way_of_not_being_there(
    nameserver: StartNameserver, autojump_clock: trio.abc.Clock, domain: str, service: Any, kind: str
) -> None:
    more = """
        _im2000-rnasp._tcp.empty 300 IN SRV 0 0 7101 isp
        _im2000-rnasp._tcp.inside 300 IN SRV 0 0 7101 router
        _im2000-rnasp._tcp.low 300 IN SRV 0 0 25 near
        router 300 IN A 192.168.1.1
    """
    server = await nameserver(ISP + more.replace("        ", ""))
    server.failing |= {"_im2000-rnasp._tcp.failing.example"}
    where = locator(server)
    if service == "msoap":
        where = Locator(open_filter(), Dns([Endpoint("127.0.0.1", 9)], {}))
    with trio.fail_after(11):
        assert await kind_of(where.find(domain, service)) == kind
    assert where.known(domain, service) is None


async def test_a_silent_nameserver_costs_ten_seconds_once(
    nameserver: StartNameserver, autojump_clock: trio.abc.Clock
) -> None:
    server = await nameserver(ISP)
    server.silent.add("_im2000-rnasp._tcp.isp.example")
    where = locator(server)
    begun = trio.current_time()
    assert await kind_of(where.find("isp.example", "rnasp")) == "noserver"
    waited = trio.current_time() - begun
    assert await kind_of(where.find("isp.example", "rnasp")) == "noserver"
    assert trio.current_time() - begun == waited <= 10


async def test_a_name_that_changes_is_seen_when_its_time_is_up(nameserver: StartNameserver) -> None:
    server, clock = await nameserver(ISP), Clock()
    where = locator(server, clock)
    before = await where.find("isp.example", "rnasp")
    server.publish(ISP.replace("93.184.216.", "93.184.217."))
    clock.now = 299.0
    assert await where.find("isp.example", "rnasp") is before
    clock.now = 301.0
    assert where.known("isp.example", "rnasp") is None
    after = await where.find("isp.example", "rnasp")
    assert after.endpoints[0] == Endpoint("93.184.217.1", 7101)


async def test_an_absence_is_remembered_as_its_soa_says(nameserver: StartNameserver) -> None:
    server, clock = await nameserver(""), Clock()
    where = locator(server, clock)
    assert await kind_of(where.find("isp.example", "rnasp")) == "baddomain"
    server.publish(ISP)
    clock.now = 44.0
    assert await kind_of(where.find("isp.example", "rnasp")) == "baddomain"
    clock.now = 46.0
    assert (await where.find("isp.example", "rnasp")).name == "isp.example"


@pytest.mark.parametrize(("ttl", "first", "then"), [(0, 0.9, 1.1), (10**6, 3599, 3601)])
async def test_no_ttl_is_taken_to_extremes(nameserver: StartNameserver, ttl: int, first: float, then: float) -> None:
    clock = Clock()
    where = locator(await nameserver(ISP.replace(" 300 ", f" {ttl} ")), clock)
    await where.find("isp.example", "rnasp")
    clock.now = first
    assert where.known("isp.example", "rnasp")
    clock.now = then
    assert where.known("isp.example", "rnasp") is None


async def test_equal_look_ups_are_one_and_survive_a_cancelled_caller(nameserver: StartNameserver) -> None:
    server = await nameserver(ISP)
    server.gate = trio.Event()
    where = locator(server)
    found: list[Agent] = []

    async def look() -> None:
        found.append(await where.find("isp.example", "rnasp"))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            impatient = trio.CancelScope()

            async def give_up() -> None:
                with impatient:
                    await look()

            nursery.start_soon(give_up)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(50):
                nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel()
            await trio.testing.wait_all_tasks_blocked()
            server.gate.set()
    assert len(found) == 50
    assert len(set(map(id, found))) == 1
    assert server.asked["_im2000-rnasp._tcp.isp.example", "SRV"] == 2  # the cancelled one's, and the next's


async def test_too_many_look_ups_are_refused_at_once(
    nameserver: StartNameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.net.lookups.WAITING", 3)
    server = await nameserver(ISP)
    server.gate = trio.Event()
    where = locator(server)
    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(kind_of, where.find(f"n{n}.example", "rnasp"))
        await trio.testing.wait_all_tasks_blocked()
        assert await kind_of(where.find("n4.example", "rnasp")) == "noserver"
        server.gate.set()


async def test_memory_is_bounded(nameserver: StartNameserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.net.lookups.REMEMBERED", 4)
    where = locator(await nameserver(ISP))
    await where.find("isp.example", "rnasp")
    for n in range(10):
        await kind_of(where.find(f"n{n}.example", "rnasp"))
    assert len(where._agents._kept) == 4


async def test_of_several_addresses_only_the_permitted_are_told(nameserver: StartNameserver) -> None:
    where = locator(await nameserver(ISP + "near 300 IN A 10.0.0.1\n"))
    agent = await where.find("isp.example", "rnasp")
    assert Endpoint("10.0.0.1", 7101) not in agent.endpoints
    assert len(agent.endpoints) == 3
    where = locator(await nameserver(ISP + "near 300 IN A 10.0.0.1\n"), None, "10.0.0.0/8")
    assert Endpoint("10.0.0.1", 7101) in (await where.find("isp.example", "rnasp")).endpoints


async def test_the_static_table_is_asked_before_the_dns(nameserver: StartNameserver) -> None:
    server = await nameserver(ISP)
    static: Any = {"isp.example": {"rnasp": ("127.0.0.1", 7201), "msrap": ("near.example", 7202)}}
    where = locator(server, None, "127.0.0.0/8", static=static)
    assert (await where.find("isp.example", "rnasp")).endpoints == (Endpoint("127.0.0.1", 7201),)
    assert not await where.records(Mailbox("bob", "isp.example"))
    assert not server.asked
    named = await where.find("isp.example", "msrap")
    assert named.endpoints == (Endpoint("93.184.216.1", 7202), Endpoint("2606:2800::1", 7202))
    assert await kind_of(locator(server, static=static).find("isp.example", "rnasp")) == "forbidden"


async def test_a_zone_may_be_asked_elsewhere(nameserver: StartNameserver) -> None:
    other, inner = await nameserver(""), await nameserver(ISP)
    zones = {"isp.example": [inner.endpoint], "example": [other.endpoint]}
    where = Locator(open_filter(), Dns([other.endpoint], zones), clock=Clock())
    assert await kind_of(where.find("isp.example", "rnasp")) == "noserver"  # its targets are asked at the other one
    assert inner.asked["_im2000-rnasp._tcp.isp.example", "SRV"] == 1
    assert other.asked["near.example", "A"] == 1
    assert await kind_of(where.find("isp2.example", "rnasp")) == "baddomain"


async def test_locations_out_of_notifications(nameserver: StartNameserver) -> None:
    server = await nameserver(ISP)
    where = locator(server)
    literals = ServiceLocation(None, (Endpoint("93.184.216.9", 7102), Endpoint("10.0.0.1", 7102)))
    assert (await where.place(ServiceLocation("isp.example"), "rnasp")).name == "isp.example"
    assert await kind_of(where.place(literals, "msrap")) == "forbidden"
    assert await kind_of(where.place(ServiceLocation(), "msrap")) == "noservice"
    lab = locator(server, literals=True)
    assert await lab.place(literals, "msrap") == Agent((Endpoint("93.184.216.9", 7102),), "93.184.216.9:7102")
    inside = ServiceLocation(None, (Endpoint("::ffff:10.0.0.1", 7102),))
    assert await kind_of(lab.place(inside, "msrap")) == "forbidden"


async def test_hosts_of_plugins_are_resolved_and_filtered(nameserver: StartNameserver) -> None:
    where = locator(await nameserver(ISP + "router 300 IN A 192.168.1.1\n"))
    assert len(await where.resolve("near.example", 8000)) == 2
    assert await kind_of(where.resolve("router.example", 8000)) == "forbidden"
    assert await kind_of(where.resolve("none.example", 8000)) == "noserver"


# -- option 6


def user(local: str, *texts: str) -> str:
    return "".join(f'{user_label(local)}._im2000-user.isp 300 IN TXT "{text}"\n' for text in texts)


async def test_records_of_a_user_are_read_in_order_and_remembered(nameserver: StartNameserver) -> None:
    bob, copy = Mailbox("bob", "new.example"), Mailbox("b2", "copy.example")
    texts = format_user_record(copy, group=2), format_user_record(bob, rna="rna.example"), "v=im2k1; to=void"
    server = await nameserver(user("bob", *texts))
    where = locator(server)
    records = await where.records(Mailbox("BOB", "isp.example"))
    assert [(r.to, r.rna, r.group) for r in records] == [(bob, "rna.example", 0), (copy, "copy.example", 2)]
    assert await where.records(Mailbox("bob", "isp.example")) is records
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("how", ["absent", "failing", "silent", "void"])
async def test_no_record_for_whatever_reason_leaves_the_srv(
    nameserver: StartNameserver, autojump_clock: trio.abc.Clock, how: str
) -> None:
    server = await nameserver(user("bob", "v=im2k2; to=x@y.example") if how == "void" else "")
    name = f"{user_label('bob')}._im2000-user.isp.example"
    {"failing": server.failing, "silent": server.silent}.get(how, set()).add(name)
    assert await locator(server).records(Mailbox("bob", "isp.example")) == ()


async def test_a_known_agent_costs_no_wait(nameserver: StartNameserver) -> None:
    server = await nameserver(ISP)
    where = locator(server)
    await where.find("isp.example", "rnasp")
    asked = sum(server.asked.values())
    for _ in range(100):
        await where.find("isp.example", "rnasp")
    assert sum(server.asked.values()) == asked


# -- TLS twins (protocol 2): used where published, clear only by policy

TWINS = """
_im2000-rnasp._tcp.both 300 IN SRV 0 0 7101 near
_im2000-rnasps._tcp.both 300 IN SRV 0 0 7111 near
_im2000-rnasps._tcp.only 300 IN SRV 0 0 7111 near
_im2000-rnasp._tcp.plain 300 IN SRV 0 0 7101 near
_im2000-rnasp._tcp.denied 300 IN SRV 0 0 7101 near
_im2000-rnasps._tcp.denied 300 IN SRV 0 0 0 .
_im2000-rnasp._tcp.lost 300 IN SRV 0 0 7101 near
_im2000-rnasps._tcp.lost 300 IN SRV 0 0 7111 nowhere
near 300 IN A 93.184.216.1
"""
CLEAR, SECURE = Endpoint("93.184.216.1", 7101), Endpoint("93.184.216.1", 7111)


def policy(require: str = "", fall_back: str = "") -> TlsPolicy:
    return TlsPolicy(frozenset(require.split()), frozenset(fall_back.split()))


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("both.example", Agent((SECURE,), "both.example", tls=True)),
        ("only.example", Agent((SECURE,), "only.example", tls=True)),
        ("plain.example", Agent((CLEAR,), "plain.example")),
        ("denied.example", Agent((CLEAR,), "denied.example")),
    ],
)
async def test_a_twin_that_is_published_is_used(nameserver: StartNameserver, domain: str, expected: Agent) -> None:
    assert await locator(await nameserver(TWINS)).find(domain, "rnasp") == expected


@pytest.mark.parametrize("harm", ["failing", "silent"])
async def test_a_dns_that_does_not_say_whether_there_is_a_twin_is_no_leave_to_speak_in_clear(
    nameserver: StartNameserver, autojump_clock: trio.abc.Clock, harm: str
) -> None:
    server = await nameserver(TWINS)
    getattr(server, harm).add("_im2000-rnasps._tcp.plain.example")
    assert await kind_of(locator(server).find("plain.example", "rnasp")) == "noserver"
    if harm == "failing":  # the other takes the clock along, and the answers that follow come too late for it
        allowed = await locator(server, policy=policy(fall_back="*")).find("plain.example", "rnasp")
        assert allowed == Agent((CLEAR,), "plain.example")


async def test_a_twin_without_an_address_is_not_replaced_by_the_clear_service(nameserver: StartNameserver) -> None:
    server = await nameserver(TWINS)
    assert await kind_of(locator(server).find("lost.example", "rnasp")) == "noserver"
    allowed = await locator(server, policy=policy(fall_back="lost.example")).find("lost.example", "rnasp")
    assert allowed == Agent((CLEAR,), "lost.example")


@pytest.mark.parametrize("require", ["*", "plain.example both.example", "example"])
async def test_where_tls_is_required_a_domain_without_it_has_no_service(
    nameserver: StartNameserver, require: str
) -> None:
    server = await nameserver(TWINS)
    where = locator(server, policy=policy(require, fall_back="*"))
    assert await kind_of(where.find("plain.example", "rnasp")) == "noservice"
    assert await where.find("both.example", "rnasp") == Agent((SECURE,), "both.example", tls=True)
    assert ("_im2000-rnasp._tcp.plain.example", "SRV") not in server.asked


async def test_where_policy_allows_the_clear_service_is_tried_last(nameserver: StartNameserver) -> None:
    where = locator(await nameserver(TWINS), policy=policy(fall_back="both.example"))
    agent = await where.find("both.example", "rnasp")
    assert agent.ways == ((SECURE, True), (CLEAR, False))


async def test_a_location_over_tls_is_never_looked_up_in_clear(nameserver: StartNameserver) -> None:
    where = locator(await nameserver(TWINS))
    assert await kind_of(where.find("plain.example", "rnasps")) == "noservice"
    assert (await where.find("both.example", "rnasps")).tls


async def test_the_static_table_speaks_for_both_twins(nameserver: StartNameserver) -> None:
    server = await nameserver(TWINS)
    clear, secure = ("93.184.216.9", 7101), ("93.184.216.9", 7111)
    static = {"both.example": {"rnasp": clear}, "isp.example": {"rnasp": clear, "rnasps": secure}}
    where = locator(server, static=static)
    assert await where.find("both.example", "rnasp") == Agent((Endpoint(*clear),), "both.example")
    assert await where.find("isp.example", "rnasp") == Agent((Endpoint(*secure),), "isp.example", tls=True)
    assert not server.asked
    strict = locator(server, static=static, policy=policy("*"))
    assert await kind_of(strict.find("both.example", "rnasp")) == "noservice"


async def test_an_address_over_tls_proves_itself() -> None:
    where = Locator(open_filter(), Dns([], {}), literals=True)
    one, two = Endpoint("93.184.216.9", 7112), Endpoint("93.184.216.8", 7112)
    location = ServiceLocation(None, (one, two))
    assert await where.place(location, "msraps") == Agent((one,), "93.184.216.9", tls=True)
    strict = Locator(open_filter(), Dns([], {}), literals=True, policy=policy("*"))
    assert await kind_of(strict.place(location, "msrap")) == "forbidden"
