"""What fsck finds between rows and bodies, what it puts right, and what it leaves to a person (docs/operations.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.model import Mailbox, handle
from forwarder.ports import Debt
from forwarder.storage import inbox, ledger, message_schema
from forwarder.storage.fsck import Inspection, Problem

from .test_messages import BOB, BODY, BRIAN, FREDA, LARGE, House

SCHEMA = (*inbox.SCHEMA, *ledger.SCHEMA, *message_schema.SCHEMA)


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    made.schema = SCHEMA
    await made.start()
    yield made
    await made.database.close()


async def look(house: House, *, deep: bool = False) -> list[Problem]:
    def run() -> list[Problem]:
        connection = apsw.Connection(str(house.folder / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(Inspection(connection, house.messages.bodies, house.now, deep=deep).problems())
        finally:
            connection.close()

    return await trio.to_thread.run_sync(run)


async def repair(house: House) -> list[str]:
    """What was mended; then nothing mendable is left."""
    mended = []
    for problem in await look(house):
        if problem.mend is not None:
            assert await house.database.commit(problem.mend, point="fsck")
            await house.messages.bodies.remove(problem.files)
            mended.append(problem.text)
    assert not [problem for problem in await look(house) if problem.mend]
    return mended


async def write(house: House, sql: str, *values: object) -> None:
    def job(c: apsw.Connection) -> None:
        c.execute(sql, values)

    await house.database.commit(job, point="test")


class Kept:
    """The body of the one message here, small or large, and what a disk may do to it."""

    def __init__(self, house: House, octets: bytes) -> None:
        self.house = house
        self.octets = octets

    async def submit(self, *recipients: Mailbox) -> Sequence[bytes]:
        return (await self.house.submit(*recipients, body=self.octets, quota=1 << 20)).keys

    @property
    def name(self) -> str:
        """As fsck tells it."""
        return next(iter(self.house.files), "in the database")

    async def lose(self) -> None:
        if not self.house.files:
            await write(self.house, "DELETE FROM small_body")
        for name in self.house.files:
            self.house.messages.bodies.path(name).rename(self.house.folder / name)
            self._lost = name

    async def come_back(self) -> None:
        if self.octets == BODY:
            await self.become(self.octets)
        else:
            (self.house.folder / self._lost).rename(self.house.messages.bodies.path(self._lost))

    async def become(self, octets: bytes) -> None:
        if not self.house.files:
            await write(self.house, "INSERT OR REPLACE INTO small_body VALUES (1, ?)", octets)
        for name in self.house.files:
            self.house.messages.bodies.path(name).write_bytes(octets)


@pytest.fixture(params=[BODY, LARGE], ids=["small", "large"])
def kept(house: House, request: pytest.FixtureRequest) -> Kept:
    return Kept(house, request.param)


async def test_a_store_in_use_is_fine(house: House) -> None:
    keys = (await house.submit(BRIAN, BOB, lists=("minutes",))).keys
    await house.copy(linked=True)
    await house.copy(b"l" * 16, b"held", to=(), readers=("bob", "freda"))
    await house.messages.unpin(keys[0], None)
    (due, *_) = (await house.messages.due(9, ()))[0]
    await house.messages.cancel(due.identifier, "toby")
    assert await look(house, deep=True) == []


async def test_what_the_store_is_done_with_is_fine_before_and_after_the_sweep(house: House) -> None:
    (key,) = (await house.submit(BRIAN)).keys
    await house.messages.unpin(key, None)
    assert await look(house) == []
    house.now += 700
    await house.sweeping.sweep()
    assert house.bodies == []
    assert await look(house) == []


async def test_a_file_that_no_row_needs_goes(house: House) -> None:
    await house.submit(BRIAN)
    orphan = house.messages.bodies.path("ab" + "0" * 30)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    assert await repair(house) == [f"no message needs the body {orphan.name}"]
    assert len(house.bodies) == 1


async def test_a_file_that_is_just_landing_is_left_alone(house: House) -> None:
    upload = house.messages.upload()
    await upload.write(LARGE)
    await house.messages.bodies.land(upload)
    assert await look(house) == []


async def test_keys_of_a_lost_body_are_closed_and_named(house: House, kept: Kept) -> None:
    key, other = await kept.submit(BRIAN, FREDA)
    await kept.lose()
    (said,) = await repair(house)
    assert "message 1 of toby has lost its body" in said
    for each, whose in ((key, BRIAN), (other, FREDA)):
        assert f"{handle(each)} ({whose})" in said
        assert not await house.opens(each)
    assert await house.due() == []


async def test_a_body_that_has_come_back_meanwhile_is_kept(house: House, kept: Kept) -> None:
    (key,) = await kept.submit(BRIAN)
    await kept.lose()
    (problem,) = await look(house)
    await kept.come_back()
    assert problem.mend is not None
    assert not await house.database.commit(problem.mend, point="fsck")
    assert await house.opens(key)


@pytest.mark.parametrize(("octets", "deep"), [(b"short", False), (b"X", True)])
async def test_a_body_that_is_not_as_it_was_written_is_told_and_never_touched(
    house: House, kept: Kept, octets: bytes, deep: bool
) -> None:
    (key,) = await kept.submit(BRIAN)
    await kept.become(octets if not deep else octets + kept.octets[1:])
    (problem,) = await look(house, deep=deep)
    assert f"its body {kept.name} " in problem.text
    assert problem.mend is None
    assert await house.opens(key)
    assert deep == (await look(house) == [])


async def test_what_nobody_can_open_is_freed(house: House) -> None:
    await house.submit(BRIAN)
    await write(house, "UPDATE message_key SET life = 2")
    assert await repair(house) == ["message 1 of toby is kept, and no key opens it"]
    house.now += 700
    await house.sweeping.sweep()
    assert house.bodies == []


async def test_what_somebody_can_open_is_kept(house: House, kept: Kept) -> None:
    (key,) = await kept.submit(BRIAN)
    await write(house, "UPDATE message SET freed = 1")
    assert await repair(house) == ["message 1 of toby is freed, and a key opens it"]
    await house.sweeping.sweep()
    assert await house.opens(key)
    assert len(house.bodies) == 1


async def test_rows_that_belong_to_nothing_go(house: House) -> None:
    await house.copy(to=(), readers=("bob",))
    await write(house, "PRAGMA defer_foreign_keys = ON")
    other = apsw.Connection(str(house.folder / "state.db"))
    other.execute("PRAGMA foreign_keys = OFF; DELETE FROM message")
    other.close()
    assert len(await repair(house)) >= 2
    assert await look(house) == []


async def test_a_debt_that_would_stop_the_next_start_is_closed(house: House) -> None:
    debts = ledger.Ledger(house.database)
    await debts.open()
    told = trio.Event()
    bad = Debt(0, "resend", "sales@pobox.example", Mailbox("sales", "pobox.example"), "s", b"k" * 16, b"?", 1, b"[]")
    debts.accept_soon([bad], lambda answer: told.set())
    await told.wait()
    (said,) = await repair(house)
    assert said.startswith(f"debt 1 of sales@pobox.example ({handle(b'k' * 16)}): its notification cannot be read")
    assert await debts.open_debts() == []


async def test_an_index_that_disagrees_is_made_anew(house: House) -> None:
    await house.submit(BRIAN)
    other = apsw.Connection(str(house.folder / "state.db"))
    other.execute("PRAGMA writable_schema = ON")
    sql = "CREATE INDEX message_file ON message (account)"
    other.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'message_file'", (sql,))
    other.close()
    await house.restart()
    (said, *_) = await repair(house)
    assert "message_file" in said
    assert await look(house) == []


async def test_a_database_that_is_torn_is_told_and_nothing_more_is_asked_of_it(house: House) -> None:
    for number in range(200):
        await house.submit(BRIAN, body=b"%d" % number, quota=1 << 20)
    await house.database.close()
    path = house.folder / "state.db"
    octets = bytearray(path.read_bytes())
    octets[5 * 4096 : 9 * 4096] = bytes(4 * 4096)
    path.write_bytes(octets)
    problems = await look(house)
    assert problems
    assert {(problem.kind, problem.mend) for problem in problems} == {("database", None)}
    await house.start()
