"""A stranger's bad day before a real daemon: floods, forged names, connections that others choose for us (protocol 8).

Strangers come from addresses of 127.0.0.0/8 that are not trusted here. What a limit does is seen in the answer, in
`status` and in the log.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from forwarder.model import Hop, Signature
from forwarder.wire import rnasp

from .agents import Agent, ask, codes, notification, notify
from .names import Names
from .node import Node, running
from .peers import eventually, submit, track

FORGED = 10_000
NETWORKS = 10
BATCH = 100
GOOD = "127.99.0.1"
DOMAINS = 150


class Place(NamedTuple):
    node: Node
    names: Names
    agent: Agent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        agent = held.enter_context(closing(Agent()))
        settings = {
            "network.trusted": "[]",
            "resolve.nameservers": f'["127.0.0.1:{names.port}"]',
            "resolve.static": f'{{"out.example" = {{rnasp = "127.0.0.1:{agent.port}"}}}}',
            "limits.waiting_per_sender": 50,
        }
        node = Node(tmp_path_factory.mktemp("strangers") / "config", "pobox.example", settings)
        node.account("brian")
        node.address("brian@pobox.example", 'strategy = "subscribe"\nreaders = ["brian"]')
        node.address("anna@pobox.example", 'to = ["anna@out.example"]')
        node.address("archive@pobox.example", 'strategy = "pull_hold"\nreaders = ["brian"]')
        node.address("astray@pobox.example", 'to = ["astray@mirror.example"]')
        for k in range(DOMAINS):
            node.address(f"to{k}@pobox.example", f'to = ["x@victim{k}.example"]')
        held.enter_context(running(node))
        yield Place(node, names, agent)


def told(response: rnasp.Response) -> list[str]:
    assert isinstance(response.data, rnasp.NotifyAnswer)
    assert response.data.results is not None
    return [outcome.text for outcome in response.data.results]


def struck(node: Node, name: str) -> int:
    return int(node.ask("status")["limits"].get(name, 0))


def test_ten_thousand_forged_stores_cost_few_look_ups_and_good_ones_pass(place: Place) -> None:
    """Half of them to an address that would fetch, half signed by keys to be looked up; from ten networks."""
    node, names, _ = place
    before = len(names.asked)
    signature = Signature("", "s1", 1, 1_700_000_000, b"\0" * 64)
    key = 1 << 64
    for batch in range(FORGED // BATCH):
        forged = []
        for _ in range(BATCH):
            key += 1
            store = f"forged{key}.example"
            if key % 2:
                forged.append(notification("archive@pobox.example", key, store=store))
            else:
                signed = signature._replace(domain=store)
                forged.append(notification("anna@pobox.example", key, store=store, signature=signed))
        notify(node.port("rnasp"), forged, source=f"127.50.{batch % NETWORKS}.7")
        if batch % 10 == 0:
            good = notification("anna@pobox.example", 10_000 + batch, store="good.example")
            assert codes(notify(node.port("rnasp"), [good], source=GOOD)) == [0]
    asked = len(names.asked) - before
    print(f"{FORGED} forged: {asked} look-ups")
    assert asked < 1000
    assert struck(node, "look-ups of strange names") > 0
    assert struck(node, "waiting_per_sender of a network") > 0
    assert struck(node, "screen look-ups") > 0
    node.event("limit struck", limit="screen look-ups")


def test_who_forges_an_innocent_sender_fills_his_own_share(place: Place) -> None:
    node = place.node
    forged = [notification("brian@pobox.example", 5000 + k, store="innocent.example") for k in range(60)]
    response = notify(node.port("rnasp"), forged, source="127.51.0.1")
    assert codes(response) == [0] * 50 + [33] * 10
    assert told(response)[-1] == "over the limit waiting_per_sender"
    own = notification("brian@pobox.example", 6000, store="innocent.example")
    assert codes(notify(node.port("rnasp"), [own], source=GOOD)) == [0]
    assert struck(node, "waiting_per_sender") == 10


def test_a_flood_from_one_network_harms_nobody_else(place: Place) -> None:
    """Each address of it has a bucket of its own, and all of them one together."""
    node = place.node
    limits = []
    for host in range(1, 8):
        for k in range(20):
            flood = [notification("nobody@pobox.example", k * BATCH + n, sender=f"s{n}") for n in range(BATCH)]
            limits += told(notify(node.port("rnasp"), flood, source=f"127.52.0.{host}"))
    assert "over the limit submitter_rate of a network" in limits
    for key, source in ((6001, GOOD), (6002, "127.52.1.1")):
        good = notification("brian@pobox.example", key, store="good.example")
        assert codes(notify(node.port("rnasp"), [good], source=source)) == [0]


def test_one_sender_does_not_use_up_his_store(place: Place) -> None:
    node = place.node
    limits: list[str] = []
    with node.connect("rnasp", "127.53.0.1") as connection:
        for k in range(19):
            noisy = [notification("nobody@pobox.example", k * BATCH + n, sender="noisy") for n in range(BATCH)]
            limits += told(ask(connection, noisy))
        assert "over the limit submitter_rate of a sender" in limits
        assert "over the limit submitter_rate" not in limits
        assert codes(ask(connection, [notification("brian@pobox.example", 6003, sender="quiet")])) == [0]


def test_too_many_hops_are_named(place: Place) -> None:
    trace = tuple(Hop(f"h{n}.example", None, 1, 3) for n in range(8))
    response = notify(place.node.port("rnasp"), [notification("anna@pobox.example", 1, trace=trace)], source=GOOD)
    assert (codes(response), told(response)) == ([52], ["over the limit hops"])
    assert struck(place.node, "hops") == 1


def test_our_own_listener_under_a_foreign_name_is_refused_and_reported(place: Place) -> None:
    node, names, _ = place
    names.records["_im2000-rnasp._tcp.mirror.example", "SRV"] = [f"0 0 {node.port('rnasp')} host.mirror.example."]
    names.records["host.mirror.example", "A"] = ["127.0.0.1"]
    commands = node.ask("status")["commands"]["rnasp"]
    assert codes(notify(node.port("rnasp"), [notification("astray@pobox.example", 1)], source=GOOD)) == [32]
    status = node.ask("status")
    assert "ourselves under a foreign name" in status["broken"]["agent of mirror.example"]
    assert status["commands"]["rnasp"] == commands + 1


def test_many_names_for_one_address_are_no_flood_at_it(place: Place) -> None:
    """Each name has another agent beside it, so no two can share a session."""
    node, names, _ = place
    with closing(Agent("127.0.0.2")) as victim:
        names.records["victim.example", "A"] = ["127.0.0.2"]
        for k in range(DOMAINS):
            srv = [f"0 0 {victim.port} victim.example.", f"9 0 {20000 + k} victim.example."]
            names.records[f"_im2000-rnasp._tcp.victim{k}.example", "SRV"] = srv
        flood = [notification(f"to{k}@pobox.example", 1) for k in range(DOMAINS)]
        outcomes = codes(notify(node.port("rnasp"), flood, source="127.54.0.1"))
        assert set(outcomes) == {0, 32}
        assert victim.connections <= 130
        assert struck(node, "connections to an address") > 0


def test_who_names_a_good_host_under_many_names_does_not_make_its_mail_wait(tmp_path: Path) -> None:
    """Nor makes us a guesser of keys there. The good store has proved itself by its first message."""
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        settings = {"network.trusted": "[]", "resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
        node = Node(tmp_path / "config", "pobox.example", {**settings, "retry.first": '"1s"'})
        node.account("brian")
        node.address("archive@pobox.example", 'strategy = "pull_hold"\nreaders = ["brian"]')
        held.enter_context(running(node))
        static = f'{{"pobox.example" = {{rnasp = "127.0.0.1:{node.port("rnasp")}"}}}}'
        more = {"resolve.static": static, "listen.msrap": '["127.0.0.4:0"]'}
        good = Node(tmp_path / "good" / "config", "good.example", more)
        good.account("anna")
        held.enter_context(running(good))
        names.records["host.good.example", "A"] = ["127.0.0.4"]
        for name in ("good", *(f"evil{k}" for k in range(DOMAINS))):
            srv = [f"0 0 {good.port('msrap')} host.good.example."]
            names.records[f"_im2000-msrap._tcp.{name}.example", "SRV"] = srv
        assert _comes_through(good, b"Subject: 1\n\nthe first\n")
        for k in range(DOMAINS):
            evil = [notification("archive@pobox.example", k + 1, store=f"evil{k}.example")]
            assert codes(notify(node.port("rnasp"), evil, source=f"127.55.{k % 5}.1")) == [0]
        eventually(lambda: struck(node, "misses at a store"))
        assert _comes_through(good, b"Subject: 2\n\nthe second\n")
        assert struck(good, "key guesses") == 0
        assert struck(node, "connections to an address") == 0


def _comes_through(good: Node, body: bytes) -> bool:
    """Fetched and silenced, in one attempt: a failed one would wait."""
    key = submit(good, "anna", "archive@pobox.example", body)
    return bool(eventually(lambda: track(good, "anna", key).notificationstatus.name == "silenced"))


def test_sessions_that_end_under_our_feet(place: Place) -> None:
    """Before the next command: noticed. With it on the way: once more, on a new session."""
    node, _, agent = place
    codes(notify(node.port("rnasp"), [notification("anna@pobox.example", 7000)], source=GOOD))
    for k in range(5):
        for connection in list(agent.open):
            with suppress(OSError):  # the daemon may have ended it meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        assert codes(notify(node.port("rnasp"), [notification("anna@pobox.example", 7001 + k)], source=GOOD)) == [0]


def test_a_half_closed_connection_gets_no_answer_and_holds_nothing(place: Place) -> None:
    node = place.node
    before = node.ask("status")["sessions"]["rnasp"]
    for _ in range(20):
        with node.connect("rnasp", GOOD) as connection:
            connection.sendall(b"\0\0")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b""
    assert node.ask("status")["sessions"]["rnasp"] == before


def test_an_oversize_frame_is_named(place: Place) -> None:
    with place.node.connect("rnasp", GOOD) as connection:
        connection.sendall(b"\x00\x20\x00\x00")
        assert connection.recv(100)
        assert connection.recv(100) == b""
    assert struck(place.node, "PDU size") == 1


def test_without_files_left_nobody_becomes_nobody_and_the_daemon_lives(tmp_path: Path) -> None:
    node = Node(tmp_path / "config", "pobox.example")
    node.address("brian@pobox.example", 'strategy = "subscribe"\nreaders = ["brian"]')
    node.account("brian")
    with running(node), node.connect("rnasp") as connection:
        assert codes(ask(connection, [])) == []
        soft = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir(f"/proc/{node.pid}/fd")}
        least = next(number for number in range(1 << 16) if number not in used)
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (least, soft[1]))
        late = node.connect("rnasp")
        assert codes(ask(connection, [notification("brian@pobox.example", 1)])) == [32]
        assert codes(ask(connection, [notification("nobody@pobox.example", 1)])) == [32]
        node.event("cannot accept")
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, soft)
        node.ask("changed", address="brian@pobox.example")  # what could not be read is not tried again for `recheck`
        node.ask("changed", address="nobody@pobox.example")
        with late:
            assert codes(ask(late, [notification("brian@pobox.example", 2)])) == [0]
        assert codes(ask(connection, [notification("nobody@pobox.example", 2)])) == [48]
        assert node.stop() == 0
