"""The embedded database: one file, one writer, whatever waits is committed together.

* What `commit` returned, or `done` was told, is on the disk: WAL with synchronous=FULL, and nobody wakes before COMMIT.
* Jobs that come while a commit runs form the next transaction: one thread call and one sync a group, never one a row.
* A job that raises fails alone. A disk that is full or broken fails its whole group, nothing of it is acknowledged,
  and the next group tries afresh. A waiter that is cancelled abandons its wait, never its job.
* A job may run twice before it is committed once: it reads and writes through its connection and nothing else.
* The schema only grows: a database with migrations that this program does not know is refused.
* A log that is not this file's is refused before anything is written (generation.py).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import structlog
import trio

from forwarder.ports.setbacks import Setback
from forwarder.storage import generation
from forwarder.storage.reads import DatabaseClosed, Reads

T = TypeVar("T")

WAITING_JOBS = 20_000
"""Jobs that may wait for a commit; more are told DatabaseBusy. Above `sessions`, each of which has one command out."""
GROUP_JOBS = 1_000
"""Jobs of one transaction at most: what waits longer than that many still sees an end."""
COMPANY_SECONDS = 0.2
"""How long jobs that nobody waits for (`lazy`) wait for one that somebody does."""
CHECKPOINT_PAGES = 2_000
"""The log is copied into the file from here on once nobody waits (8 MiB at 4 KiB a page)..."""
CHECKPOINT_NOW_PAGES = 16_000
"""... and from here on even under load: this and one group bound the log's size."""
SQLITE_AT_LEAST = (3, 51, 3)
"""Older ones may corrupt a WAL that two connections share (the WAL-reset fault)."""

DISK_FAULTS = (
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
    apsw.InterruptError,
)
"""What is no fault of the job that met it."""

log = structlog.get_logger("forwarder.storage")


class DatabaseBusy(Exception):
    """More waits for the disk than may (WAITING_JOBS): later may go better."""


class DatabaseUnfit(Exception):
    """This program cannot work with the file: a newer schema, no database at all, another's log, a faulty SQLite."""


class Migration(NamedTuple):
    """A step of the schema. name: unique for ever ("inbox-1"). sql: statements, never edited once shipped."""

    name: str
    sql: str


class _Job(NamedTuple):
    run: Callable[[apsw.Connection], Any]
    done: Callable[[Any], None] | None
    point: str


class Database:
    """`open`, start `run` in a nursery, then `commit` and `read`; `close` commits what waits and ends `run`.

    setback: why the last commit failed, until one went well.
    """

    def __init__(self, path: Path, schema: Sequence[Migration]) -> None:
        self._path = path
        self._schema = (*schema, Migration("generation-1", generation.SQL))
        self._writing = trio.CapacityLimiter(1)
        self._writer: apsw.Connection | None = None
        self._reads = Reads(path)
        self._waiting: deque[_Job] = deque()
        self._turned_away: list[_Job] = []
        self._some, self._hurry, self._ended = trio.Event(), trio.Event(), trio.Event()
        self._running = self._closing = self._closed = False
        self._log_pages = 0
        self._checkpoint_from = CHECKPOINT_PAGES
        self._log_is_copied = False
        """All that is in the log is in the file too: what is written next may begin a life of the log."""
        self.setback = Setback()

    async def open(self) -> None:
        """Opens or makes the file (mode 0600) and brings its schema up to date. Raises DatabaseUnfit."""
        await trio.to_thread.run_sync(self._connect, limiter=self._writing)

    async def close(self) -> None:
        """Commits what waits, copies the log into the file, closes; returns when all that has happened."""
        self._closing = True
        self._some.set()
        self._hurry.set()
        if self._running:
            await self._ended.wait()
        else:
            await self._end()

    async def commit(self, job: Callable[[apsw.Connection], T], *, point: str) -> T:
        """Returns what `job` returned, after COMMIT; raises what it raised. `point` names the place in the states.

        Raises DatabaseBusy, DatabaseClosed, or apsw.Error where the disk fails.
        """
        told = trio.Event()
        answers: list[T | Exception] = []

        def done(answer: T | Exception) -> None:
            answers.append(answer)
            told.set()

        self.commit_soon(job, done, point=point)
        await told.wait()
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def commit_soon(
        self,
        job: Callable[[apsw.Connection], T],
        done: Callable[[T | Exception], None] | None,
        *,
        point: str,
        lazy: bool = False,
    ) -> None:
        """As `commit`; `done` is called from the loop once its group is committed, never from within this call.

        lazy: nobody waits; it rides on the next commit, or on one of its own after COMPANY_SECONDS.
        Raises DatabaseClosed at once after `close` has ended.
        """
        if self._closed:
            raise DatabaseClosed(f"{self._path} is closed")
        entry = _Job(job, done, point)
        if len(self._waiting) >= WAITING_JOBS:
            self._turned_away.append(entry)
            return
        self._waiting.append(entry)
        self._some.set()
        if not lazy:
            self._hurry.set()

    async def read(self, job: Callable[[apsw.Connection], T]) -> T:
        """What `job` reads, of one consistent moment, on a connection that cannot write. Sees all that is committed."""
        return await self._reads.read(job)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The committer. Ends after `close`; cancelled, it finishes the group under way and fails what waits."""
        self._running = True
        task_status.started()
        try:
            while await self._due():
                await self._commit_group()
        finally:
            with trio.CancelScope(shield=True):
                await self._end()

    # -- the committer's steps

    async def _due(self) -> bool:
        while not self._waiting and not self._closing:
            await self._some.wait()
        if not self._hurry.is_set():
            with trio.move_on_after(COMPANY_SECONDS):
                await self._hurry.wait()
        return bool(self._waiting)

    async def _commit_group(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_JOBS))]
        if not self._waiting:
            self._some, self._hurry = trio.Event(), trio.Event()
        with trio.CancelScope(shield=True):
            try:
                answers = await trio.to_thread.run_sync(self._transact, group, limiter=self._writing)
                self.setback.over()
            except Exception as error:  # whatever it was, each waiter must hear of it
                self.setback.pause(error)
                log.error("commit failed", error=repr(error), jobs=len(group), points=sorted({j.point for j in group}))
                answers = [error] * len(group)
            turned_away, self._turned_away = self._turned_away, []
            _tell(group, answers)
            _tell(turned_away, [DatabaseBusy("too much waits for the disk")] * len(turned_away))
            if self._log_pages >= (CHECKPOINT_NOW_PAGES if self._waiting else self._checkpoint_from):
                await trio.to_thread.run_sync(self._checkpoint, limiter=self._writing)

    async def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        left = [*self._waiting, *self._turned_away]
        self._waiting.clear()
        self._turned_away = []
        try:
            await self._reads.close()
            await trio.to_thread.run_sync(self._close_writer, limiter=self._writing)
        finally:
            self._ended.set()
            _tell(left, [DatabaseClosed(f"{self._path} was closed")] * len(left))

    # -- in the worker threads

    def _transact(self, group: Sequence[_Job]) -> list[Any]:
        if self._writer is None:
            raise DatabaseClosed(f"{self._path} is not open")
        first = [_Job(generation.begin, None, "")] if self._log_is_copied else []
        answers = _together(self._writer, [*first, *group])
        if answers is None:
            answers = _each(self._writer, [*first, *group])
        self._log_is_copied = False
        return answers[len(first) :]

    def _checkpoint(self) -> None:
        assert self._writer is not None
        pages = self._log_pages
        try:
            if self._copy_log(self._writer):  # then the file takes a new name, in which no older log fits
                self._transact([])
                self._copy_log(self._writer)
        except apsw.Error as error:
            log.warning("checkpoint failed", error=repr(error), pages=self._log_pages)
        # a reader may hold the log's end: then try again when it has grown as much once more
        self._checkpoint_from = CHECKPOINT_PAGES + (0 if self._log_is_copied else pages)

    def _copy_log(self, writer: apsw.Connection) -> bool:
        """Whether all of it is in the file now."""
        pages, copied = writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if copied == pages:
            self._log_pages, self._log_is_copied = 0, True
        return self._log_is_copied

    def _grown(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _connect(self) -> None:
        if tuple(map(int, apsw.sqlite_lib_version().split("."))) < SQLITE_AT_LEAST:
            raise DatabaseUnfit(f"SQLite {apsw.sqlite_lib_version()} can corrupt its log; 3.51.3 is the oldest to use")
        try:
            generation.check(self._path)
        except generation.StrayLog as error:
            raise DatabaseUnfit(str(error)) from None
        except apsw.NotADBError:
            raise DatabaseUnfit(f"{self._path} is no database") from None
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        writer = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            writer.set_busy_timeout(5_000)
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0")
            writer.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_NOW_PAGES * 4096}")
            writer.set_wal_hook(self._grown)
            migrate(writer, self._schema)
            self._reads.connect()
        except apsw.NotADBError:
            writer.close()
            raise DatabaseUnfit(f"{self._path} is no database") from None
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        self._checkpoint()

    def _close_writer(self) -> None:
        if self._writer is not None:
            if self._log_pages:
                self._checkpoint()
            self._writer.close()  # the last one out copies the log into the file and removes it
            self._writer = None


def migrate(connection: apsw.Connection, schema: Sequence[Migration]) -> None:
    """Applies what is missing, in order, in one transaction. Raises DatabaseUnfit for a newer database."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, schema)
        connection.execute("COMMIT")
    except BaseException:
        _undo(connection)
        raise


def _apply(connection: apsw.Connection, schema: Sequence[Migration]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT NOT NULL PRIMARY KEY, place INTEGER NOT NULL)")
    applied = {str(name) for (name,) in connection.execute("SELECT name FROM migrations")}
    if unknown := applied.difference(step.name for step in schema):
        steps = ", ".join(sorted(unknown))
        raise DatabaseUnfit(f"the database was written by a newer version: this one does not know {steps}")
    for step in schema:
        if step.name not in applied:
            connection.execute(step.sql)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (step.name, len(applied)))
            applied.add(step.name)


def _together(connection: apsw.Connection, group: Sequence[_Job]) -> list[Any] | None:
    """All or none, without a savepoint each; None: one of them raised, and nothing was done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        answers = [job.run(connection) for job in group]
        connection.execute("COMMIT")
    except Exception as error:
        _undo(connection)
        if isinstance(error, DISK_FAULTS):
            raise
        return None
    return answers


def _each(connection: apsw.Connection, group: Sequence[_Job]) -> list[Any]:
    """One transaction in which a job that raises is undone alone; its answer is what it raised."""
    answers: list[Any] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in group:
            connection.execute("SAVEPOINT job")
            try:
                answers.append(job.run(connection))
            except DISK_FAULTS:
                raise
            except Exception as error:  # its own fault: told to its own waiter
                connection.execute("ROLLBACK TO job")
                answers.append(error)
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
    except BaseException:
        _undo(connection)
        raise
    return answers


def _undo(connection: apsw.Connection) -> None:
    if connection.in_transaction:  # SQLite itself rolls back on some errors
        connection.execute("ROLLBACK")


def _tell(jobs: Sequence[_Job], answers: Sequence[Any]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.done is not None:
            try:
                job.done(answer)
            except Exception:  # one caller's bug must not silence the others
                log.exception("a callback failed", point=job.point)
        elif isinstance(answer, Exception):
            log.error("lost in the background", point=job.point, error=repr(answer))
