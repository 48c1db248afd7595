"""The stranger as a reader: his own agent is the daemon, and so is the store."""

from __future__ import annotations

import pytest

from .conftest import HERE, World
from .reader import Mailbox
from .wire import Client, Failure

MESSAGE = b"From: toby@stranger.example\r\nSubject: long\r\nX-Not: shown\r\n\r\n" + bytes(range(256)) * 1000


def filled(world: World, name: str, count: int) -> list[bytes]:
    """A mailbox of carl's, who has no other, and what waits in it."""
    there, store = world.address(name, 'strategy = "subscribe"\nreaders = ["carl"]'), world.store(f"{name}store")
    batch = [store.notification(there, b"%d" % number) for number in range(count)]
    assert {outcome.code for outcome in world.notifier("results").tell(batch)} == {0}
    return [told["identifier"] for told in batch]


def test_peek_shows_and_keeps_page_by_page_and_clear_forgets(world: World) -> None:
    sent, carl = filled(world, "paged", 25), world.mailbox("carl")
    items = carl.waiting(10)
    assert [item["notification"]["identifier"] for item in items] == sent
    assert carl.waiting(1000) == items
    assert carl.session.ask("peek", {"after": b"no cursor", "max": 5})["notifications"] == items[:5]
    carl.forget(items[:5])
    assert carl.waiting(7) == items[5:]
    carl.forget([*items, {"cursor": b"unknown"}])
    assert carl.waiting() == []


def test_retrieve_and_clear_hands_over_and_forgets_by_parts_and_at_once(world: World) -> None:
    sent, carl = filled(world, "taken", 12), world.mailbox("carl")
    page = carl.session.ask("retrieveandclear", {"max": 5})
    assert ([item["notification"]["identifier"] for item in page["notifications"]], page["more"]) == (sent[:5], True)
    assert [item["notification"]["identifier"] for item in carl.take()] == sent[5:]
    assert carl.take() == []


def test_nothing_is_shown_before_a_login_or_after_a_failed_one(world: World) -> None:
    with Client("RNAQP", world.where("rnaqp")) as session:
        with pytest.raises(Failure, match="errornotauthenticated"):
            session.ask("peek", {"max": 5})
        session.ask("authenticate", {"account": "anna", "password": "secret"})
        session.ask("peek", {"max": 5})
        with pytest.raises(Failure, match="errornotauthenticated"):
            session.ask("authenticate", {"account": "anna", "password": "wrong"})
        with pytest.raises(Failure, match="errornotauthenticated"):
            session.ask("retrieveandclear", {})
    with pytest.raises(Failure, match="errornotauthenticated"):
        Mailbox(world.where("rnaqp"), "nobody", "secret")


def test_a_message_is_read_in_views_and_slices(world: World) -> None:
    [key] = world.originator().submit([f"brian@{HERE}"], MESSAGE)
    store = world.messages()
    item = {"identifier": key, "size": len(MESSAGE), **world.messages().size(key)}
    assert store.fetch(item) == MESSAGE
    assert store.fetch(item, "headersonly") == MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert store.fetch(item, "summaryonly") == b"From: toby@stranger.example\r\nSubject: long\r\n\r\n"
    assert store.slice(key, "all", 100, 50) == {"data": MESSAGE[100:150], "size": len(MESSAGE)}
    assert store.slice(key, "all", len(MESSAGE) + 5, 50)["data"] == b""
    assert store.slice(key, "nothing", 0, 0)["data"] == b""


def test_a_session_may_read_on_after_another_has_unpinned(world: World) -> None:
    [key] = world.originator().submit([f"brian@{HERE}"], MESSAGE + b"grace")
    reader, other = world.messages(), world.messages()
    reader.slice(key, "all", 0, 10)
    assert other.unpin(key)
    assert reader.slice(key, "all", 10, 10)["data"] == MESSAGE[10:20]
    for session in (other, world.messages()):
        with pytest.raises(Failure, match="errornosuchmessage"):
            session.slice(key, "all", 0, 10)
    with pytest.raises(Failure, match="errornosuchmessage"):
        reader.size(key)


def test_who_has_unpinned_logged_in_is_told_so_again(world: World) -> None:
    [key] = world.originator().submit([f"brian@{HERE}"], MESSAGE + b"twice")
    for expected in (True, True):
        store = world.messages()
        store.session.ask("authenticate", {"account": "brian", "password": "secret"})
        assert store.unpin(key) is expected
    assert not world.messages().unpin(key)


def test_a_list_that_nobody_knows_and_the_reserved_command(world: World) -> None:
    store = world.messages()
    with pytest.raises(Failure, match="errornosuchmessage"):
        store.scan("no such list")
    with pytest.raises(Failure, match="errornosuchmessage"):
        store.scan(f"brian@{HERE}")
    with pytest.raises(Failure, match="errorunexpectedcommand"):
        store.session.ask("split", {"identifier": bytes(16), "count": 2})
    store.session.ask("authenticate", {"account": "brian", "password": "secret"})
    keys, end = store.scan(f"brian@{HERE}")
    assert (keys, end > 1_700_000_000) == ([], True)
