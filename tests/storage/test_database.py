"""The database: what `commit` returned is on the disk, together with whatever waited, whatever happens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from forwarder.storage import database
from forwarder.storage.database import Database, DatabaseBusy, DatabaseUnfit, Migration
from forwarder.storage.reads import DatabaseClosed

SCHEMA = (Migration("test-1", "CREATE TABLE things (name TEXT NOT NULL UNIQUE)"),)


def put(name: str) -> Callable[[apsw.Connection], str]:
    def job(connection: apsw.Connection) -> str:
        connection.execute("INSERT INTO things VALUES (?)", (name,))
        return name

    return job


def names(connection: apsw.Connection) -> list[str]:
    return [str(name) for (name,) in connection.execute("SELECT name FROM things ORDER BY rowid")]


async def opened(path: Path, nursery: trio.Nursery) -> Database:
    made = Database(path, SCHEMA)
    await made.open()
    await nursery.start(made.run)
    return made


@pytest.fixture
async def db(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Database]:
    made = await opened(tmp_path / "state.db", nursery)
    yield made
    await made.close()


async def told(db: Database, *jobs: Callable[[apsw.Connection], Any]) -> list[Any]:
    """The answers of jobs that were given in one breath."""
    answers: list[Any] = []
    done = trio.Event()

    def hear(answer: Any) -> None:
        answers.append(answer)
        if len(answers) == len(jobs):
            done.set()

    for job in jobs:
        db.commit_soon(job, hear, point="test")
    assert not answers, "done was called from within commit_soon"
    await done.wait()
    return answers


async def test_a_commit_is_seen_by_the_next_read_and_in_the_file(db: Database, tmp_path: Path) -> None:
    assert await db.commit(put("a"), point="test") == "a"
    assert await db.read(names) == ["a"]
    stranger = apsw.Connection(str(tmp_path / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert names(stranger) == ["a"]
    stranger.close()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


async def test_what_waits_is_one_transaction(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    transact = db._transact

    def counted(group: Any) -> Any:
        groups.append(len(group))
        return transact(group)

    monkeypatch.setattr(db, "_transact", counted)
    assert await told(db, *(put(str(n)) for n in range(50))) == [str(n) for n in range(50)]
    assert groups == [50]


async def test_jobs_that_come_while_a_commit_runs_form_the_next_one(db: Database) -> None:
    async with trio.open_nursery() as callers:
        for n in range(300):
            callers.start_soon(partial(db.commit, put(str(n)), point="test"))
    assert sorted(map(int, await db.read(names))) == list(range(300))


async def test_a_job_that_raises_fails_alone(db: Database) -> None:
    def bad(connection: apsw.Connection) -> None:
        put("half done")(connection)
        raise ValueError("no")

    first, wrong, twice, last = await told(db, put("a"), bad, put("a"), put("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(wrong, ValueError)
    assert isinstance(twice, apsw.ConstraintError)
    assert await db.read(names) == ["a", "b"]


async def test_a_waiter_that_is_cancelled_abandons_its_wait_not_its_job(db: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await db.commit(put("a"), point="test")
    assert scope.cancelled_caught
    await db.commit(put("b"), point="test")
    assert await db.read(names) == ["a", "b"]


async def test_a_callback_that_raises_silences_nobody(db: Database) -> None:
    def raises(_: object) -> None:
        raise RuntimeError("a bug")

    db.commit_soon(put("a"), raises, point="test")
    assert await told(db, put("b")) == ["b"]


async def test_a_lazy_job_rides_with_the_next_commit_or_goes_alone_in_the_end(db: Database) -> None:
    db.commit_soon(put("lazy"), None, point="test", lazy=True)
    await db.commit(put("a"), point="test")
    assert await db.read(names) == ["lazy", "a"]
    alone = trio.Event()
    db.commit_soon(put("alone"), lambda _: alone.set(), point="test", lazy=True)
    with trio.fail_after(10):
        await alone.wait()


async def test_a_committer_with_nothing_to_do_sleeps(db: Database) -> None:
    await db.commit(put("a"), point="test")
    with trio.fail_after(10):
        await trio.testing.wait_all_tasks_blocked(0.02)


async def test_more_than_may_wait_is_turned_away(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAITING_JOBS", 2)
    *fine, busy = await told(db, put("a"), put("b"), put("c"))
    assert fine == ["a", "b"] and isinstance(busy, DatabaseBusy)
    assert await db.commit(put("c"), point="test") == "c"


async def test_close_commits_what_waits_and_then_takes_nothing(tmp_path: Path, nursery: trio.Nursery) -> None:
    db = await opened(tmp_path / "state.db", nursery)
    db.commit_soon(put("a"), None, point="test")
    db.commit_soon(put("b"), None, point="test", lazy=True)
    await db.close()
    with pytest.raises(DatabaseClosed):
        db.commit_soon(put("c"), None, point="test")
    with pytest.raises(DatabaseClosed):
        await db.read(names)
    assert os.listdir(tmp_path) == ["state.db"], "the log is in the file"
    again = await opened(tmp_path / "state.db", nursery)
    assert await again.read(names) == ["a", "b"]
    await again.close()


async def test_a_committer_that_is_cancelled_leaves_nobody_waiting(tmp_path: Path) -> None:
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        db = await opened(tmp_path / "state.db", nursery)
        await db.commit(put("a"), point="test")
        nursery.cancel_scope.cancel()
        db.commit_soon(put("b"), answers.append, point="test")
    (answer,) = answers
    assert answer == "b" or isinstance(answer, DatabaseClosed)
    await db.close()


async def test_the_log_is_copied_into_the_file_and_stays_small(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 20)
    db._checkpoint_from = 20
    log = db._path.with_name("state.db-wal")
    for n in range(400):
        await db.commit(put(f"{n} {'x' * 500}"), point="test")
    assert log.stat().st_size < 60 * 4096
    assert len(await db.read(names)) == 400


async def test_an_older_database_gets_what_it_lacks(tmp_path: Path, nursery: trio.Nursery) -> None:
    old = await opened(tmp_path / "state.db", nursery)
    await old.commit(put("a"), point="test")
    await old.close()
    new = Database(tmp_path / "state.db", (*SCHEMA, Migration("test-2", "ALTER TABLE things ADD COLUMN size INTEGER")))
    for _ in range(2):  # and the second time there is nothing to do
        await new.open()
        assert await new.read(lambda c: c.execute("SELECT * FROM things").fetchall()) == [("a", None)]
        await new.close()
        new = Database(tmp_path / "state.db", new._schema)


async def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path, nursery: trio.Nursery) -> None:
    newer = Database(tmp_path / "state.db", (*SCHEMA, Migration("later-7", "CREATE TABLE later (x)")))
    await newer.open()
    await newer.close()
    with pytest.raises(DatabaseUnfit, match=r"newer version.*later-7"):
        await Database(tmp_path / "state.db", SCHEMA).open()
    await newer.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    broken = Database(tmp_path / "state.db", (*SCHEMA, Migration("test-2", "CREATE TABLE more (x); NO SQL AT ALL")))
    with pytest.raises(apsw.SQLError):
        await broken.open()
    connection = apsw.Connection(str(tmp_path / "state.db"))
    assert connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    connection.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"a letter to my aunt\n" * 500)
    with pytest.raises(DatabaseUnfit, match="no database"):
        await Database(tmp_path / "state.db", SCHEMA).open()


# -- a disk that fails


class Disk(apsw.VFS):
    """Does what it is told; then every write, or every sync, fails."""

    def __init__(self) -> None:
        self.fails: type[apsw.Error] | None = None
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: Any) -> None:
        self.disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        if self.disk.fails is apsw.FullError:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self.disk.fails is apsw.IOError:
            raise apsw.IOError("sync failed")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.unregister()


@pytest.mark.parametrize("fault", [apsw.FullError, apsw.IOError])
async def test_a_failing_disk_acknowledges_nothing_and_the_database_lives_on(
    disk: Disk, tmp_path: Path, nursery: trio.Nursery, fault: type[apsw.Error]
) -> None:
    db = await opened(tmp_path / "state.db", nursery)
    await db.commit(put("before"), point="test")
    disk.fails = fault
    assert [type(answer) for answer in await told(db, put("a"), put("b"))] == [fault, fault]
    with pytest.raises(fault):
        await db.commit(put("c"), point="test")
    assert db.setback.last.startswith(fault.__name__), "an operator sees why all is answered later"
    disk.fails = None
    await db.commit(put("a"), point="test")
    assert not db.setback.last
    assert await db.read(names) == ["before", "a"]
    await db.close()
    again = await opened(tmp_path / "state.db", nursery)
    assert await again.read(names) == ["before", "a"]
    await again.close()


# -- a process that dies


CHILD = """
import sys, trio
from pathlib import Path
from forwarder.storage.database import Database, Migration

async def main():
    db = Database(Path(sys.argv[1]), [Migration("test-1", "CREATE TABLE things (name TEXT NOT NULL UNIQUE)")])
    await db.open()

    async def caller(who):
        for n in range(100_000):
            name = f"{who}/{sys.argv[2]}/{n}"
            await db.commit(lambda c: c.execute("INSERT INTO things VALUES (?)", (name,)) and None, point="test")
            sys.stdout.write(name + "\\n")
            sys.stdout.flush()

    async with trio.open_nursery() as nursery:
        await nursery.start(db.run)
        for who in range(5):
            nursery.start_soon(caller, who)

trio.run(main)
"""


def acknowledged_before_kill(path: Path, life: str, after: int) -> set[str]:
    """What a child had been told is committed when it was killed, some while after its first `after` answers."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), life], stdout=subprocess.PIPE)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(after)]
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, nursery: trio.Nursery) -> None:
    chance = random.Random(2000)
    acknowledged: set[str] = set()
    for life in range(5):
        after = chance.randrange(1, 400)
        acknowledged |= await trio.to_thread.run_sync(acknowledged_before_kill, tmp_path / "state.db", str(life), after)
        db = await opened(tmp_path / "state.db", nursery)
        kept = set(await db.read(names))
        await db.close()
        assert acknowledged <= kept
        assert len(kept - acknowledged) <= 5 * (life + 1), "what is kept beyond it was under way: one a caller and life"
