"""Database and bodies held against each other: what is wrong, and what can safely be put right (docs/operations.md).

* Reads on a connection of its own, a page at a time: a daemon that works meanwhile is neither held up nor misread.
* A repair is a job for the one writer, which looks again before it acts: what has become right meanwhile stays.
* Safe is: a file that no row needs goes; a key, debt or item that can never again be served is closed, and named.
  A body that is there but not as it was written is never touched: a backup may have it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from forwarder.agent.owed import Owed
from forwarder.model import handle
from forwarder.ports import Debt
from forwarder.storage import body_rows, keys
from forwarder.storage.bodies import SPOOL, Bodies
from forwarder.storage.ledger import debt_of
from forwarder.store.machine import Event, Life
from forwarder.wire.notification import MalformedPDU, decode_notification

PAGE = 500
MOST = 10_000
"""Problems of one inspection; who has more repairs these and looks again."""

Mend = Callable[[apsw.Connection], bool]


class Problem(NamedTuple):
    """kind: "database", "row", "body" or "catalogue". mend: a transaction's job; False: there was nothing to mend.

    files: bodies to be removed once that is committed. mend None: a person has to look at it.
    """

    kind: str
    text: str
    mend: Mend | None = None
    files: tuple[str, ...] = ()


class Inspection:
    """One look at everything. `checked` counts what was looked at. go_on: asked often, raises to end it."""

    def __init__(
        self,
        connection: apsw.Connection,
        bodies: Bodies,
        now: int,
        *,
        deep: bool,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._bodies = bodies
        self._now = now
        self._deep = deep
        self._go_on = go_on
        self.checked: Counter[str] = Counter()

    def problems(self) -> Iterator[Problem]:
        """Blocking. Where the database itself is broken nothing else is asked of it."""
        broken = list(self._database())
        yield from broken
        if not broken:
            yield from self._dangling()
            yield from self._messages()
            yield from self._files()
            yield from self._debts()
            yield from self._inbox()

    def _database(self) -> Iterator[Problem]:
        said = [text for (text,) in self._connection.execute("PRAGMA integrity_check(100)") if text != "ok"]
        mend = _reindex if all("index" in text for text in said) else None
        for text in said:
            yield Problem("database", str(text), mend)

    def _dangling(self) -> Iterator[Problem]:
        for table, number, parent, _ in keys.rows(self._connection, "PRAGMA foreign_key_check", ()):
            text = f"row {number} of {table} belongs to a row of {parent} that is not there"
            yield Problem("row", text, partial(_drop, table=str(table), number=int(number)))

    # -- messages and their bodies

    def _messages(self) -> Iterator[Problem]:
        sql = f"""SELECT m.number, m.account, m.file, m.size, m.sha256, m.freed, m.archived, m.removed,
            EXISTS (SELECT 1 FROM message_key k WHERE k.message = m.number AND k.life = {int(Life.live)})
            FROM message m WHERE m.number > ? ORDER BY m.number LIMIT {PAGE}"""  # noqa: S608  # numbers of ours
        last = 0
        while page := [_Row(*row) for row in keys.rows(self._connection, sql, (last,))]:
            for row in page:
                self._go_on()
                self.checked["messages"] += 1
                yield from self._message(row)
            last = page[-1].number

    def _message(self, row: _Row) -> Iterator[Problem]:
        body = _Body(row, self._bodies.path(row.file) if row.file else None)
        name = f"message {row.number} of {row.account}"
        self.checked["bodies"] += not row.file and not row.removed
        if row.freed is not None or row.removed:
            if row.live:
                yield Problem("row", f"{name} is freed, and a key opens it", partial(_revive, body=body))
        elif (size := body.size(self._connection)) is None:
            whom = self._who_is_left(row.number)
            yield Problem("body", f"{name} has lost its body{whom}", partial(_close, body=body, now=self._now))
        elif size != row.size:
            yield Problem("body", f"{name}: its body {row.file or 'in the database'} has {size} octets, not {row.size}")
        elif self._deep and body.sha256(self._connection) != row.sha256:
            text = f"{name}: its body {row.file or 'in the database'} is not what was written (SHA-256)"
            yield Problem("body", text)
        elif not row.live and not row.archived:
            yield Problem(
                "row", f"{name} is kept, and no key opens it", partial(_free, number=row.number, now=self._now)
            )

    def _who_is_left(self, message: int) -> str:
        live = [key for key in keys.of_message(self._connection, message) if key.state.life is Life.live]
        named = [f"{handle(key.identifier)} ({key.recipient or key.reader or 'a list'})" for key in live[:20]]
        return f"; keys that opened it: {', '.join(named)}" if named else ""

    def _files(self) -> Iterator[Problem]:
        for folder in sorted(self._bodies.folders()):
            names: list[str] = []
            for entry in os.scandir(folder):
                if folder.name == entry.name[:2] and entry.is_file(follow_symlinks=False):
                    names.append(entry.name)
                else:
                    yield Problem("body", f"{folder.name}/{entry.name} among the bodies is none of ours")
            self.checked["bodies"] += len(names)
            self._go_on()
            landing = self._bodies.landing()  # before the look at the rows: what lands after it is not in `names`
            for name in names:
                if name not in landing and not _needed(self._connection, name):
                    yield Problem("body", f"no message needs the body {name}", partial(_unneeded, name=name), (name,))

    # -- what must be readable at the next start

    def _debts(self) -> Iterator[Problem]:
        last = 0
        while page := self._page("debts", "still_open = 1", last):
            for row in page:
                self.checked["debts"] += 1
                debt = debt_of(row)
                if (wrong := _unreadable(debt)) is not None:
                    text = f"debt {debt.number} of {debt.entry} ({handle(debt.key)}): {wrong}"
                    yield Problem("row", text, partial(_close_debt, number=debt.number))
            last = int(page[-1][0])

    def _inbox(self) -> Iterator[Problem]:
        for table, where in (("inbox_items", "cleared = 0"), ("inbox_arrivals", "1")):
            last = 0
            while page := self._page(table, where, last):
                for number, entry, *_, octets, _address, _port, _arrived in (row[:11] for row in page):
                    self.checked["waiting"] += 1
                    try:
                        decode_notification(octets)
                    except MalformedPDU as error:
                        text = f"item {number} that waits for {entry} cannot be read: {error}"
                        yield Problem("row", text, partial(_drop, table=table, number=int(number)))
                last = int(page[-1][0])

    def _page(self, table: str, where: str, after: int) -> list[tuple[Any, ...]]:
        self._go_on()
        sql = f"SELECT * FROM {table} WHERE {where} AND number > ? ORDER BY number LIMIT {PAGE}"  # noqa: S608
        return keys.rows(self._connection, sql, (after,))


class _Row(NamedTuple):
    number: int
    account: str
    file: str
    size: int
    sha256: bytes
    freed: int | None
    archived: int
    removed: int
    live: int


class _Body(NamedTuple):
    """Where it is: a file, or (path None) beside its row."""

    row: _Row
    path: Path | None

    def size(self, c: apsw.Connection) -> int | None:
        """None: it is not there."""
        if self.path is not None:
            return self.path.stat().st_size if self.path.is_file() else None
        found = keys.rows(c, "SELECT length(octets) FROM small_body WHERE message = ?", (self.row.number,))
        return int(found[0][0]) if found else None

    def sha256(self, c: apsw.Connection) -> bytes:
        if self.path is None:
            return hashlib.sha256(body_rows.read(c, self.row.number, [(0, self.row.size)])).digest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


def spool(folder: Path) -> Sequence[Path]:
    """Uploads that a crash left: only while no daemon runs."""
    place = folder / SPOOL
    return [path for path in place.iterdir() if path.is_file()] if place.is_dir() else []


def _unreadable(debt: Debt) -> str | None:
    try:
        notification = decode_notification(debt.octets)
        if debt.kind == "resend":
            Owed.unpack(debt, notification)
        else:
            json.loads(debt.state)
    except MalformedPDU as error:
        return f"its notification cannot be read: {error}"
    except (ValueError, TypeError):
        return "its state cannot be read"
    return None


def _needed(c: apsw.Connection, name: str) -> bool:
    return bool(keys.rows(c, "SELECT 1 FROM message WHERE file = ? AND file <> '' AND removed = 0", (name,)))


# -- jobs of the writer


def _reindex(c: apsw.Connection) -> bool:
    c.execute("REINDEX")
    return [text for (text,) in c.execute("PRAGMA integrity_check(1)")] == ["ok"]


def _drop(c: apsw.Connection, table: str, number: int) -> bool:
    if table == "message_key":
        c.execute("DELETE FROM listed WHERE key = ?", (number,))
    c.execute(f"DELETE FROM {table} WHERE rowid = ?", (number,))  # noqa: S608  # a table of ours
    return c.changes() > 0


def _close(c: apsw.Connection, body: _Body, now: int) -> bool:
    """Its keys end as if its sender had taken it back; its readers are told "no such message" at once."""
    number = body.row.number
    kept = keys.rows(c, "SELECT 1 FROM message WHERE number=? AND freed IS NULL", (number,))
    if body.size(c) is not None or not kept:
        return False
    keys.end(c, keys.of_message(c, number), Event.cancel, now)
    c.execute("UPDATE message SET freed=coalesce(freed, ?), removed=1 WHERE number=?", (now, number))
    return True


def _free(c: apsw.Connection, number: int, now: int) -> bool:
    """The next sweep removes its body."""
    sql = f"""UPDATE message SET freed=? WHERE number=? AND freed IS NULL AND archived=0 AND NOT EXISTS
        (SELECT 1 FROM message_key k WHERE k.message = message.number AND k.life = {int(Life.live)})"""  # noqa: S608
    c.execute(sql, (now, number))
    return c.changes() > 0


def _revive(c: apsw.Connection, body: _Body) -> bool:
    """The body is there: it is kept again. It is not: its keys end."""
    number = body.row.number
    if body.size(c) is not None:
        c.execute("UPDATE message SET freed=NULL, removed=0 WHERE number=?", (number,))
        return True
    return keys.end(c, keys.of_message(c, number), Event.cancel, body.row.freed or 0) > 0


def _unneeded(c: apsw.Connection, name: str) -> bool:
    return not _needed(c, name)


def _close_debt(c: apsw.Connection, number: int) -> bool:
    c.execute("UPDATE debts SET still_open = 0 WHERE number = ?", (number,))
    return c.changes() > 0
