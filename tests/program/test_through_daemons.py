"""The six options, a role and a group, each through three real daemons over the real wire and a real name server:
the sender's store, the forwarder, the recipients' agent. What is read is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import pytest

from forwarder.wire import msoap, msrap
from forwarder.wire.rnasp import Capabilities

from .names import Names
from .node import Node, running
from .peers import FOLLOWS, Client, Reader, cancel, eventually, fetch, key, notification, submit, track, unpin


class World(NamedTuple):
    store: Node
    forwarder: Node
    agent: Node

    def send(self, to: str) -> tuple[bytes, bytes]:
        """The key, and the message's octets."""
        body = f"Subject: to {to}\r\n\r\nhello\r\n".encode()
        return submit(self.store, "toby", to, body), body


ADDRESSES = {
    "one": 'strategy = "subscribe"\nreaders = ["brian"]',
    "two": 'strategy = "redirect"\nto = ["ann@isp.example"]\nfallback = "rewrite_resend"',
    "three": 'to = ["ann@isp.example"]',
    "four": 'strategy = "pull_repush"\nto = ["ann@isp.example"]',
    "withdrawn": 'strategy = "pull_repush"\nto = ["ann@isp.example"]',
    "five": 'strategy = "pull_hold"\nreaders = ["brian"]',
    "six": 'strategy = "dns_user_lookup"\nto = ["ann@isp.example"]\nfallback = "rewrite_resend"',
    "sales": 'kind = "role"\nto = ["ann@isp.example", "ben@isp.example"]',
    "staff": 'strategy = "pull_repush"\nkind = "group"\nto = ["ann@isp.example", "ben@isp.example"]',
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        asks = {"resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
        agent = Node(folder / "agent", "isp.example", asks)
        for reader in ("ann", "ben"):
            agent.account(reader)
            agent.address(f"{reader}@isp.example", f'strategy = "subscribe"\nreaders = ["{reader}"]')
        held.enter_context(running(agent))
        forwarder = Node(folder / "forwarder", "pobox.example", asks)
        forwarder.account("brian")
        for name, toml in ADDRESSES.items():
            forwarder.address(f"{name}@pobox.example", toml)
        held.enter_context(running(forwarder))
        users = {'resolve.zones."_im2000-user.pobox.example"': f'["127.0.0.1:{forwarder.port("dns")}"]'}
        store = Node(folder / "store", "store.example", asks | users)
        store.account("toby")
        held.enter_context(running(store))
        for node in (agent, forwarder, store):
            names.records[f"host.{node.domain}", "A"] = ["127.0.0.1"]
            for service in ("rnasp", "msrap"):
                srv = [f"0 0 {node.port(service)} host.{node.domain}."]
                names.records[f"_im2000-{service}._tcp.{node.domain}", "SRV"] = srv
        eventually(lambda: forwarder.ask("status")["catalogue"]["complete"])
        yield World(store, forwarder, agent)
        assert [node.stop() for node in (store, forwarder, agent)] == [0, 0, 0]


def test_option_1_the_owner_polls(world: World) -> None:
    identifier, body = world.send("one@pobox.example")
    notified = Reader(world.forwarder, "brian").gets("one@pobox.example")
    assert (notified.identifier, notified.storeclear.domain, notified.sender) == (identifier, "store.example", "toby")
    assert fetch(world.store, identifier) == body


def test_option_2_the_store_notifies_afresh(world: World) -> None:
    identifier, body = world.send("two@pobox.example")
    notified = Reader(world.agent, "ann").gets("two@pobox.example")
    assert notified.identifier != identifier
    assert not notified.trace, "it never passed through the forwarder"
    assert fetch(world.store, identifier) is None, "who redirects must lose access"
    assert fetch(world.store, notified.identifier) == body
    assert [str(to) for to in track(world.store, "toby", identifier).redirectedto] == ["ann@isp.example"]


def test_option_3_passes_the_notification_on(world: World) -> None:
    identifier, body = world.send("three@pobox.example")
    notified = Reader(world.agent, "ann").gets("three@pobox.example")
    assert (notified.identifier, notified.storeclear.domain, notified.sender) == (identifier, "store.example", "toby")
    assert (str(notified.recipient), notified.hops) == ("ann@isp.example", 1)
    assert [(hop.by, hop.how) for hop in notified.trace] == [("mx.pobox.example", 3)]
    assert fetch(world.store, identifier) == body
    assert unpin(world.store, identifier)
    assert fetch(world.store, identifier) is None
    delivery = track(world.store, "toby", identifier)
    assert (delivery.read, delivery.pinned) == (msoap.ReadStatus.readall, False)


def test_option_4_fetches_and_pushes(world: World) -> None:
    identifier, body = world.send("four@pobox.example")
    notified = Reader(world.agent, "ann").gets("four@pobox.example")
    assert (notified.storeclear.domain, notified.sender) == ("pobox.example", "four@pobox.example")
    assert notified.identifier != identifier
    assert notified.origin is not None
    assert (notified.origin.store.domain, notified.origin.sender) == ("store.example", "toby")
    assert fetch(world.forwarder, notified.identifier) == body
    assert track(world.store, "toby", identifier).pinned, "unsend keeps working until the reader is done"
    assert unpin(world.forwarder, notified.identifier)
    eventually(lambda: not track(world.store, "toby", identifier).pinned)


def test_unsend_after_the_pull(world: World) -> None:
    identifier, _ = world.send("withdrawn@pobox.example")
    notified = Reader(world.agent, "ann").gets("withdrawn@pobox.example")
    cancel(world.store, "toby", identifier)
    assert fetch(world.forwarder, notified.identifier) is None


def test_option_5_holds_a_private_list(world: World) -> None:
    identifier, body = world.send("five@pobox.example")
    with Client(world.forwarder, "msrap").login("brian") as reader:

        def listed() -> tuple[bytes, ...]:
            response = reader.ask(msrap.ScanList("five@pobox.example", 0))
            return () if response.status else tuple(response.data.messages)

        [copy] = eventually(listed)
        assert copy != identifier
        assert reader.ask(msrap.Retrieve(copy, msrap.View.all, 0, 1 << 20)).data.data == body
        assert not reader.ask(msrap.UnPin(copy)).status
        assert listed() == ()
    with Client(world.forwarder, "msrap") as stranger:
        assert stranger.ask(msrap.ScanList("five@pobox.example", 0)).status


def test_option_6_never_meets_us(world: World) -> None:
    before = world.forwarder.ask("status")["commands"]["rnasp"]
    identifier, body = world.send("six@pobox.example")
    notified = Reader(world.agent, "ann").gets("six@pobox.example")
    assert (str(notified.recipient), notified.trace) == ("ann@isp.example", ())
    assert fetch(world.store, notified.identifier) == body
    assert notified.identifier != identifier
    assert world.forwarder.ask("status")["commands"]["rnasp"] == before


def test_one_reader_of_a_role_wins(world: World) -> None:
    identifier, body = world.send("sales@pobox.example")
    ann = Reader(world.agent, "ann").gets("sales@pobox.example")
    ben = Reader(world.agent, "ben").gets("sales@pobox.example")
    assert ann.identifier == ben.identifier == identifier
    assert fetch(world.store, identifier) == body
    assert [unpin(world.store, ben.identifier), unpin(world.store, ann.identifier)] == [True, False]


def test_everyone_of_a_group_reads(world: World) -> None:
    _, body = world.send("staff@pobox.example")
    ann = Reader(world.agent, "ann").gets("staff@pobox.example")
    ben = Reader(world.agent, "ben").gets("staff@pobox.example")
    assert ann.identifier != ben.identifier
    assert fetch(world.forwarder, ann.identifier) == body
    assert unpin(world.forwarder, ann.identifier)
    assert fetch(world.forwarder, ben.identifier) == body


@pytest.mark.parametrize(
    ("name", "today", "of_2004"),
    [
        ("one", "kept here", "kept here"),
        ("two", "answer", "resend"),
        ("three", "resend", "resend"),
        ("four", "fetch", "fetch"),
        ("five", "fetch", "fetch"),
        ("six", "resend", "resend"),
        ("sales", "resend", "resend"),
    ],
)
def test_why_says_what_is_done(world: World, name: str, today: str, of_2004: str) -> None:
    address = f"{name}@pobox.example"
    stores = world.forwarder.why(address)["stores"]
    assert [stores[peer]["steps"][0].startswith(step) for peer, step in (("today", today), ("2004", of_2004))] == [
        True,
        True,
    ], stores
    code, passed_on = _done(world, address, can=FOLLOWS)
    assert (code, passed_on) == (16 if today == "answer" else 0, today == "resend")
    status, passed_on = _done(world, address, can=None)
    assert (status, passed_on) == (0, of_2004 == "resend")


def _done(world: World, address: str, can: Capabilities | None) -> tuple[int, bool]:
    """What the daemon answers, and whether the recipients' agent hears of it."""
    name = f"why {address} {can is None}"
    with Client(world.forwarder, "rnasp") as store:
        [told] = store.notify(notification(address, name), can=can)
    if "resend" not in str(world.forwarder.why(address)["stores"]["2004" if can is None else "today"]["steps"]):
        return told, any(item.notification.identifier == key(name) for item in Reader(world.agent, "ann").waiting())
    found = eventually(
        lambda: [i for i in Reader(world.agent, "ann").waiting() if i.notification.identifier == key(name)]
    )
    return told, bool(found)
