"""The stranger among several readers, of held copies, and at a mailbox that expects its forwards (9.4, 10, 11.4)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ..program.node import PASSWORD  # noqa: TID252
from .conftest import World
from .notices import mailbox
from .reader import Messages
from .wire import Client, Failure

MESSAGE = b"From: toby@stranger.example\r\nSubject: %s\r\n\r\nhello\r\n"


def as_account(world: World, account: str) -> Messages:
    reader = world.messages()
    reader.session.login(account, PASSWORD)
    return reader


def listed(reader: Messages, name: str, count: int) -> list[bytes]:
    deadline = time.monotonic() + 20
    while len(keys := reader.scan(name)[0]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return keys


def test_a_held_copy_is_listed_to_each_reader_under_his_own_key(world: World) -> None:
    held = world.address("held", 'strategy = "pull_hold"\nkind = "group"\nreaders = ["brian", "anna"]')
    store = world.store("heldstore")
    told = store.notification(held, MESSAGE)
    assert world.notifier("results").tell([told])[0].code == 0
    brian, anna = as_account(world, "brian"), as_account(world, "anna")
    [hers], [his] = listed(anna, held, 1), listed(brian, held, 1)
    assert his != hers
    assert brian.fetch({"identifier": his}) == MESSAGE
    assert brian.unpin(his)
    assert brian.scan(held)[0] == []
    assert anna.scan(held)[0] == [hers]
    assert anna.fetch({"identifier": hers, **anna.size(hers)}) == MESSAGE
    with pytest.raises(Failure, match="errornosuchmessage"):
        world.messages().scan(held)


def test_in_a_role_the_first_to_unpin_closes_it_for_all(world: World) -> None:
    desk = world.address("desk", 'strategy = "pull_hold"\nkind = "role"\nreaders = ["brian", "anna"]')
    assert world.notifier("results").tell([world.store("deskstore").notification(desk, MESSAGE)])[0].code == 0
    brian, anna = as_account(world, "brian"), as_account(world, "anna")
    [hers], [his] = listed(anna, desk, 1), listed(brian, desk, 1)
    assert brian.unpin(his)
    assert not anna.unpin(hers)
    assert anna.scan(desk)[0] == []
    assert as_account(world, "brian").unpin(his)


def test_what_one_clears_is_gone_for_all_and_what_one_takes_is_not(world: World) -> None:
    both = world.address("cleared", 'strategy = "subscribe"\nkind = "role"\nreaders = ["brian", "anna"]')
    store = world.store("clearedstore")
    batch = [store.notification(both, MESSAGE) for _ in range(2)]
    world.notifier("results").tell(batch)
    keys = [told["identifier"] for told in batch]

    def waits(account: str) -> list[Any]:
        return [one for one in world.mailbox(account).waiting() if one["notification"]["identifier"] in keys]

    world.mailbox("brian").forget(waits("brian")[:1])
    assert [len(waits(name)) for name in ("brian", "anna")] == [1, 1]
    world.mailbox("anna").take()
    assert [len(waits(name)) for name in ("brian", "anna")] == [1, 0]


def test_a_mailbox_that_expects_its_forwards_takes_these_and_what_comes_directly(world: World) -> None:
    forwards = (
        '{ original = "old@pobox.example", via = "mx.pobox.example" }, { original = "was@a.example", token = "t" }'
    )
    here = world.address("expects", f'strategy = "subscribe"\nreaders = ["anna"]\nexpects = [{forwards}]')
    store = world.store("expectsstore")

    def told(original: str, by: str, **more: Any) -> dict[str, Any]:
        trace = [{"by": by.split("."), "at": int(time.time()), "how": 3}]
        return store.notification(here, MESSAGE, original=mailbox(original), trace=trace, hops=1, **more)

    batch = [
        store.notification(here, MESSAGE),
        told("old@pobox.example", "mx.pobox.example"),
        told("old@pobox.example", "mx.elsewhere.example"),
        told("was@a.example", "any.example", token=b"t"),
        told("was@a.example", "any.example", token=b"u"),
        told("was@a.example", "any.example"),
        told("else@a.example", "mx.pobox.example"),
        store.notification(here, MESSAGE, hops=1),
        told(here, "any.example"),
    ]
    assert [one.code for one in world.notifier("results").tell(batch)] == [0, 0, 49, 0, 49, 49, 49, 49, 0]


def test_who_guesses_keys_waits(world: World) -> None:
    with Client("MSRAP", world.where("msrap"), source="127.0.0.66") as session:
        began = time.monotonic()
        for number in range(22):
            with pytest.raises(Failure, match="errornosuchmessage"):
                session.ask("unpin", {"identifier": number.to_bytes(16, "big")})
    assert time.monotonic() - began > 1


def test_a_bad_digest_is_not_taken_for_the_message(world: World) -> None:
    agent = world.agent("badcopy")
    there = world.address("bad", 'strategy = "pull_repush"\nto = ["bob@badcopy.stranger.example"]')
    store = world.store("badstore")
    told = store.notification(there, MESSAGE)
    store.entries[told["identifier"]].message = MESSAGE[::-1]
    assert world.notifier("results").tell([told])[0].code == 0
    deadline = time.monotonic() + 20
    while "retrieve" not in store.asked:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert agent.came.empty()
    assert store.entries[told["identifier"]].pinned
