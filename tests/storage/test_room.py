"""What an account's messages take: told from one row, which the writes of messages keep in step with the messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.storage.message_rows import taken
from forwarder.storage.message_schema import SCHEMA

from .test_messages import BOB, BODY, BRIAN, DAY, House


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    await made.start()
    yield made
    await made.database.close()


def added_up(c: apsw.Connection) -> int:
    """The oracle: all of them, one by one."""
    rows = c.execute("SELECT size FROM message WHERE account='toby' AND origin IS NULL AND freed IS NULL")
    return sum(size for (size,) in rows)


async def both(house: House) -> tuple[int, int]:
    return await house.database.read(lambda c: (taken(c, "toby"), added_up(c)))


async def write(house: House, sql: str) -> None:
    await house.database.commit(lambda c: c.execute(sql) and None, point="test")


async def test_it_follows_a_message_from_its_coming_to_its_being_forgotten(house: House) -> None:
    assert await both(house) == (0, 0)
    [first] = (await house.submit(BRIAN)).keys
    [second] = (await house.submit(BOB, body=BODY * 2)).keys
    await house.copy()  # an address's, no account's
    assert await both(house) == (3 * len(BODY), 3 * len(BODY))
    assert await house.messages.room(str(BRIAN)) == 0
    await house.messages.unpin(first, None)
    assert await both(house) == (2 * len(BODY), 2 * len(BODY))
    await house.restart()
    assert await house.messages.room("toby") == 2 * len(BODY)
    house.now += 31 * DAY
    await house.sweeping.sweep()
    assert await both(house) == (0, 0)
    house.now += 31 * DAY
    await house.sweeping.sweep()
    assert await both(house) == (0, 0)
    assert await house.database.read(lambda c: c.execute("SELECT count(*) FROM message WHERE origin IS NULL").get) == 0
    assert not await house.opens(second)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE message SET freed=1",
        "UPDATE message SET freed=1; UPDATE message SET freed=2",
        "UPDATE message SET freed=1; UPDATE message SET freed=NULL",
        "UPDATE message SET freed=NULL",
        "DELETE FROM message",
        "UPDATE message SET freed=1; DELETE FROM message",
    ],
)
async def test_it_follows_whatever_a_repair_does(house: House, change: str) -> None:
    await house.submit(BRIAN)
    await write(house, "PRAGMA defer_foreign_keys=1")
    await write(house, f"DELETE FROM message_key; DELETE FROM small_body; {change}")
    kept, summed = await both(house)
    assert kept == summed


async def test_what_an_older_version_kept_is_counted(house: House) -> None:
    await house.database.close()
    (house.folder / "state.db").unlink()
    house.schema = [step for step in SCHEMA if step.name != "messages-3"]
    await house.start()
    for number, freed in enumerate(("NULL", "NULL", "7", "7"), 1):
        await write(
            house,
            f"""INSERT INTO message (account, file, size, sha256, headers, summary, letter, made, expires, freed)
            VALUES ('toby', '{number}', {number * 100}, x'00', 0, x'', x'', 0, 1900000000, {freed})""",
        )
    await write(
        house, "UPDATE message SET account='vera' WHERE number=2; UPDATE message SET account='zoe' WHERE number=4"
    )
    house.schema = SCHEMA
    await house.restart()
    assert await both(house) == (100, 100)
    assert await house.messages.room("vera") == 200
    await write(house, "UPDATE message SET freed=7")
    await write(house, "UPDATE message SET freed=NULL WHERE number IN (3, 4)")
    assert await both(house) == (300, 300)
    assert await house.messages.room("zoe") == 400
