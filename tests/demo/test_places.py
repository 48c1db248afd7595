"""Each node listens where nobody else does."""

from __future__ import annotations

import socket

import pytest

from forwarder.demo import places
from forwarder.demo.places import LOOPBACK, USUAL, place, quiet_port


def all_places(*, usual: bool) -> list[tuple[str, int]]:
    taken: set[tuple[str, int]] = set()
    found = [place(number, usual=usual, taken=taken) for number in (1, 2, 3)]
    return [(each.address, port) for each in found for port in each.ports.values()]


@pytest.mark.parametrize("usual", [True, False])
def test_no_two_services_share_a_place(usual: bool) -> None:
    assert len(set(all_places(usual=usual))) == 3 * len(USUAL)


def test_a_taken_port_is_passed_over() -> None:
    taken: set[tuple[str, int]] = set()
    free = place(1, usual=True, taken=set())
    with socket.create_server((free.address, free.ports["rnasp"])):
        assert place(1, usual=True, taken=taken).at("rnasp") != free.at("rnasp")


def test_where_loopback_is_one_address_all_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    free = places._free
    monkeypatch.setattr(places, "_free", lambda address, port: free(address, port) if address == LOOPBACK else 0)
    found = all_places(usual=True)
    assert {address for address, _ in found} == {LOOPBACK}
    assert len(set(found)) == 3 * len(USUAL)


def test_a_quiet_port_is_free_and_given_once() -> None:
    taken: set[int] = set()
    given = [quiet_port(taken) for _ in range(50)]
    assert len(set(given)) == 50
    assert taken == set(given)
    for port in given:
        with socket.create_server((LOOPBACK, port)):
            pass
