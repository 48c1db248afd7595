"""Where others would have a real daemon connect to (protocol 8.3): names that change between two look-ups, IPv4 in
IPv6's clothes, our own listeners under a foreign name; named by an agent's SRV, by a notification's store, by literals.

127.77.0.0/16 stands for the world outside, the rest of loopback for what is closed. `Inside` counts who comes in there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import pytest

from forwarder.model import Endpoint, ServiceLocation

from .agents import Agent, codes, notification, notify
from .names import Names
from .node import Node, running
from .peers import eventually, submit, track

OUTSIDE = "127.77.0.1"
HIDDEN = {
    "loopback": ("A", "127.0.0.1"),
    "mapped": ("AAAA", "::ffff:127.0.0.1"),
    "NAT64": ("AAAA", "64:ff9b::7f00:1"),
    "6to4": ("AAAA", "2002:7f00:1::1"),
    "loopback of IPv6": ("AAAA", "::1"),
    "metadata service": ("A", "169.254.169.254"),
}


class Place(NamedTuple):
    node: Node
    names: Names
    outside: Agent
    inside: Agent
    """On the same port as the one outside, so that only the address tells them apart."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        outside, inside = _same_port()
        held.enter_context(closing(outside))
        held.enter_context(closing(inside))
        settings = {
            "network.allow": '["127.77.0.0/16"]',
            "network.literals": "true",
            "resolve.nameservers": f'["127.0.0.1:{names.port}"]',
            "listen.msrap": '["0.0.0.0:0"]',
        }
        node = Node(tmp_path_factory.mktemp("astray") / "config", "pobox.example", settings)
        node.account("brian")
        node.address("archive@pobox.example", 'strategy = "pull_hold"\nreaders = ["brian"]')
        held.enter_context(running(node))
        yield Place(node, names, outside, inside)


def _same_port() -> tuple[Agent, Agent]:
    for _ in range(50):
        outside = Agent(OUTSIDE)
        try:
            return outside, Agent("127.0.0.1", outside.port)
        except OSError:
            outside.close()
    raise AssertionError("no port is free on both")


def _leads_to(place: Place, domain: str, service: str, port: int, *answers: tuple[str, str]) -> None:
    """The domain's service is at host.DOMAIN; answers: what is said of that, (type, address), all at once."""
    place.names.records[f"_im2000-{service}._tcp.{domain}", "SRV"] = [f"0 0 {port} host.{domain}."]
    place.names.records[f"host.{domain}", "TXT"] = ["it exists"]
    for rdtype, address in answers:
        place.names.records.setdefault((f"host.{domain}", rdtype), []).append(address)


def _forward(place: Place, domain: str) -> None:
    place.node.address(f"to.{domain}@pobox.example", f'to = ["x@{domain}"]')


def _code(place: Place, to: str, key: int, **more: object) -> int:
    return codes(notify(place.node.port("rnasp"), [notification(to, key, **more)]))[0]  # type: ignore[arg-type]


def _refused_for_good(place: Place, key: int, **more: object) -> bool:
    """A pull is answered when it is owed; what came of it is told to who repeats."""
    return _code(place, "archive@pobox.example", key, **more) == 49


# -- names that change


def test_the_address_that_was_judged_is_the_one_dialled(place: Place) -> None:
    """A name that says "outside" when it is asked first, and "inside" if it were asked again to connect."""
    _leads_to(place, "once.example", "rnasp", place.outside.port)
    place.names.turns["host.once.example", "A"] = [[OUTSIDE], ["127.0.0.1"]]
    _forward(place, "once.example")
    assert _code(place, "to.once.example@pobox.example", 1) == 0
    assert place.outside.took["x@once.example"] == 1
    assert place.names.asked.count("host.once.example") == 2, "A and AAAA, once each"
    assert place.inside.connections == 0


def test_a_name_that_moves_inside_is_refused_when_its_time_is_up(place: Place) -> None:
    """The session outside is still open; it is the name's no more."""
    _leads_to(place, "moves.example", "rnasp", place.outside.port)
    place.names.ttl = 1
    place.names.turns["host.moves.example", "A"] = [[OUTSIDE], ["127.0.0.1"]]
    _forward(place, "moves.example")
    assert _code(place, "to.moves.example@pobox.example", 1) == 0
    key = iter(range(2, 1 << 20))
    assert eventually(lambda: _code(place, "to.moves.example@pobox.example", next(key)) == 32)
    assert "loopback" in place.node.ask("status")["broken"]["agent of moves.example"]
    assert place.inside.connections == 0
    place.names.ttl = 60


def test_of_several_addresses_the_one_inside_is_never_tried(place: Place) -> None:
    _leads_to(place, "both.example", "rnasp", place.outside.port, ("A", "127.0.0.1"), ("A", OUTSIDE), ("AAAA", "::1"))
    _forward(place, "both.example")
    assert _code(place, "to.both.example@pobox.example", 1) == 0
    assert place.outside.took["x@both.example"] == 1
    assert place.inside.connections == 0


# -- addresses in disguise


@pytest.mark.parametrize("form", HIDDEN)
def test_an_agent_that_leads_inside_is_not_connected_to(place: Place, form: str) -> None:
    domain = f"agent{list(HIDDEN).index(form)}.example"
    _leads_to(place, domain, "rnasp", place.outside.port, HIDDEN[form])
    _forward(place, domain)
    assert _code(place, f"to.{domain}@pobox.example", 1) == 32
    assert " address" in place.node.ask("status")["broken"][f"agent of {domain}"]
    assert place.inside.connections == 0


@pytest.mark.parametrize("form", HIDDEN)
def test_a_store_that_leads_inside_is_not_connected_to(place: Place, form: str) -> None:
    domain = f"store{list(HIDDEN).index(form)}.example"
    _leads_to(place, domain, "msrap", place.inside.port, HIDDEN[form])
    assert eventually(lambda: _refused_for_good(place, 1, store=domain))
    assert place.inside.connections == 0


@pytest.mark.parametrize("form", HIDDEN)
def test_a_store_named_by_an_address_inside_is_not_connected_to(place: Place, form: str) -> None:
    """`literals` lets stores have addresses for names; it opens nothing."""
    address = str(ipaddress.ip_address(HIDDEN[form][1]))
    store = ServiceLocation(literals=(Endpoint(address, place.inside.port),))
    assert eventually(lambda: _refused_for_good(place, 7000 + list(HIDDEN).index(form), at=store))
    assert place.inside.connections == 0


def test_our_own_message_for_a_domain_that_leads_inside_is_kept_and_the_sender_told(place: Place) -> None:
    _leads_to(place, "sent.example", "rnasp", place.outside.port, ("AAAA", "::ffff:127.0.0.1"))
    key = submit(place.node, "brian", "anna@sent.example", b"Subject: x\n\nhello\n")
    assert eventually(lambda: track(place.node, "brian", key).notificationstatus.name == "noserver")
    assert place.inside.connections == 0


# -- ourselves


@pytest.mark.parametrize("address", [OUTSIDE, "127.77.3.3"])
def test_our_own_store_under_a_foreign_name_is_not_asked(place: Place, address: str) -> None:
    """It listens on all addresses; each of them is ourselves, and another port there is not."""
    domain = f"mirror{address.replace('.', '-')}.example"
    _leads_to(place, domain, "msrap", place.node.port("msrap"), ("A", address))
    before = place.node.ask("status")["commands"]["msrap"]
    assert eventually(lambda: _refused_for_good(place, 1, store=domain))
    assert place.node.ask("status")["commands"]["msrap"] == before


def test_inside_is_where_it_should_be(place: Place) -> None:
    """The witness of this file can be reached: nobody came because nobody was sent."""
    before = place.inside.connections
    with socket.create_connection(("127.0.0.1", place.inside.port), 5):
        assert eventually(lambda: place.inside.connections == before + 1)
