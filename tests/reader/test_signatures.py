"""What `read` says of a signature: the reader verifies for himself, once, while the key is published (protocol 5.0)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import Notification, ServiceLocation, Signature
from forwarder.reader.desk import Desk
from forwarder.reader.notebook import Arrived, Notebook
from forwarder.signature import key_name, key_record, new_private, sign
from forwarder.wire.notification import decode_notification, encode_notification

LETTER = b"From: toby@store.example\nSubject: Tea\n\nAt four.\n"
PRIVATE = new_private()
NAME = key_name("store.example", "s1")


def sign_waiting(world: Any, private: bytes = PRIVATE, **fields: Any) -> Notification:
    """The notification that waits at the agent, signed by its store."""
    (cursor, one), blank = next(iter(world.waiting.items())), Signature("store.example", "s1", 1, 1, b"")
    plain = one._replace(signature=blank)
    value = sign(encode_notification(plain), private)
    signed: Notification = plain._replace(signature=blank._replace(value=value), **fields)
    world.waiting[cursor] = decode_notification(encode_notification(signed))
    return signed


@pytest.fixture(autouse=True)
def published(world: Any) -> None:
    world.texts.records[NAME] = [key_record(PRIVATE)]
    world.put(LETTER, expires=int(world.clock) + 86400)


async def states(desk: Desk) -> list[str | None]:
    return [item.signature for item in (await desk.refresh()).waiting]


async def test_a_good_one_is_verified_once_and_remembered_when_its_key_has_gone(desk: Desk, world: Any) -> None:
    sign_waiting(world)
    assert await states(desk) == ["good"]
    world.texts.records.clear()
    world.texts.forget()
    assert await states(desk) == ["good"]
    assert world.texts.asked == [NAME]


async def test_unsigned_asks_nothing(desk: Desk, world: Any) -> None:
    assert await states(desk) == [None]
    assert not world.texts.asked


@pytest.mark.parametrize("fields", [{"sender": "mallory"}, {"storeclear": ServiceLocation("other.example")}])
async def test_a_wrong_one_is_told(desk: Desk, world: Any, fields: dict[str, Any]) -> None:
    sign_waiting(world, **fields)
    assert await states(desk) == ["wrong"]


async def test_a_silent_dns_is_asked_again_at_the_next_read(desk: Desk, world: Any) -> None:
    sign_waiting(world)
    world.texts.silent.add(NAME)
    assert await states(desk) == [None]
    world.texts.silent.clear()
    assert await states(desk) == ["good"]


async def test_one_that_comes_after_its_end_is_a_replay(desk: Desk, world: Any) -> None:
    sign_waiting(world)
    world.clock += 2 * 86400
    assert await states(desk) == ["expired"]


async def test_what_was_good_when_it_came_stays_so(desk: Desk, world: Any) -> None:
    sign_waiting(world)
    await desk.refresh()
    world.clock += 2 * 86400
    assert await states(desk) == ["good"]


def test_one_that_cannot_be_verified_now_is_called_so(mine: Path, type_: Any, world: Any) -> None:
    sign_waiting(world)
    nowhere = '[resolve]\nnameservers = ["127.0.0.1:9"]\n[resolve.static]'
    mine.write_text(mine.read_text().replace("[resolve.static]", nowhere))
    row = json.loads(type_("read", "--json")[1])["items"][0]
    assert row["signature"] == {"state": "unverified", "domain": "store.example"}


def test_an_unsigned_message_is_called_so(mine: Path, type_: Any, world: Any) -> None:
    assert b"unsigned" in type_("read")[1]
    assert b"Signature: unsigned" in type_("read", "show", "1")[1]


def test_a_notebook_of_the_last_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "reader.db"
    book = Notebook(path)
    book.save("an agent", [Arrived("store.example", b"k" * 16, b"\x30\x00", 1, 2, b"c")])
    book.close()
    with sqlite3.connect(path) as old:
        old.execute("ALTER TABLE item DROP COLUMN signature")
        old.execute("PRAGMA user_version = 1")
    old.close()
    book = Notebook(path)
    (item,) = book.items()
    assert (item.number, item.signature) == (1, None)
    book.judged(1, "good")
    assert book.items()[0].signature == "good"
    book.close()
