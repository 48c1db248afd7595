"""Which addresses strangers may not send us to (protocol 8.3), and that the one dialled is the one judged."""

from __future__ import annotations

import ipaddress
import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter
from forwarder.net.dial import Dialer
from forwarder.ports import NoService

CLOSED = AddressFilter([], own=lambda endpoint: False)
INSIDE = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.1.2.3": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.255.255": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "169.254.169.254": "link-local",
    "192.0.0.8": "reserved",
    "192.0.2.1": "documentation",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "198.19.0.1": "benchmarking",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
}
INSIDE_6 = [
    *["::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "100::1"],
    *["2001:db8::1", "3fff::1", "2001::1", "2001:2::1", "2001:10::1", "64:ff9b:1::1", "5f00::1", "4000::1"],
]
OUTSIDE = [
    *["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0"],
    *["192.167.255.255", "192.169.0.0", "223.255.255.255", "2606:2800::1", "2a00::1", "2002:0101:0101::1"],
    *["64:ff9b::1.1.1.1", "::ffff:1.1.1.1"],
]


@pytest.mark.parametrize(("address", "what"), INSIDE.items())
def test_closed_addresses_and_all_that_leads_to_them(address: str, what: str) -> None:
    packed = ipaddress.IPv4Address(address).packed
    sixtofour = str(ipaddress.IPv6Address(b"\x20\x02" + packed + bytes(10)))
    for form in (address, f"::ffff:{address}", f"64:ff9b::{address}", sixtofour):
        refusal = CLOSED.refusal(Endpoint(form, 7101))
        assert refusal is not None
        assert what in refusal


@pytest.mark.parametrize("address", INSIDE_6)
def test_closed_addresses_of_ipv6(address: str) -> None:
    assert CLOSED.refusal(Endpoint(address, 7101))


@pytest.mark.parametrize("address", OUTSIDE)
def test_open_addresses(address: str) -> None:
    assert CLOSED.refusal(Endpoint(address, 1024)) is None


@pytest.mark.parametrize("port", [-1, 0, 25, 80, 443, 1023, 65536])
def test_low_ports_and_no_ports_are_refused(port: int) -> None:
    assert CLOSED.refusal(Endpoint("1.1.1.1", port))


@pytest.mark.parametrize("address", ["", "isp.example", "1.1.1", "0177.0.0.1", "2130706433", "1.1.1.1/32", "[::1]"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert CLOSED.refusal(Endpoint(address, 7101))


def test_the_allow_list_opens_a_network_and_its_low_ports_but_nothing_that_merely_leads_to_it() -> None:
    lab = AddressFilter([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8")], lambda endpoint: False)
    assert not lab.refusal(Endpoint("127.0.0.1", 25))
    assert not lab.refusal(Endpoint("::ffff:127.0.0.1", 7101))
    assert not lab.refusal(Endpoint("fd00::1", 7101))
    assert lab.refusal(Endpoint("64:ff9b::127.0.0.1", 7101))
    assert lab.refusal(Endpoint("::1", 7101))


def test_ourselves_under_a_foreign_name_are_refused_even_in_an_allowed_network() -> None:
    ours = {Endpoint("127.0.0.1", 7101), Endpoint("1.1.1.1", 7101)}
    lab = AddressFilter([ipaddress.ip_network("127.0.0.0/8")], ours.__contains__)
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "1.1.1.1", "64:ff9b::1.1.1.1"):
        refusal = lab.refusal(Endpoint(address, 7101))
        assert refusal is not None
        assert "ourselves" in refusal
    assert not lab.refusal(Endpoint("127.0.0.1", 7201))


@given(st.ip_addresses())
def test_what_is_permitted_is_global_to_python_too(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not CLOSED.refusal(Endpoint(str(address), 7101)):
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        assert (inner or address).is_global or str(address).startswith("64:ff9b:")
        assert not address.is_multicast


# -- dialling


async def test_a_dialled_stream_sends_at_once() -> None:
    lab = Dialer(AddressFilter([ipaddress.ip_network("127.0.0.0/8")], lambda endpoint: False))
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        port = listener.socket.getsockname()[1]
        async with await lab.connect(Endpoint("127.0.0.1", port)) as stream:
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            async with await listener.accept():
                pass
    with pytest.raises(NoService) as refused:
        await lab.connect(Endpoint("127.0.0.1", port))
    assert refused.value.kind == "noserver"


async def test_nothing_is_sent_to_a_forbidden_address() -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        endpoint = Endpoint("127.0.0.1", listener.socket.getsockname()[1])
        with pytest.raises(NoService) as forbidden:
            await Dialer(CLOSED).connect(endpoint)
        assert forbidden.value.kind == "forbidden"
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with trio.move_on_after(0) as waited:
            await listener.accept()
        assert waited.cancelled_caught


async def test_a_connect_that_hangs_ends_after_15_seconds(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(self: object, address: object) -> None:
        await trio.sleep_forever()

    with trio.socket.socket() as some:
        monkeypatch.setattr(type(some), "connect", hang)
    with pytest.raises(NoService) as silent:
        await Dialer(CLOSED).connect(Endpoint("1.1.1.1", 7101))
    assert (silent.value.kind, trio.current_time()) == ("noserver", 15.0)
