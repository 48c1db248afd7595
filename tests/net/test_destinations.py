"""How often one address is connected to, whoever made us (protocol 8.2)."""

from __future__ import annotations

import ipaddress
from functools import partial

import pytest
import trio
import trio.testing

from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter
from forwarder.net.destinations import BURST, Destinations
from forwarder.net.dial import Dialer
from forwarder.ports import NoService

THERE = Endpoint("198.51.100.1", 7101)
ANYWHERE = ipaddress.ip_network("127.0.0.0/8")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admitted(destinations: Destinations, endpoint: Endpoint, *, strange: bool = False) -> bool:
    try:
        destinations.admit(endpoint, strange=strange)
    except NoService:
        return False
    return True


def test_an_address_is_connected_to_so_often_whatever_its_ports() -> None:
    clock, struck = Clock(), list[str]()
    destinations = Destinations(clock, lambda name, who: struck.append(name))
    ports = [Endpoint("198.51.100.1", 2000 + n) for n in range(200)]
    assert sum(admitted(destinations, port) for port in ports) == BURST
    assert admitted(destinations, Endpoint("198.51.100.2", 2000))
    clock.now += 1
    assert sum(admitted(destinations, port) for port in ports) == 20
    assert set(struck) == {"connections to an address"}


def test_the_addresses_of_one_host_over_ipv6_are_one() -> None:
    destinations = Destinations(Clock())
    hosts = [Endpoint(f"2001:db8::{n:x}", 7101) for n in range(200)]
    assert sum(admitted(destinations, host) for host in hosts) == BURST


def test_an_endpoint_that_fails_rests_longer_each_time_and_another_port_does_not() -> None:
    clock = Clock()
    destinations = Destinations(clock)
    for _ in range(4):
        assert admitted(destinations, THERE)
        destinations.ended(THERE, well=False)
    assert not admitted(destinations, THERE)
    assert admitted(destinations, THERE._replace(port=7102))
    clock.now += 1.1
    assert admitted(destinations, THERE)
    destinations.ended(THERE, well=False)
    clock.now += 1.1
    assert not admitted(destinations, THERE)
    clock.now += 1
    assert admitted(destinations, THERE)
    destinations.ended(THERE, well=True)
    assert admitted(destinations, THERE)


async def test_the_dialer_asks_but_for_our_own_machines() -> None:
    destinations = Destinations(Clock())
    address_filter = AddressFilter([ANYWHERE], own=lambda endpoint: False)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    there = Endpoint(*listener.socket.getsockname())
    stranger, ours = Dialer(address_filter, destinations), Dialer(address_filter, destinations, lambda address: True)
    async with listener:
        for _ in range(int(BURST)):
            destinations.admit(there)
        with pytest.raises(NoService, match="over the limit"):
            await stranger.connect(there)
        await (await ours.connect(there)).aclose()


async def test_a_caller_that_gives_up_is_no_failure_of_the_peer(autojump_clock: trio.testing.MockClock) -> None:
    destinations = Destinations(Clock())

    class Slow(Dialer):
        async def _open(self, endpoint: Endpoint) -> trio.SocketStream:
            await trio.sleep_forever()
            raise AssertionError

    slow = Slow(AddressFilter([ANYWHERE], own=lambda endpoint: False), destinations)
    for _ in range(10):
        with trio.move_on_after(1):
            await slow.connect(Endpoint("127.0.0.1", 7101))
    assert admitted(destinations, Endpoint("127.0.0.1", 7101))


def test_strangers_take_half_at_most_and_leave_the_rest_to_those_we_know() -> None:
    """Who names a good host, under however many names, does not make its mail wait."""
    clock, struck = Clock(), list[str]()
    destinations = Destinations(clock, lambda name, who: struck.append(name))

    def strange() -> bool:
        return admitted(destinations, THERE, strange=True)

    assert sum(strange() for _ in range(1000)) == BURST / 2
    assert set(struck) == {"connections to an address for strangers"}
    assert sum(admitted(destinations, THERE) for _ in range(1000)) == BURST / 2
    for _ in range(10):
        clock.now += 1
        assert sum(strange() for _ in range(1000)) == 10
        assert sum(admitted(destinations, THERE) for _ in range(1000)) == 10


def test_strangers_do_not_make_us_a_guesser_of_keys_anywhere() -> None:
    """What they name and is not there, at one address: ten a minute. Whom we know goes on."""
    clock, struck = Clock(), list[str]()
    destinations = Destinations(clock, lambda name, who: struck.append(name))

    def asks() -> bool:
        came = admitted(destinations, THERE, strange=True)
        if came:
            destinations.missed(THERE)
        return came

    assert sum(asks() for _ in range(40)) == 10
    assert set(struck) == {"misses at a store"}
    assert admitted(destinations, THERE)
    assert admitted(destinations, Endpoint("198.51.100.2", 7101), strange=True)
    clock.now += 12
    assert sum(asks() for _ in range(40)) == 2


async def test_addresses_that_strangers_name_and_that_never_answer_leave_half_of_what_may_be_opened(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    class Half(Dialer):
        async def _open(self, endpoint: Endpoint) -> trio.SocketStream:
            if endpoint == THERE:
                raise NoService("noserver", "it was reached")
            await trio.sleep_forever()
            raise AssertionError

    dialer = Half(
        AddressFilter([ipaddress.ip_network("198.51.0.0/16")], own=lambda endpoint: False), Destinations(Clock())
    )
    for number in range(300):
        dead = Endpoint(f"198.51.{2 + number // 200}.{number % 200}", 7101)
        nursery.start_soon(partial(dialer.connect, dead, strange=True))
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(1), pytest.raises(NoService, match="it was reached"):
        await dialer.connect(THERE)
    nursery.cancel_scope.cancel()
