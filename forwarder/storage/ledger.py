"""What is owed after an answer, and what strategies remember (protocol 5.0 d, 5.3; speed 9).

* A debt is one row. Accepting appends rows in one job; its number is told after COMMIT.
* Settling, and remembering, wait for nobody: they are seen at once here and ride on the next commit. A crash may lose
  the last of them, so a target may be asked again: the same key, harmless.
* Numbers only grow, over restarts too: the row with the highest one is never dropped. Nor do they come again where a
  backup does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import apsw
import structlog
import trio

from forwarder.model import Mailbox
from forwarder.ports import Clock, Debt, Sight
from forwarder.ports.setbacks import Setback
from forwarder.storage.database import Database, Migration
from forwarder.storage.reads import DatabaseClosed

MEMORY_OCTETS = 64 * 1024
"""Of names and values that one strategy may remember for one entry."""
UNPIN = "unpin"
"""A debt of this kind is an un-pin that a reader of ours has given: no notification was taken with it."""
FORGET_ROWS = 1_000
"""Debts dropped in one transaction."""

SCHEMA = (
    Migration(
        "ledger-1",
        """
        CREATE TABLE debts (
            number INTEGER PRIMARY KEY, kind TEXT NOT NULL, entry TEXT NOT NULL, localpart TEXT NOT NULL,
            domain TEXT NOT NULL, store TEXT NOT NULL, key BLOB NOT NULL, octets BLOB NOT NULL,
            accepted INTEGER NOT NULL, state BLOB NOT NULL, still_open INTEGER NOT NULL);
        CREATE INDEX debts_accepted ON debts (accepted);
        CREATE INDEX debts_open ON debts (number) WHERE still_open = 1;
        CREATE TABLE memories (
            entry TEXT NOT NULL, strategy TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
            PRIMARY KEY (entry, strategy, name));
        """,
    ),
    Migration("ledger-2", "CREATE INDEX debts_for ON debts (domain, localpart) WHERE kind = 'resend';"),
)

_COLUMNS = "number, kind, entry, localpart, domain, store, key, octets, accepted, state, still_open"

log = structlog.get_logger("forwarder.storage")


ROWS_A_SECOND = 256
"""More than are owed for long; 40 bits hold them until 2106."""


class _Settled(NamedTuple):
    state: bytes
    closed: bool


class _Fact(NamedTuple):
    entry: str
    strategy: str
    name: str


class _Written(NamedTuple):
    settled: dict[int, _Settled]
    remembered: dict[_Fact, bytes]


class _Arrived(NamedTuple):
    row: int | None
    owes: bool


class Pins(Protocol):
    """Messages of our own store, for the COMMIT that closes a row of theirs."""

    def unpin(self, c: apsw.Connection, debt: Debt, /) -> bool | None:
        """Within it. None: not our own store's; else it is un-pinned now, and its source is owed one, or not."""
        ...

    def owes(self) -> None:
        """After it, where a source is owed one."""
        ...


class Ledger:
    """ports.Ledger over the embedded database. `open` before use.

    clock: what others know by a row's number (a return path) may come back when a backup from before that row is in
    force; so numbers begin at each start beyond all that there was time for.
    """

    def __init__(self, database: Database, clock: Clock = lambda: 0.0) -> None:
        self._database = database
        self._clock = clock
        self._last = 0
        self._settled: dict[int, _Settled] = {}
        self._remembered: dict[_Fact, bytes] = {}
        self._riding = False
        self._failed = trio.Event()
        self._fault = Exception()
        self.pins: Pins | None = None
        """None: no message is our own store's."""
        self.setback = Setback()

    async def open(self) -> None:
        """Learns where the numbers stand."""

        def last(connection: apsw.Connection) -> int:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM debts").get)

        self._last = max(await self._database.read(last), int(self._clock()) * ROWS_A_SECOND)

    async def run(self) -> None:
        """What a failing disk did not take is written once it is well, though nothing else comes."""
        while True:
            await self._failed.wait()
            self._failed = trio.Event()
            await trio.sleep(self.setback.pause(self._fault))
            try:
                self._ride()
            except DatabaseClosed:
                return

    def accept_soon(self, debts: Sequence[Debt], done: Callable[[Sequence[int] | Exception], None]) -> None:
        self._ride()
        self._database.commit_soon(lambda c: self.accept(c, debts), done, point="ledger.accept")

    def accept(self, connection: apsw.Connection, debts: Sequence[Debt]) -> Sequence[int]:
        """Their numbers. Within a commit of the caller's."""
        first = self._last + 1
        self._last += len(debts)
        rows = (
            (number, d.kind, d.entry, *d.recipient, d.store, d.key, d.octets, d.accepted, d.state, int(d.open))
            for number, d in enumerate(debts, first)
        )
        connection.executemany("INSERT INTO debts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        return range(first, first + len(debts))

    def settle_soon(self, number: int, state: bytes, *, closed: bool) -> None:
        self._settled[number] = _Settled(state, closed)
        self._ride()

    def arrived_soon(
        self, number: int, state: bytes, unpin: Debt, done: Callable[[int | Exception | None], None]
    ) -> None:
        def close(connection: apsw.Connection) -> _Arrived:
            connection.execute("UPDATE debts SET state = ?, still_open = 0 WHERE number = ?", (state, number))
            owes = self.pins.unpin(connection, unpin) if self.pins else None
            return _Arrived(self.accept(connection, [unpin])[0], False) if owes is None else _Arrived(None, owes)

        def closed(answer: _Arrived | Exception) -> None:
            if isinstance(answer, Exception):  # the row is open as it was, and as it should be known
                self.settle_soon(number, state, closed=False)
                done(answer)
                return
            if answer.owes and self.pins:
                self.pins.owes()
            done(answer.row)

        self._settled.pop(number, None)  # this says more; written behind it, the older word would open the row again
        self._database.commit_soon(close, closed, point="carried")

    async def settled(self) -> None:
        if not self._settled:
            return
        told, answers = trio.Event(), list[_Written | Exception]()

        def written(answer: _Written | Exception) -> None:
            answers.append(answer)
            told.set()

        self._commit(written, lazy=False)
        await told.wait()
        [answer] = answers
        if isinstance(answer, Exception):
            raise answer
        self._forget(answer)

    def reopen_soon(self, number: int, state: bytes, done: Callable[[Exception | None], None]) -> None:
        def reopened(answer: _Written | Exception) -> None:
            if isinstance(answer, Exception):  # kept, as any settlement: owed once more is no harm
                self._not_written(answer)
                done(answer)
                return
            self._forget(answer)
            done(None)

        self._settled[number] = _Settled(state, closed=False)
        self._database.commit_soon(self._write, reopened, point="ledger.reopen")

    def remember_soon(self, entry: str, strategy: str, values: Mapping[str, bytes]) -> None:
        """Raises ValueError if these alone are over MEMORY_OCTETS; with what is there, they are refused and logged."""
        if sum(len(name.encode()) + len(value) for name, value in values.items()) > MEMORY_OCTETS:
            raise ValueError(f"{strategy} may remember {MEMORY_OCTETS} octets for {entry}, not more")
        for name, value in values.items():
            self._remembered[_Fact(entry, strategy, name)] = value
        self._ride()

    async def open_debts(self) -> Sequence[Debt]:
        return [debt for debt in await self._debts("WHERE still_open = 1 ORDER BY number", ()) if debt.open]

    async def debt(self, number: int) -> Debt | None:
        found = await self._debts("WHERE number = ?", (number,))
        return found[0] if found else None

    async def recipients(self, since: int) -> Sequence[Mailbox]:
        sql = "SELECT DISTINCT localpart, domain FROM debts WHERE kind = 'resend' AND accepted >= ?"

        def read(connection: apsw.Connection) -> Sequence[Mailbox]:
            return [Mailbox(local, domain) for local, domain in connection.execute(sql, (since,))]

        return await self._database.read(read)

    async def debts_for(self, recipient: Mailbox, since: int, after: int, limit: int) -> Sequence[Debt]:
        where = (
            "WHERE kind = 'resend' AND localpart = ? AND domain = ? AND accepted >= ? AND number > ?"
            " ORDER BY number LIMIT ?"
        )
        return await self._debts(where, (*recipient, since, after, limit))

    async def sights(self, since: int) -> Sequence[Sight]:
        sql = (
            "SELECT store, key, localpart, domain, accepted, number FROM debts WHERE accepted >= ?"
            " AND kind <> 'unpin' ORDER BY accepted, number"
        )

        def read(connection: apsw.Connection) -> Sequence[Sight]:
            return [
                Sight(store, key, Mailbox(local, domain), at, number)
                for store, key, local, domain, at, number in connection.execute(sql, (since,))
            ]

        return await self._database.read(read)

    async def forget(self, before: int) -> int:
        sql = (
            "DELETE FROM debts WHERE number IN (SELECT number FROM debts WHERE accepted < ? AND still_open = 0"
            " AND number < (SELECT max(number) FROM debts) ORDER BY accepted LIMIT ?)"
        )

        def drop(connection: apsw.Connection) -> int:
            connection.execute(sql, (before, FORGET_ROWS))
            return connection.changes()

        dropped = 0
        while rows := await self._database.commit(drop, point="ledger.forget"):
            dropped += rows
        return dropped

    async def memory(self, entry: str, strategy: str) -> Mapping[str, bytes]:
        waiting = _of(self._remembered, entry, strategy)
        stored = await self._database.read(partial(_memory, entry=entry, strategy=strategy))
        return {name: value for name, value in {**stored, **waiting}.items() if value}

    async def _debts(self, where: str, bindings: tuple[Any, ...]) -> list[Debt]:
        settled = dict(self._settled)  # as it is before the read: what is committed meanwhile is in the row

        def read(connection: apsw.Connection) -> list[Debt]:
            return [debt_of(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM debts {where}", bindings)]  # noqa: S608  # where: constants above

        return [_with(debt, settled.get(debt.number)) for debt in await self._database.read(read)]

    # -- what rides along

    def _ride(self) -> None:
        if (self._settled or self._remembered) and not self._riding:
            self._commit(self._written, lazy=True)
            self._riding = True

    def _commit(self, written: Callable[[_Written | Exception], None], *, lazy: bool) -> None:
        self._database.commit_soon(self._write, written, point="ledger.settle", lazy=lazy)

    def _write(self, connection: apsw.Connection) -> _Written:
        settled, remembered = self._settled.copy(), self._remembered.copy()  # a copy is one step for other threads
        connection.executemany(
            "UPDATE debts SET state = ?, still_open = ? WHERE number = ?",
            ((value.state, int(not value.closed), number) for number, value in settled.items()),
        )
        for (entry, strategy), facts in groupby(sorted(remembered), key=lambda fact: fact[:2]):
            _remember(connection, entry, strategy, {fact.name: remembered[fact] for fact in facts})
        return _Written(settled, remembered)

    def _written(self, answer: _Written | Exception) -> None:
        self._riding = False
        if isinstance(answer, Exception):  # kept: tried again with the next that comes, or by `run`
            self._not_written(answer)
            return
        self.setback.over()
        self._forget(answer)
        self._ride()

    def _not_written(self, error: Exception) -> None:
        log.error("settlements not written", error=repr(error), waiting=len(self._settled))
        self._fault = error
        self._failed.set()

    def _forget(self, written: _Written) -> None:
        _drop(self._settled, written.settled)
        _drop(self._remembered, written.remembered)


def debt_of(row: tuple[Any, ...]) -> Debt:
    """From its columns, in their order in the table."""
    number, kind, entry, local, domain, store, key, octets, accepted, state, still_open = row
    return Debt(number, kind, entry, Mailbox(local, domain), store, key, octets, accepted, state, bool(still_open))


def _with(debt: Debt, settled: _Settled | None) -> Debt:
    return debt._replace(state=settled.state, open=not settled.closed) if settled else debt


def _of(remembered: Mapping[_Fact, bytes], entry: str, strategy: str) -> dict[str, bytes]:
    return {f.name: value for f, value in remembered.items() if f.entry == entry and f.strategy == strategy}


def _drop(waiting: dict[Any, Any], written: Mapping[Any, Any]) -> None:
    """What was written is no longer waiting, unless it has changed since."""
    for name, value in written.items():
        if waiting.get(name) is value:
            del waiting[name]


def _memory(connection: apsw.Connection, entry: str, strategy: str) -> dict[str, bytes]:
    sql = "SELECT name, value FROM memories WHERE entry = ? AND strategy = ?"
    return {str(name): bytes(value) for name, value in connection.execute(sql, (entry, strategy))}


def _remember(connection: apsw.Connection, entry: str, strategy: str, values: Mapping[str, bytes]) -> None:
    known = {**_memory(connection, entry, strategy), **values}
    if sum(len(name.encode()) + len(value) for name, value in known.items() if value) > MEMORY_OCTETS:
        log.error("a strategy would remember too much", entry=entry, strategy=strategy, most=MEMORY_OCTETS)
        return
    connection.executemany(
        "DELETE FROM memories WHERE entry = ? AND strategy = ? AND name = ?",
        ((entry, strategy, name) for name in values),
    )
    connection.executemany(
        "INSERT INTO memories VALUES (?, ?, ?, ?)",
        ((entry, strategy, name, value) for name, value in values.items() if value),
    )
