"""Roles and groups by real daemons: who hears, who wins, what the sender never learns (protocol 5.3, 5.4)."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import Notification
from forwarder.wire.msoap import DeliveryStatus, NotificationStatus, Track
from forwarder.wire.msrap import QuerySize, ScanList, Silence, UnPin
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnaqp import Clear, Peek
from forwarder.wire.rnasp import decode_command

from .node import PATIENCE, Node
from .ports import free_port
from .session import Session, notification, notify, submit

HERE, THERE = "pobox.example", "isp.example"
READERS = ("anna", "bob", "carl")
FINE, DEAD = "noerror", "errornosuchmessage"


class Places:
    """Two nodes: HERE forwards and stores; THERE is where people read. More by `stand`."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder = folder
        self.held = held
        self.static: dict[str, str] = {}

    def stand(self, domain: str, **settings: object) -> Node:
        static = ", ".join(f'"{name}" = {services}' for name, services in self.static.items())
        node = Node(self.folder / domain, domain, {"resolve.static": f"{{ {static} }}", **settings})
        self.held.callback(node.end)
        return node

    def known(self, node: Node) -> None:
        """To those that stand later."""
        places = ", ".join(f'{name} = "{node.listeners[name][0]}"' for name in ("rnasp", "msrap"))
        self.static[node.domain] = f"{{ {places} }}"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with ExitStack() as held:
        yield Places(tmp_path, held)


@pytest.fixture
def there(places: Places) -> Node:
    """Each of READERS has a mailbox and an account."""
    node = places.stand(THERE)
    for name in READERS:
        node.account(name)
        node.address(f"{name}@{THERE}", f'strategy = "subscribe"\nreaders = ["{name}"]')
    node.start()
    places.known(node)
    return node


def until(seen: Callable[[], Any], within: float = PATIENCE) -> Any:
    """What is seen at last: daemons tell nobody that they are done."""
    end = time.monotonic() + within
    while not (found := seen()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def tracked(originator: Session, key: bytes) -> DeliveryStatus:
    """As the store has it once the answer to its notification is on its disk."""

    def settled() -> DeliveryStatus | None:
        delivery: DeliveryStatus = originator.ask(Track(key)).data.delivery
        return None if delivery.notificationstatus is NotificationStatus.unprocessed else delivery

    found: DeliveryStatus = until(settled)
    return found


def waiting(node: Node, account: str) -> list[Notification]:
    with Session(node, "rnaqp", account) as reader:
        return [item.notification for item in reader.ask(Peek(None, 100)).data.items]


def clear(node: Node, account: str) -> None:
    with Session(node, "rnaqp", account) as reader:
        items = reader.ask(Peek(None, 100)).data.items
        assert reader.says(Clear(tuple(item.cursor for item in items))) == FINE


def to(*names: str) -> str:
    return "[" + ", ".join(f'"{name}@{THERE}"' for name in names) + "]"


# -- first un-pin wins


def test_of_twenty_who_unpin_at_once_exactly_one_wins(places: Places) -> None:
    """The long form: benchmarks/races.py."""
    places.static[THERE] = f'{{ rnasp = "127.0.0.1:{free_port()}" }}'
    node = places.stand(HERE)
    for name in ("toby", "anna"):
        node.account(name)
    node.start()
    with ExitStack() as held:
        originator = held.enter_context(Session(node, "msoap", "toby"))
        readers = [held.enter_context(Session(node, "msrap", "anna" if n == 0 else None)) for n in range(20)]
        for number in range(25):
            [key] = submit(originator, f"role@{THERE}", body=b"Subject: %d\n\n" % number)
            order = random.sample(readers, len(readers))
            for reader in order:
                reader.send(UnPin(key))
            said = [reader.hear().status.name for reader in readers]
            assert sorted(said) == [DEAD] * 19 + [FINE]
            again = [reader.says(UnPin(key)) for reader in readers]
            assert again == [FINE if said[0] == FINE else DEAD] + [DEAD] * 19, "the winner who is known hears it again"
            assert {reader.says(Silence(key)) for reader in readers} == {DEAD}


# -- the ledger


class Stalls:
    """An agent that takes everything and answers nothing; it counts what it was told."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.told = threading.Event()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._open.append(connection)
            length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
            decode_command(connection.recv(length, socket.MSG_WAITALL))
            self.told.set()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self._open:
            connection.close()
        self._thread.join(5)


@pytest.fixture
def stalls() -> Iterator[Stalls]:
    made = Stalls()
    yield made
    made.close()


def test_one_refuses_one_stalls_three_take_it_once_and_again_each_day_in_the_stores_place(
    places: Places, there: Node, stalls: Stalls
) -> None:
    port = free_port()
    places.static[HERE] = f'{{ rnasp = "127.0.0.1:{port}" }}'
    store = places.stand("store.example")
    store.account("toby")
    store.start()
    places.known(store)
    places.static["slow.example"] = f'{{ rnasp = "127.0.0.1:{stalls.port}" }}'
    node = places.stand(HERE, **{"listen.rnasp": f'["127.0.0.1:{port}"]', "node.drain": '"1s"'})
    members = ", ".join(f'"{name}@{THERE}"' for name in (*READERS, "unknown"))
    node.address(f"sales@{HERE}", f'kind = "role"\nto = [{members}, "dora@slow.example"]')
    node.start(turnable=True)

    with Session(store, "msoap", "toby") as originator:
        [key] = submit(originator, f"sales@{HERE}")
        assert stalls.told.wait(PATIENCE)
        until(lambda: _received(there) == 4)
        assert tracked(originator, key).notificationstatus.name == "notifying"
    for name in READERS:
        [found] = waiting(there, name)
        assert (found.identifier, str(found.original)) == (key, f"sales@{HERE}")
    with Session(node, "rnasp") as sender:
        assert notify(sender, notification(f"sales@{HERE}", key, store="store.example")) == [1], (
            "a repeat has no effect"
        )
    assert node.ask("status")["waiting"]["owed"] == 1

    assert node.stop() == 0
    node.end()
    stalls.told.clear()
    node.start(turnable=True, turned=86400 + 60)
    assert stalls.told.wait(PATIENCE), "what is owed is due at once"
    until(lambda: _received(there) == 7)
    assert [len(waiting(there, name)) for name in READERS] == [1, 1, 1], "repeated, and seen once"


def _received(node: Node) -> int:
    return int(node.ask("status")["notifications"]["received"])


def test_the_sender_learns_no_names(places: Places, there: Node) -> None:
    """What its store is told, and what Track shows, of a role one of whose members refuses."""
    node = places.stand(HERE)
    node.account("toby")
    node.address(f"sales@{HERE}", f'kind = "role"\nto = {to("anna", "unknown")}')
    node.address(f"old@{HERE}", f'kind = "role"\nstate = "moved"\nto = {to("anna", "bob")}')
    node.start()
    with Session(node, "rnasp") as sender:
        sent = [notification(f"{name}@{HERE}", bytes([n]) * 16) for n, name in enumerate(("sales", "nosuch", "old"))]
        told = [_outcomes(sender, one) for one in sent]
    assert [outcome.code for [outcome] in told] == [0, 48, 48]
    assert not any(name in repr(told) for name in ("anna", "bob", "unknown", THERE))
    [got] = until(lambda: waiting(there, "anna"))
    assert not any(name in encode_notification(got) for name in (b"unknown", b"bob"))
    with Session(node, "msoap", "toby") as originator:
        [key] = submit(originator, f"sales@{HERE}")
        until(lambda: len(waiting(there, "anna")) == 2)
        delivery = tracked(originator, key)
    assert delivery.redirectedto in (None, ())
    assert delivery.notificationstatus.name == "notifying"


def _outcomes(session: Session, one: Notification) -> Any:
    from forwarder.wire.rnasp import encode_batch, encode_capabilities

    from .session import FEATURES

    session.send_pdu(encode_batch([encode_notification(one)], encode_capabilities(FEATURES)))
    return session.hear().data.results


# -- members that come and go


def test_members_of_a_role_that_come_and_go(places: Places, there: Node) -> None:
    node = places.stand(HERE)
    node.account("toby")
    node.address(f"sales@{HERE}", f'kind = "role"\nto = {to("anna", "bob")}')
    node.address(f"fixed@{HERE}", f'kind = "role"\nmembers = "frozen"\nto = {to("anna", "bob")}')
    node.start()
    with Session(node, "msoap", "toby") as originator:
        [closed] = submit(originator, f"sales@{HERE}", body=b"closed\n\n")
        [live] = submit(originator, f"sales@{HERE}", body=b"live\n\n")
        [frozen] = submit(originator, f"fixed@{HERE}", body=b"frozen\n\n")
    for name in ("anna", "bob"):
        until(lambda name=name: len(waiting(there, name)) == 3)  # type: ignore[misc]
    with Session(node, "msrap") as reader:
        assert reader.says(UnPin(closed)) == FINE
    node.address(f"fixed@{HERE}", f'kind = "role"\nmembers = "frozen"\nto = {to("carl")}')
    node.address(f"sales@{HERE}", f'kind = "role"\nto = {to("bob", "carl")}')
    [heard] = until(lambda: waiting(there, "carl"))
    assert heard.identifier == live, "not what was un-pinned, nor what is frozen"
    assert [hop.how for hop in heard.trace] == [2]
    with Session(node, "msrap") as reader:
        assert reader.says(UnPin(live)) == FINE, "whoever holds the key may un-pin it"
        assert reader.says(QuerySize(frozen)) == FINE


def test_members_of_copies_that_come_and_go(places: Places, there: Node) -> None:
    node = places.stand(HERE)
    for name in ("toby", "anna", "bob", "carl"):
        node.account(name)
    node.address(f"role@{HERE}", f'strategy = "pull_repush"\nkind = "role"\nto = {to("anna", "bob")}')
    node.address(f"group@{HERE}", f'strategy = "pull_repush"\nkind = "group"\nto = {to("anna", "bob")}')
    node.address(f"desk@{HERE}", 'strategy = "pull_hold"\nkind = "role"\nreaders = ["anna", "bob"]')
    node.address(f"box@{HERE}", 'strategy = "subscribe"\nkind = "role"\nreaders = ["anna", "bob"]')
    node.start()
    names = [f"{name}@{HERE}" for name in ("role", "group", "desk", "box")]
    with Session(node, "msoap", "toby") as originator:
        submit(originator, *names)
    for name in ("anna", "bob"):
        until(lambda name=name: len(waiting(there, name)) == 2)  # type: ignore[misc]
    until(lambda: _listed(node, "anna"))
    until(lambda: waiting(node, "anna"))
    assert (_listed(node, "carl"), waiting(node, "carl")) == ([], [])

    node.address(names[0], f'strategy = "pull_repush"\nkind = "role"\nto = {to("bob", "carl")}')
    node.address(names[1], f'strategy = "pull_repush"\nkind = "group"\nto = {to("bob", "carl")}')
    node.address(names[2], 'strategy = "pull_hold"\nkind = "role"\nreaders = ["bob", "carl"]')
    node.address(names[3], 'strategy = "subscribe"\nkind = "role"\nreaders = ["bob", "carl"]')
    heard = until(lambda: len(found := waiting(there, "carl")) == 2 and found)
    by_original = {str(n.original): n.identifier for n in heard}
    before = {str(n.original): n.identifier for n in waiting(there, "anna")}
    [held] = until(lambda: _listed(node, "carl"))
    assert (_listed(node, "anna"), waiting(node, "anna")) == ([], []), "a removed reader sees nothing from this poll on"
    assert len(waiting(node, "carl")) == 1
    with Session(node, "msrap") as reader:
        assert reader.says(UnPin(before[names[0]])) == FINE, "who left still has his key..."
        assert reader.says(QuerySize(by_original[names[0]])) == DEAD, "... which closes the role's item for all"
        assert reader.says(UnPin(before[names[1]])) == FINE
        assert reader.says(QuerySize(by_original[names[1]])) == FINE, "in a group each has his own"
        assert reader.says(UnPin(held)) == FINE
    assert _listed(node, "bob") == []


def _listed(node: Node, account: str) -> list[bytes]:
    with Session(node, "msrap", account) as reader:
        response = reader.ask(ScanList(f"desk@{HERE}", 0))
        return list(response.data.messages) if response.status.name == FINE else []


# -- one does not rob another


def test_a_silence_or_a_robot_of_one_member_takes_nothing_from_the_others(places: Places, there: Node) -> None:
    """bob is a robot that pulls; anna silences; carl reads at last."""
    node = places.stand(HERE)
    node.account("toby")
    node.address(
        f"bob@{HERE}", f'strategy = "pull_repush"\nto = {to("bob")}\n[pull_repush]\nunpin_source = "after_copy"'
    )
    node.address(f"sales@{HERE}", f'kind = "role"\nto = ["bob@{HERE}", "anna@{THERE}", "carl@{THERE}"]')
    node.start()
    with Session(node, "msoap", "toby") as originator:
        [key] = submit(originator, f"sales@{HERE}")
        [copy] = until(lambda: waiting(there, "bob"))
        assert copy.identifier != key
        for name in ("anna", "carl"):
            [found] = until(lambda name=name: waiting(there, name))  # type: ignore[misc]
            assert found.identifier == key
        delivery = tracked(originator, key)
        assert (delivery.notificationstatus.name, delivery.pinned) == ("notifying", True), "the robot silenced nothing"
        with Session(node, "msrap") as reader:
            assert reader.says(Silence(key)) == FINE
            assert reader.says(QuerySize(key)) == FINE
            assert reader.says(UnPin(copy.identifier)) == FINE, "the robot's owner deals with it"
            until(lambda: reader.says(QuerySize(key)) == DEAD)
