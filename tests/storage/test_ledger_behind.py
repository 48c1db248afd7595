"""What the embedded ledger does when the disk fails: settlements wait in memory and ride with what comes next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from forwarder.model import Mailbox
from forwarder.ports import Debt
from forwarder.storage import ledger as room
from forwarder.storage.database import Database
from forwarder.storage.ledger import Ledger

DEBT = Debt(0, "role", "e", Mailbox("sales", "pobox.example"), "s.example", bytes(16), b"octets", 1, b"all owed")


@pytest.fixture
async def database(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    made = Database(tmp_path / "state.db", room.SCHEMA)
    await made.open()
    await nursery.start(made.run)
    yield made
    await made.close()


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    made = Ledger(database)
    await made.open()
    return made


def full(*_: object) -> None:
    raise apsw.FullError("no space left")


async def accept(ledger: Ledger) -> Any:
    told = trio.Event()
    answers: list[Any] = []

    def hear(answer: Any) -> None:
        answers.append(answer)
        told.set()

    ledger.accept_soon([DEBT], hear)
    await told.wait()
    return answers[0]


async def test_a_settlement_that_failed_is_kept_and_goes_with_the_next_acceptance(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = await accept(ledger)

    with monkeypatch.context() as disk:
        disk.setattr(ledger, "_write", full)
        ledger.settle_soon(number, b"done", closed=True)
        assert isinstance(await accept(ledger), apsw.FullError), "the fault is the group's"
    settled = await ledger.debt(number)
    assert settled is not None and not settled.open
    assert await database.read(lambda c: c.execute("SELECT still_open FROM debts").get) == 1
    await accept(ledger)
    assert await database.read(lambda c: c.execute("SELECT still_open FROM debts WHERE number = 1").get) == 0


async def test_what_has_arrived_on_a_disk_that_fails_is_open_still_and_known_to_be_carried(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = await accept(ledger)
    told = trio.Event()
    answers: list[Any] = []

    def hear(answer: Any) -> None:
        answers.append(answer)
        told.set()

    with monkeypatch.context() as disk:
        disk.setattr(ledger, "accept", full)
        ledger.arrived_soon(number, b"carried", DEBT, hear)
        await told.wait()
    assert isinstance(answers[0], apsw.FullError)
    await ledger.settled()
    [row] = await ledger.open_debts()
    assert (row.number, row.state) == (number, b"carried")


async def test_a_settlement_that_failed_is_written_once_the_disk_is_well_though_nothing_else_comes(
    database: Database, ledger: Ledger, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery.start_soon(ledger.run)
    (number,) = await accept(ledger)
    tries: list[float] = []
    write, written = ledger._write, trio.Event()

    def full(connection: apsw.Connection) -> room._Written:
        tries.append(0)
        if len(tries) < 3:
            raise apsw.FullError("no space left")
        trio.from_thread.run_sync(written.set)
        return write(connection)

    monkeypatch.setattr(ledger, "_write", full)
    monkeypatch.setattr("forwarder.ports.setbacks.FIRST", 0.01)
    ledger.settle_soon(number, b"done", closed=True)
    with trio.fail_after(5):
        await written.wait()
    await accept(ledger)
    assert await database.read(lambda c: c.execute("SELECT still_open FROM debts WHERE number = 1").get) == 0
    assert not ledger.setback.last


async def test_many_settlements_of_one_tick_are_one_job(tmp_path: Path, nursery: trio.Nursery) -> None:
    database = Database(tmp_path / "state.db", room.SCHEMA)
    await database.open()
    ledger = Ledger(database)
    await ledger.open()
    for n in range(100):
        ledger.settle_soon(n, b"%d" % n, closed=False)
    assert len(database._waiting) == 1
    await nursery.start(database.run)
    await database.close()


async def test_who_must_not_be_told_before_it_is_on_the_disk_waits_for_the_commit(
    database: Database, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = await accept(ledger)

    with monkeypatch.context() as disk:
        disk.setattr(ledger, "_write", full)
        ledger.settle_soon(number, b"done", closed=True)
        with pytest.raises(apsw.FullError):
            await ledger.settled()
    await ledger.settled()
    assert await database.read(lambda c: c.execute("SELECT still_open FROM debts WHERE number = 1").get) == 0


async def test_no_number_comes_again_though_a_backup_from_before_it_does(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A report on row 7 that comes back weeks later must not end another message's row."""
    numbers = []
    for copy, now in (("lost", 1000.0), ("restored", 1001.0)):
        database = Database(tmp_path / copy, room.SCHEMA)
        await database.open()
        await nursery.start(database.run)
        for clock in (now, 0.0):  # one that was set back repeats nothing either
            ledger = Ledger(database, lambda clock=clock: clock)  # type: ignore[misc]
            await ledger.open()
            numbers += [*await accept(ledger), *await accept(ledger)]
        await database.close()
    assert len(set(numbers)) == 8
    assert max(numbers) < 1 << 40  # what a return path holds
