"""Which endpoints are our own listeners (protocol 8.3): those of this machine, however they are written; no other's."""

from __future__ import annotations

import pytest

from forwarder.model import Endpoint
from forwarder.net.ourselves import is_own

LOOPBACK = Endpoint("127.0.0.1", 7101)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "0.0.0.0"])
def test_a_listener_on_all_addresses_is_reached_by_each_of_this_machine(address: str) -> None:
    assert is_own({Endpoint("0.0.0.0", 7101)}, Endpoint(address, 7101))
    assert is_own({Endpoint("::", 7101)}, Endpoint(address, 7101))
    assert not is_own({Endpoint("0.0.0.0", 7101)}, Endpoint(address, 7102))


@pytest.mark.parametrize("address", ["198.51.100.7", "1.1.1.1", "2001:db8::7", "64:ff9b::1.1.1.1"])
def test_another_machine_with_a_listener_on_the_same_port_is_not_ourselves(address: str) -> None:
    assert not is_own({Endpoint("0.0.0.0", 7101), Endpoint("::", 7101)}, Endpoint(address, 7101))


def test_a_listener_on_one_address_is_that_one() -> None:
    assert is_own({LOOPBACK}, LOOPBACK)
    assert not is_own({LOOPBACK}, Endpoint("127.0.0.2", 7101))
    assert not is_own({LOOPBACK}, Endpoint("127.0.0.1", 7102))
