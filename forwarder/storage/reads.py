"""Reading from the database: a connection that cannot write, and one thread call for all who wait.

Reads that come while one is under way are made together, of one moment. One that raises fails alone; who is cancelled
keeps nobody from reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw
import trio

T = TypeVar("T")

TOGETHER = 100
"""Reads of one moment at most."""


class DatabaseClosed(Exception):
    """The database was closed before this job's turn came."""


class _Group:
    """Reads that are made together. answers: in their order, once they are `done`."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[apsw.Connection], Any]] = []
        self.answers: list[Any] = []
        self.done = trio.Event()


class Reads:
    """Of the database in this file; between `connect` and `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._connection: apsw.Connection | None = None
        self._waiting = _Group()

    def connect(self) -> None:
        """In a worker thread. Raises apsw.Error."""
        self._connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        self._connection.set_busy_timeout(5_000)

    async def close(self) -> None:
        """After the read under way; who still waits is told DatabaseClosed."""
        await trio.to_thread.run_sync(self._close, limiter=self._thread)

    async def read(self, job: Callable[[apsw.Connection], T]) -> T:
        """What `job` reads, of one consistent moment, of all that was committed before. Raises what it raises."""
        if len(self._waiting.jobs) == TOGETHER:
            self._waiting = _Group()
        group, place = self._waiting, len(self._waiting.jobs)
        group.jobs.append(job)
        if place == 0:  # the first reads for those who come until its turn: they wait for it
            with trio.CancelScope(shield=True):
                await self._read_together(group)
        await group.done.wait()
        answer = group.answers[place]
        if isinstance(answer, Exception):
            raise answer
        return cast("T", answer)

    async def _read_together(self, group: _Group) -> None:
        async with self._turn:
            if group is self._waiting:
                self._waiting = _Group()
            try:
                group.answers = await trio.to_thread.run_sync(self._make, group.jobs, limiter=self._thread)
            except Exception as error:  # closed, or a disk that does not even begin
                group.answers = [error] * len(group.jobs)
            group.done.set()

    # -- in the worker thread

    def _make(self, jobs: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
        connection = self._connection
        if connection is None:
            raise DatabaseClosed(f"{self._path} is not open")
        connection.execute("BEGIN")
        try:
            return [_answer(job, connection) for job in jobs]
        finally:
            if connection.in_transaction:  # SQLite itself rolls back on some errors
                connection.execute("ROLLBACK")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _answer(job: Callable[[apsw.Connection], Any], connection: apsw.Connection) -> Any:
    """What it read, or raised: told to its own waiter."""
    try:
        return job(connection)
    except Exception as error:
        return error
