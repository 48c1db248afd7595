"""What one peer can hold of us: sessions, octets ahead of its turn; and what literals lead to (protocol 8.3, 8.11)."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from forwarder.model import Endpoint, ServiceLocation
from forwarder.net.address_filter import may_log_in
from forwarder.net.server import NETWORK_SHARE, SENT_AHEAD, Limits
from forwarder.net.tls_policy import TlsPolicy
from forwarder.ports import Agent
from forwarder.wire.session import RNASP

from .test_last_words import House
from .test_locate import kind_of, locator

OPEN = Endpoint("93.184.216.9", 7112)
INSIDE = Endpoint("10.0.0.1", 7112)


@pytest.fixture
async def make(nursery: trio.Nursery) -> AsyncIterator[Callable[[Limits], House]]:
    yield lambda limits: House(RNASP, nursery, limits)
    nursery.cancel_scope.cancel()


class Named(list[str]):
    def __call__(self, name: str, who: str) -> None:
        self.append(name)


def strangers(sessions: int, per_address: int) -> tuple[Limits, Named]:
    named = Named()
    return Limits(sessions, per_address, lambda address: False, named), named


async def flood(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(bytes(SENT_AHEAD))


async def test_who_sends_far_ahead_of_its_turn_is_cut_off(make: Callable[[Limits], House]) -> None:
    """Nothing is read of it before its answer is out, but what arrives must lie somewhere."""
    limits, named = strangers(10, 10)
    house = await make(limits).open()
    async with await house.connect() as stream:
        await stream.send_all(house.command)
        await house.service.asked.wait()
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await flood(stream)
    assert named == ["octets ahead"]


async def test_who_sends_a_little_ahead_is_not(make: Callable[[Limits], House]) -> None:
    limits, named = strangers(10, 10)
    house = await make(limits).open()
    async with await house.connect() as stream:
        await stream.send_all(house.command * 2)
        await house.service.asked.wait()
        house.service.say()
        assert (await stream.receive_some()).startswith(house.word("errornotauthenticated"))
    assert named == []


def test_an_address_has_so_many_sessions_and_gets_them_back() -> None:
    limits, named = strangers(100, 2)
    assert [limits.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert limits.enter("192.0.2.2")
    limits.leave("192.0.2.1")
    assert limits.enter("192.0.2.1")
    assert named == ["sessions_per_address"]


def test_a_network_has_its_share_of_all_sessions() -> None:
    """A /24 has more addresses than we have room."""
    limits, named = strangers(40, 2)
    share = int(40 * NETWORK_SHARE)
    taken = [limits.enter(f"192.0.2.{host}") for host in range(share + 1)]
    assert taken == [True] * share + [False]
    assert named == ["sessions of a network"]
    assert limits.enter("198.51.100.1")
    limits.leave("192.0.2.0")
    assert limits.enter("192.0.2.77")


def test_all_together_have_so_many() -> None:
    limits, named = strangers(3, 0)
    assert [limits.enter(f"192.0.{net}.1") for net in range(4)] == [True, True, True, False]
    assert named == ["sessions"]


@pytest.mark.parametrize("service", ["msrap", "msraps"])
async def test_a_location_by_address_goes_through_the_filter(
    nameserver: Callable[[str], Awaitable[Any]], service: Any
) -> None:
    lab = locator(await nameserver(""), literals=True)
    found = await lab.place(ServiceLocation(None, (OPEN, INSIDE)), service)
    assert found.endpoints == (OPEN,)
    assert await kind_of(lab.place(ServiceLocation(None, (INSIDE,)), service)) == "forbidden"
    inner = locator(await nameserver(""), None, "10.0.0.0/8", literals=True)
    assert (await inner.place(ServiceLocation(None, (INSIDE,)), service)).endpoints == (INSIDE,)


async def test_an_address_proves_no_name_where_tls_is_required(nameserver: Callable[[str], Awaitable[Any]]) -> None:
    lab = locator(await nameserver(""), literals=True, policy=TlsPolicy(require=frozenset({"*"})))
    clear = ServiceLocation(None, (OPEN,))
    assert await kind_of(lab.place(clear, "msrap")) == "forbidden"
    assert await lab.place(clear, "msraps") == Agent((OPEN,), str(ipaddress.ip_address(OPEN.address)), tls=True)


@pytest.mark.parametrize(
    ("address", "may"),
    [("127.0.0.1", True), ("::1", True), ("192.0.2.7", True), ("192.0.3.7", False), ("2001:db8::1", False)],
)
def test_a_password_may_go_in_clear_to_loopback_and_where_it_is_allowed(address: str, may: bool) -> None:
    assert may_log_in(address, [ipaddress.ip_network("192.0.2.0/24")]) is may


def test_what_requires_tls_is_never_tried_in_clear() -> None:
    """The stricter word rules, whatever is said of all."""
    policy = TlsPolicy(require=frozenset({"bank.example"}), fall_back=frozenset({"*"}))
    assert policy.falls_back("isp.example")
    assert not policy.falls_back("bank.example")
    assert not policy.falls_back("mx.bank.example")
