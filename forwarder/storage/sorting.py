"""The inbox's rows: what has arrived, what waits, and how the one becomes the other (protocol 5.1; speed 9).

* `inbox_arrivals` has no index: accepting appends. `inbox_items` is what readers see, one row for each
  (store, key, recipient), and stays after it was cleared, for repeats, until it dies.
* An item's number is its place in its readers' order. It is given when the item comes into sight: sorted in, shown
  again, or no longer hidden. So numbers only grow and a reader who has seen up to N has seen all there is up to N.
* `inbox_readers` says up to which number an account has taken an entry's items by RetrieveAndClear.

Everything here runs in the writer's thread, within a commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apsw

from forwarder.ports import Arrival
from forwarder.storage.caps import Origin
from forwarder.storage.database import Migration

LIFETIME = 35 * 86_400
"""Seconds that an item without `expires` lives after its last sight (5.1)."""

SCHEMA = (
    Migration(
        "inbox-1",
        """
        CREATE TABLE inbox_arrivals (
            number INTEGER PRIMARY KEY, entry TEXT NOT NULL, localpart TEXT NOT NULL, domain TEXT NOT NULL,
            store TEXT NOT NULL, key BLOB NOT NULL, sender TEXT NOT NULL, octets BLOB NOT NULL,
            address TEXT NOT NULL, port INTEGER NOT NULL, arrived INTEGER NOT NULL, dies INTEGER NOT NULL,
            hidden_until INTEGER NOT NULL);
        CREATE TABLE inbox_items (
            number INTEGER PRIMARY KEY, entry TEXT NOT NULL, localpart TEXT NOT NULL, domain TEXT NOT NULL,
            store TEXT NOT NULL, key BLOB NOT NULL, sender TEXT NOT NULL, octets BLOB NOT NULL,
            address TEXT NOT NULL, port INTEGER NOT NULL, arrived INTEGER NOT NULL, dies INTEGER NOT NULL,
            hidden_until INTEGER NOT NULL, seen INTEGER NOT NULL, cleared INTEGER NOT NULL);
        CREATE INDEX inbox_items_key ON inbox_items (key);
        CREATE INDEX inbox_items_entry ON inbox_items (entry, cleared, number);
        CREATE INDEX inbox_items_dies ON inbox_items (dies);
        CREATE INDEX inbox_items_hidden ON inbox_items (hidden_until) WHERE hidden_until > 0;
        CREATE TABLE inbox_readers (
            entry TEXT NOT NULL, account TEXT NOT NULL, number INTEGER NOT NULL, peeks INTEGER NOT NULL,
            PRIMARY KEY (entry, account));
        """,
    ),
)

_FIND = (
    "SELECT number, entry, sender, address, dies, hidden_until, cleared FROM inbox_items"
    " WHERE key = ? AND store = ? AND localpart = ? AND domain = ?"
)
_SHOW_AGAIN = (
    "UPDATE inbox_items SET number = ?, entry = ?, sender = ?, octets = ?, address = ?, port = ?, arrived = ?,"
    " dies = ?, hidden_until = ?, seen = ?, cleared = 0 WHERE number = ?"
)
_TOUCH = "UPDATE inbox_items SET seen = ?, dies = ? WHERE number = ?"


class Sorted(NamedTuple):
    """What a slice of arrivals became. repeats: counted when they came, but no items of their own."""

    arrivals: int
    repeats: list[Origin]
    dealt_with: list[Origin]


class _Row(NamedTuple):
    number: int
    entry: str
    localpart: str
    domain: str
    store: str
    key: bytes
    sender: str
    octets: bytes
    address: str
    port: int
    arrived: int
    dies: int
    hidden_until: int

    @property
    def origin(self) -> Origin:
        return Origin.by(self.entry, self.store, self.sender, self.address)


class _Item(NamedTuple):
    number: int
    entry: str
    sender: str
    address: str
    dies: int
    hidden_until: int
    cleared: int


def dies(arrival: Arrival) -> int:
    """Unix seconds from which on nobody sees it."""
    return arrival.expires if arrival.expires is not None else arrival.at + LIFETIME


def append(connection: apsw.Connection, arrivals: list[Arrival]) -> None:
    """The accepting path: rows without an index."""
    connection.executemany(
        "INSERT INTO inbox_arrivals (entry, localpart, domain, store, key, sender, octets, address, port, arrived,"
        " dies, hidden_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                a.entry,
                *a.recipient.folded,
                a.store,
                a.key,
                a.sender,
                a.octets,
                *a.submitter,
                a.at,
                dies(a),
                a.hidden_until,
            )
            for a in arrivals
        ),
    )


def touch(connection: apsw.Connection, arrival: Arrival) -> bool:
    """Whether this is a repeat of a waiting item: then it was seen, and no cap stands in its way."""
    found = _find(connection, (arrival.key, arrival.store, *arrival.recipient.folded))
    if found is None or found.entry != arrival.entry or found.dies <= arrival.at or not _waits(connection, found):
        return False
    connection.execute(_TOUCH, (arrival.at, dies(arrival), found.number))
    return True


def sort_in(connection: apsw.Connection, numbers: Iterator[int], most: int) -> Sorted:
    """Moves the oldest `most` arrivals among the items."""
    rows = [_Row(*row) for row in connection.execute("SELECT * FROM inbox_arrivals ORDER BY number LIMIT ?", (most,))]
    if not rows:
        return Sorted(0, [], [])
    done = Sorted(len(rows), [], [])
    fresh: dict[tuple[Any, ...], tuple[_Row, int]] = {}
    for row in rows:
        identity = (row.key, row.store, row.localpart, row.domain)
        if identity in fresh:
            first, _ = fresh[identity]
            fresh[identity] = first._replace(dies=row.dies), row.arrived
            done.repeats.append(row.origin)
        elif found := _find(connection, identity):
            _repeat(connection, numbers, row, found, done)
        else:
            fresh[identity] = row, row.arrived
    connection.executemany(
        "INSERT INTO inbox_items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        ((next(numbers), *row[1:], seen) for row, seen in fresh.values()),
    )
    connection.execute("DELETE FROM inbox_arrivals WHERE number <= ?", (rows[-1].number,))
    return done


def reveal(connection: apsw.Connection, numbers: Iterator[int], now: int) -> int | None:
    """Shows what was hidden until now; when the next is due."""
    due = "SELECT number FROM inbox_items WHERE hidden_until > 0 AND hidden_until <= ? ORDER BY hidden_until, number"
    for (number,) in connection.execute(due, (now,)).fetchall():
        connection.execute(
            "UPDATE inbox_items SET number = ?, hidden_until = 0 WHERE number = ?", (next(numbers), number)
        )
    following = connection.execute("SELECT min(hidden_until) FROM inbox_items WHERE hidden_until > 0").get
    return None if following is None else int(following)


def taken_to(connection: apsw.Connection, entry: str) -> int:
    """Up to which number somebody has taken the entry's items by RetrieveAndClear."""
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM inbox_readers WHERE entry = ?", (entry,)).get)


def _repeat(connection: apsw.Connection, numbers: Iterator[int], row: _Row, found: _Item, done: Sorted) -> None:
    waits = _waits(connection, found)
    if waits and found.entry == row.entry and found.dies > row.arrived:
        connection.execute(_TOUCH, (row.arrived, row.dies, found.number))
        done.repeats.append(row.origin)
        return
    if waits:  # it has died, or its address has come under another entry: it waits anew
        done.dealt_with.append(Origin.by(found.entry, row.store, found.sender, found.address))
    shown = (next(numbers), row.entry, row.sender, row.octets, row.address, row.port, row.arrived, row.dies)
    connection.execute(_SHOW_AGAIN, (*shown, row.hidden_until, row.arrived, found.number))


def _find(connection: apsw.Connection, identity: tuple[Any, ...]) -> _Item | None:
    row = connection.execute(_FIND, identity).fetchone()
    return None if row is None else _Item(*row)


def _waits(connection: apsw.Connection, item: _Item) -> bool:
    """Nobody has dealt with it: it was neither cleared nor taken."""
    return not item.cleared and (item.hidden_until > 0 or item.number > taken_to(connection, item.entry))
