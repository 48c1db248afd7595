"""The notebook, reader.db (0600): what waits for me, what I closed, what I sent, which peers are of 2004.

A number is given to an item once and never to another, so that a repeated `read done 2` can never close a stranger.
Every call here has been committed and synced when it returns. The one place outside `storage` with SQL: it is no part
of a node (docs/decisions/0001-reader-room.md). Times are Unix seconds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from forwarder.model import handle

NotebookError = apsw.Error
"""The notebook cannot be used: no database, damaged, full, or held by somebody for over 10 s."""

REMEMBER_CLOSED = 400 * 86400
REMEMBER_LEGACY = 86400

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY AUTOINCREMENT, store TEXT NOT NULL, key BLOB NOT NULL, octets BLOB, list TEXT,
    date INTEGER NOT NULL, silenced INTEGER NOT NULL DEFAULT 0, closing INTEGER NOT NULL DEFAULT 0,
    size INTEGER, sender TEXT, subject TEXT, signature TEXT, UNIQUE (store, key));
CREATE TABLE IF NOT EXISTS place (
    number INTEGER NOT NULL REFERENCES item ON DELETE CASCADE, agent TEXT NOT NULL, cursor BLOB NOT NULL,
    PRIMARY KEY (agent, cursor));
CREATE INDEX IF NOT EXISTS place_of ON place (number);
CREATE TABLE IF NOT EXISTS closed (mark BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scanned (list TEXT PRIMARY KEY, begintime INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS legacy (service TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
    handle TEXT PRIMARY KEY, key BLOB NOT NULL, store TEXT NOT NULL, recipient TEXT NOT NULL, at INTEGER NOT NULL,
    subject TEXT NOT NULL, size INTEGER NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
"""
_VERSION = 2
_ADDED_IN_2 = "ALTER TABLE item ADD COLUMN signature TEXT"


class Item(NamedTuple):
    """What waits. octets: its notification's TLV, or None for an item of a list (then `list` names it).

    sender and subject are the message's own and known once it was shown; closing: un-pinned, its agents not yet told.
    signature: "good", "wrong", or "expired" (good, but it came after its end: a replay); None: none, or not known yet.
    """

    number: int
    store: str
    key: bytes
    octets: bytes | None
    list: str | None
    date: int
    silenced: bool
    closing: bool
    size: int | None
    sender: str | None
    subject: str | None
    signature: str | None = None


class Arrived(NamedTuple):
    """What an agent handed over. cursor: what clears it there; None from an agent of 2004, which has forgotten it."""

    store: str
    key: bytes
    octets: bytes
    date: int
    size: int | None
    cursor: bytes | None


class Sent(NamedTuple):
    """A message of mine at a store, for one recipient."""

    handle: str
    key: bytes
    store: str
    recipient: str
    at: int
    subject: str
    size: int
    cancelled: bool


LARGEST = 2**63 - 1
"""More is no number to SQLite."""
_ITEM = "number, store, key, octets, list, date, silenced, closing, size, sender, subject, signature"


class Notebook:
    """Opened for one verb; two at a time wait for each other. Everything raises NotebookError, opening OSError too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(10_000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        with self._change():
            ((found,),) = self._rows("PRAGMA user_version")
            if found > _VERSION:
                raise NotebookError(f"was written by a newer forwarder (its version {found})")
            if found == 1:
                self._db.execute(_ADDED_IN_2)
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- what waits

    def save(self, agent: str, arrivals: Sequence[Arrived]) -> None:
        """All of them, or none. Known ones keep their number; what I closed comes back only to be cleared there."""
        with self._change():
            for arrived in arrivals:
                number = self._number(arrived)
                if number is not None and arrived.cursor is not None:
                    self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (number, agent, arrived.cursor))

    def _number(self, arrived: Arrived) -> int | None:
        known = self._rows("SELECT number FROM item WHERE store = ? AND key = ?", arrived.store, arrived.key)
        if known:
            return int(known[0][0])
        closed = self._closed(arrived.key)
        if closed and arrived.cursor is None:
            return None
        insert = "INSERT INTO item (store, key, octets, date, size, closing) VALUES (?, ?, ?, ?, ?, ?)"
        values = (arrived.store, arrived.key, arrived.octets, arrived.date, arrived.size, closed)
        self._db.execute(insert, values)
        return self._db.last_insert_rowid()

    def save_list(self, name: str, keys: Sequence[bytes], begintime: int, now: int) -> None:
        """Keys that a list showed, and where to go on. Those held or closed already are passed over."""
        insert = "INSERT OR IGNORE INTO item (store, key, list, date, silenced) VALUES (?, ?, ?, ?, 1)"
        with self._change():
            for key in keys:
                if not self._closed(key):
                    self._db.execute(insert, (f"list {name}", key, name, now))
            self._db.execute("INSERT OR REPLACE INTO scanned VALUES (?, ?)", (name, begintime))

    def begintime(self, name: str) -> int:
        row = self._rows("SELECT begintime FROM scanned WHERE list = ?", name)
        return int(row[0][0]) if row else 0

    def items(self, *, closing: bool = False) -> list[Item]:
        """What waits, by number; or with `closing` what is un-pinned and still to be cleared at its agents."""
        rows = self._rows(f"SELECT {_ITEM} FROM item WHERE closing = ? ORDER BY number", closing)  # noqa: S608
        return [_item(row) for row in rows]

    def item(self, number: int) -> Item | None:
        if number > LARGEST:
            return None
        rows = self._rows(f"SELECT {_ITEM} FROM item WHERE number = ? AND closing = 0", number)  # noqa: S608
        return next(map(_item, rows), None)

    def places(self, number: int) -> list[tuple[str, bytes]]:
        """(agent, cursor) of the agents that still show an item."""
        return [
            (agent, cursor) for agent, cursor in self._rows("SELECT agent, cursor FROM place WHERE number = ?", number)
        ]

    def missing(self, agent: str, shown: set[bytes]) -> list[Item]:
        """Items that this agent once showed and, its list having been read to its end, shows no more."""
        sql = f"SELECT cursor, {_ITEM} FROM item JOIN place USING (number) WHERE agent = ? AND closing = 0"  # noqa: S608
        rows = self._rows(sql, agent)
        still = {row[1] for row in rows if row[0] in shown}
        return list(dict.fromkeys(_item(row[1:]) for row in rows if row[1] not in still))

    def silenced(self, number: int) -> None:
        with self._change():
            self._db.execute("UPDATE item SET silenced = 1 WHERE number = ?", (number,))

    def seen(self, number: int, sender: str, subject: str, size: int) -> None:
        """What `read show` learned of the message."""
        with self._change():
            sql = "UPDATE item SET sender = ?, subject = ?, size = ? WHERE number = ?"
            self._db.execute(sql, (sender, subject, size, number))

    def judged(self, number: int, signature: str) -> None:
        """What its signature proved to be."""
        with self._change():
            self._db.execute("UPDATE item SET signature = ? WHERE number = ?", (signature, number))

    def closed(self, number: int, now: int) -> None:
        """Off the list for good: un-pinned, or dead at its store. It stays hidden until its agents are told."""
        with self._change():
            for (key,) in self._rows("SELECT key FROM item WHERE number = ?", number):
                self._db.execute("INSERT OR REPLACE INTO closed VALUES (?, ?)", (_mark(key), now))
            self._db.execute("UPDATE item SET closing = 1 WHERE number = ?", (number,))
            self._db.execute("DELETE FROM closed WHERE at < ?", (now - REMEMBER_CLOSED,))
            self._forget_told()

    def told(self, agent: str, cursors: Sequence[bytes]) -> None:
        """The agent has cleared these."""
        with self._change():
            values = [(agent, cursor) for cursor in cursors]
            self._db.executemany("DELETE FROM place WHERE agent = ? AND cursor = ?", values)
            self._forget_told()

    def _forget_told(self) -> None:
        self._db.execute("DELETE FROM item WHERE closing = 1 AND number NOT IN (SELECT number FROM place)")

    def _closed(self, key: bytes) -> bool:
        return bool(self._rows("SELECT 1 FROM closed WHERE mark = ?", _mark(key)))

    # -- peers of 2004

    def is_legacy(self, service: str, now: int) -> bool:
        sql = "SELECT 1 FROM legacy WHERE service = ? AND until > ?"
        return bool(self._rows(sql, service, now))

    def legacy(self, service: str, now: int) -> None:
        """Remembered for 24 h (protocol 5.0): this service does not know our arms."""
        with self._change():
            self._db.execute("INSERT OR REPLACE INTO legacy VALUES (?, ?)", (service, now + REMEMBER_LEGACY))

    # -- what I sent

    def sent(self, store: str, keys: Sequence[tuple[bytes, str]], at: int, subject: str, size: int) -> None:
        """(key, recipient) of each recipient that the store took."""
        with self._change():
            for key, recipient in keys:
                values = (handle(key), key, store, recipient, at, subject, size)
                self._db.execute("INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?, ?, ?, 0)", values)

    def sendings(self, beginning: str = "", limit: int = 1000) -> list[Sent]:
        """Newest first: those whose handle begins so."""
        sql = "SELECT * FROM sent WHERE substr(handle, 1, ?) = ? ORDER BY at DESC, handle LIMIT ?"
        rows = self._rows(sql, len(beginning), beginning, limit)
        return [(sent := Sent(*row))._replace(cancelled=bool(sent.cancelled)) for row in rows]

    def cancelled(self, handle: str) -> None:
        with self._change():
            self._db.execute("UPDATE sent SET cancelled = 1 WHERE handle = ?", (handle,))


def _mark(key: bytes) -> bytes:
    """A closed key is remembered by its hash: what is over needs no capability."""
    return hashlib.sha256(b"closed" + key).digest()


def _item(row: Sequence[Any]) -> Item:
    item = Item(*row)
    return item._replace(silenced=bool(item.silenced), closing=bool(item.closing))
