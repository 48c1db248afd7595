"""Reading from the database: of one moment, made together, and nobody kept from it by another."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from forwarder.storage import reads as reads_of
from forwarder.storage.database import Database

from .test_database import names, opened, put


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    made = await opened(tmp_path / "state.db", nursery)
    yield made
    await made.close()


async def test_a_read_sees_one_moment_and_cannot_write(db: Database) -> None:
    with pytest.raises(apsw.ReadOnlyError):
        await db.read(put("a"))
    assert await db.read(names) == []


class Reads:
    """Reads that wait until the test lets them; the thread calls are counted."""

    def __init__(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self._db = db
        self.go_on = threading.Event()
        self.calls: list[int] = []
        self.answers: dict[str, Any] = {}
        real = db._reads._make

        def counted(jobs: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
            self.calls.append(len(jobs))
            return real(jobs)

        monkeypatch.setattr(db._reads, "_make", counted)

    def held(self, connection: apsw.Connection) -> str:
        assert self.go_on.wait(10)
        return "held"

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[trio.Nursery]:
        """One is, while the block begins others; then all are made."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.read, "first", self.held)
            await trio.testing.wait_all_tasks_blocked()
            yield nursery
            await trio.testing.wait_all_tasks_blocked()
            self.go_on.set()

    async def read(self, name: str, job: Callable[[apsw.Connection], Any]) -> None:
        try:
            self.answers[name] = await self._db.read(job)
        except (ValueError, apsw.Error) as error:
            self.answers[name] = type(error)


def raises(connection: apsw.Connection) -> None:
    raise ValueError


async def test_reads_that_come_while_one_is_made_are_one_thread_call(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(db, monkeypatch)
    async with reads.under_way() as nursery:
        await db.commit(put("a"), point="test")
        for name, job in (("names", names), ("bug", raises), ("write", put("b")), ("again", names)):
            nursery.start_soon(reads.read, name, job)
    assert reads.calls == [1, 4]
    assert reads.answers == {
        "first": "held",
        "names": ["a"],
        "bug": ValueError,
        "write": apsw.ReadOnlyError,
        "again": ["a"],
    }


async def test_more_than_one_moment_may_have_are_read_in_the_next(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(db, monkeypatch)
    monkeypatch.setattr(reads_of, "TOGETHER", 2)
    async with reads.under_way() as nursery:
        for name in "abcde":
            nursery.start_soon(reads.read, name, names)
    assert reads.calls == [1, 2, 2, 1]
    assert len(reads.answers) == 6


async def test_a_reader_that_is_cancelled_keeps_nobody_from_reading(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(db, monkeypatch)
    async with reads.under_way() as nursery, trio.open_nursery() as others:
        others.start_soon(reads.read, "cancelled", names)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(reads.read, "third", names)
        await trio.testing.wait_all_tasks_blocked()
        others.cancel_scope.cancel()
        reads.go_on.set()
    assert reads.answers == {"first": "held", "third": []}
