"""The door of a real daemon: mail of another node's store and of our own, read and emptied by poplib; nothing that was
told to be done comes again, killed in the very moment or not."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ..program.names import Names  # noqa: TID252  # the real daemons that other tests have too
from ..program.node import PASSWORD, PATIENCE, Node, running  # noqa: TID252
from ..program.peers import eventually, fetch, submit, track, unpin  # noqa: TID252

BODY = b"From: toby@store.example\r\nSubject: %d\r\n\r\n.\r\n..two\r\nend\r\n"
ADDRESSES = {
    "box": 'strategy = "subscribe"\nreaders = ["brian"]',
    "sales": 'strategy = "subscribe"\nkind = "role"\nreaders = ["brian", "freda"]',
    "held": 'strategy = "pull_hold"\nreaders = ["brian"]',
}


class World(NamedTuple):
    store: Node
    forwarder: Node

    def send(self, to: str, number: int = 1) -> bytes:
        """The key; the notification waits."""
        identifier = submit(self.store, "toby", f"{to}@pobox.example", BODY % number)
        eventually(lambda: track(self.store, "toby", identifier).notificationstatus >= 6)
        return identifier

    def enter(self, user: str = "brian") -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.forwarder.port("pop3"), timeout=PATIENCE)
        client.user(user)
        client.pass_(PASSWORD)
        return client

    def count(self, user: str = "brian") -> int:
        client = self.enter(user)
        count, _ = client.stat()
        client.quit()
        return count

    def pinned(self, identifier: bytes) -> bool:
        return bool(track(self.store, "toby", identifier).pinned)


def read(client: poplib.POP3, number: int = 1) -> bytes:
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


@contextmanager
def made(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        asks = {"resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
        forwarder = Node(tmp_path / "forwarder", "pobox.example", asks | {"listen.pop3": '["127.0.0.1:0"]'})
        for account in ("brian", "freda"):
            forwarder.account(account)
        for name, toml in ADDRESSES.items():
            forwarder.address(f"{name}@pobox.example", toml)
        held.enter_context(running(forwarder))
        store = Node(tmp_path / "store", "store.example", asks)
        store.account("toby")
        held.enter_context(running(store))
        for node in (forwarder, store):
            names.records[f"host.{node.domain}", "A"] = ["127.0.0.1"]
            for service in ("rnasp", "msrap"):
                srv = [f"0 0 {node.port(service)} host.{node.domain}."]
                names.records[f"_im2000-{service}._tcp.{node.domain}", "SRV"] = srv
        eventually(lambda: forwarder.ask("status")["catalogue"]["complete"])
        yield World(store, forwarder)
        assert [node.stop() for node in (store, forwarder)] == [0, 0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Shared: each test leaves it empty."""
    with made(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """For a test that kills."""
    with made(tmp_path) as world:
        yield world


def test_mail_is_read_from_the_senders_store_and_un_pinned_by_quit(world: World) -> None:
    first, second = world.send("box", 1), world.send("box", 2)
    client = world.enter()
    assert client.stat() == (2, 2 * len(BODY % 1))
    assert sorted([read(client, 1), read(client, 2)]) == [BODY % 1, BODY % 2]
    client.dele(1)
    client.dele(2)
    client.quit()
    assert world.count() == 0
    eventually(lambda: not world.pinned(first) and not world.pinned(second))


def test_what_we_hold_is_read_from_our_own_store(world: World) -> None:
    world.send("held")
    eventually(lambda: world.count("brian/held@pobox.example") == 1)
    client = world.enter("brian/held@pobox.example")
    assert read(client) == BODY % 1
    client.dele(1)
    client.quit()
    assert world.count("brian/held@pobox.example") == 0


def test_in_a_role_the_first_who_is_done_closes_it_for_all(world: World) -> None:
    world.send("sales")
    brian, freda = world.enter("brian"), world.enter("freda")
    assert read(brian) == BODY % 1
    brian.dele(1)
    brian.quit()
    assert world.count("freda") == 0
    freda.dele(1)
    freda.quit()


def test_what_was_withdrawn_is_removed(world: World) -> None:
    kept, gone = world.send("box", 3), world.send("box", 4)  # the same mail again within 10 minutes would be no new one
    assert unpin(world.store, gone)
    client = world.enter()
    assert client.stat() == (1, len(BODY % 3))
    assert fetch(world.store, kept) == BODY % 3
    client.dele(1)
    client.quit()


def test_a_dead_store_hides_its_mail_and_locks_nobody_out(own_world: World) -> None:
    own_world.send("held", 1)
    own_world.send("box", 2)
    eventually(lambda: own_world.count() == 2)
    own_world.store.stop()
    client = own_world.enter()
    by_size = {read_or_not(client, number) for number in (1, 2)}
    assert by_size == {BODY % 1, b""}
    client.quit()
    assert own_world.count() == 1
    own_world.store.start()


def read_or_not(client: poplib.POP3, number: int) -> bytes:
    """What cannot be had now is said to be so."""
    try:
        return read(client, number)
    except poplib.error_proto as error:
        return b"" if b"[SYS/TEMP]" in error.args[0] else error.args[0]


def test_killed_after_quit_was_answered_nothing_comes_again(own_world: World) -> None:
    identifier = own_world.send("box")
    client = own_world.enter()
    client.dele(1)
    client.quit()
    own_world.forwarder.kill()
    own_world.forwarder.start()
    assert own_world.count() == 0
    eventually(lambda: not own_world.pinned(identifier))


def test_killed_before_quit_nothing_is_lost(own_world: World) -> None:
    identifier = own_world.send("box")
    client = own_world.enter()
    assert read(client) == BODY % 1
    client.dele(1)
    own_world.forwarder.kill()
    client.close()
    own_world.forwarder.start()
    assert own_world.count() == 1
    assert own_world.pinned(identifier)
