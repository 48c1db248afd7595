"""What the address files say, asked from the other side: derived, and never truer than the files.

* A sweep reads all entries anew and drops what it did not meet; in between `saw` and `forgot` correct single ones.
* An answer names entries to be checked against their files before use. Until `complete` it may be short of some.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Sequence
from functools import partial

import apsw

from forwarder.model import Mailbox, Route
from forwarder.ports import Unread
from forwarder.storage.database import Database, Migration

_UNREAD = "(?1 = '' OR domain = ?1) AND (?2 IS NULL OR entry = ?2)"

SWEEP_ROUTES = 500
"""Entries written in one transaction."""

SCHEMA = (
    Migration(
        "catalogue-1",
        """
        CREATE TABLE catalogue_entries (
            entry TEXT PRIMARY KEY, matched TEXT NOT NULL, strategy TEXT NOT NULL, domain TEXT NOT NULL,
            sweep INTEGER NOT NULL);
        CREATE INDEX catalogue_entries_domain ON catalogue_entries (domain, entry);
        CREATE INDEX catalogue_entries_sweep ON catalogue_entries (sweep);
        CREATE TABLE catalogue_readers (
            account TEXT NOT NULL, entry TEXT NOT NULL REFERENCES catalogue_entries ON DELETE CASCADE,
            PRIMARY KEY (account, entry));
        CREATE INDEX catalogue_readers_entry ON catalogue_readers (entry);
        CREATE TABLE catalogue_targets (
            localpart TEXT NOT NULL, domain TEXT NOT NULL,
            entry TEXT NOT NULL REFERENCES catalogue_entries ON DELETE CASCADE, PRIMARY KEY (localpart, domain, entry));
        CREATE INDEX catalogue_targets_entry ON catalogue_targets (entry);
        """,
    ),
)


class Catalogue:
    """ports.Catalogue over the embedded database. `open` before use."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sweep = 0
        self.complete = False

    async def open(self) -> None:
        """Learns which sweep was the last."""
        sql = "SELECT coalesce(max(sweep), 0) FROM catalogue_entries"
        self._sweep = await self._database.read(lambda connection: int(connection.execute(sql).get))

    async def sweep(self, routes: AsyncIterable[Route | Unread]) -> int:
        """Takes in every entry there is, then drops what is there no more; how many were met. Sets `complete`.

        A sweep that does not reach its end drops nothing, and none drops what could not be read.
        """
        self._sweep += 1
        met = 0
        slice_: list[Route | Unread] = []
        async for route in routes:
            slice_.append(route)
            if len(slice_) == SWEEP_ROUTES:
                met += await self._write(slice_)
                slice_ = []
        met += await self._write(slice_)
        while await self._database.commit(partial(_drop_older, sweep=self._sweep), point="catalogue.sweep"):
            pass
        self.complete = True
        return met

    async def saw(self, route: Route) -> None:
        """This entry is now so."""
        await self._write([route])

    async def forgot(self, entry: str) -> None:
        """This entry is there no more."""
        sql = "DELETE FROM catalogue_entries WHERE entry = ?"
        await self._database.commit(lambda connection: _run(connection, sql, entry), point="catalogue.forgot")

    async def read_by(self, account: str) -> Sequence[str]:
        return await self._names("SELECT entry FROM catalogue_readers WHERE account = ? ORDER BY entry", account)

    async def pointing_at(self, mailbox: Mailbox) -> Sequence[str]:
        """Entries whose `to` names this mailbox."""
        sql = "SELECT entry FROM catalogue_targets WHERE localpart = ? AND domain = ? ORDER BY entry"
        return await self._names(sql, *mailbox.folded)

    async def list(self, domain: str, *, after: str = "", limit: int = 1_000) -> Sequence[str]:
        """Entries of a domain in order of their names, at most `limit` after one of them."""
        sql = "SELECT entry FROM catalogue_entries WHERE domain = ? AND entry > ? ORDER BY entry LIMIT ?"
        return await self._names(sql, domain, after, limit)

    async def count(self) -> int:
        """Entries it has."""
        sql = "SELECT count(*) FROM catalogue_entries"
        return await self._database.read(lambda connection: int(connection.execute(sql).get))

    async def differing(self, routes: Sequence[Route]) -> Sequence[str]:
        """Those of these entries that it does not have, or has otherwise."""

        def read(connection: apsw.Connection) -> Sequence[str]:
            return [route.entry for route in routes if _stored(connection, route.entry) != _as_stored(route)]

        return await self._database.read(read)

    async def left(self, unread: Collection[Unread]) -> int:
        """Entries it has of what could not be read."""
        sql = f"SELECT entry FROM catalogue_entries WHERE {_UNREAD}"  # noqa: S608

        def read(connection: apsw.Connection) -> int:
            return len({entry for one in unread for (entry,) in connection.execute(sql, _named(one))})

        return await self._database.read(read)

    async def _write(self, met: Sequence[Route | Unread]) -> int:
        routes = [one for one in met if isinstance(one, Route)]
        unread = [one for one in met if isinstance(one, Unread)]
        stays = f"UPDATE catalogue_entries SET sweep = ?3 WHERE {_UNREAD}"  # noqa: S608

        def job(connection: apsw.Connection) -> None:
            _put(connection, routes, self._sweep)
            for one in unread:
                _run(connection, stays, *_named(one), self._sweep)

        if met:
            await self._database.commit(job, point="catalogue.saw")
        return len(routes)

    async def _names(self, sql: str, *bindings: str | int) -> Sequence[str]:
        return await self._database.read(
            lambda connection: [str(entry) for (entry,) in connection.execute(sql, bindings)]
        )


def _named(unread: Unread) -> tuple[str, str | None]:
    """What _UNREAD is asked with."""
    mailbox = None if unread.localpart is None else Mailbox(unread.localpart, unread.domain)
    return unread.domain, None if mailbox is None else str(mailbox.folded)


def _put(connection: apsw.Connection, routes: Sequence[Route], sweep: int) -> None:
    names = [(route.entry,) for route in routes]
    connection.executemany("DELETE FROM catalogue_entries WHERE entry = ?", names)
    connection.executemany(
        "INSERT INTO catalogue_entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (entry) DO NOTHING",
        ((route.entry, route.matched, route.strategy, route.address.domain, sweep) for route in routes),
    )
    connection.executemany(
        "INSERT INTO catalogue_readers VALUES (?, ?) ON CONFLICT (account, entry) DO NOTHING",
        ((reader, route.entry) for route in routes for reader in route.readers),
    )
    connection.executemany(
        "INSERT INTO catalogue_targets VALUES (?, ?, ?) ON CONFLICT (localpart, domain, entry) DO NOTHING",
        ((*mailbox.folded, route.entry) for route in routes for mailbox in route.to),
    )


def _as_stored(route: Route) -> list[object]:
    readers, targets = set(route.readers), {tuple(mailbox.folded) for mailbox in route.to}
    return [route.matched, route.strategy, route.address.domain, readers, targets]


def _stored(connection: apsw.Connection, entry: str) -> list[object]:
    found = connection.execute("SELECT matched, strategy, domain FROM catalogue_entries WHERE entry = ?", (entry,))
    readers = connection.execute("SELECT account FROM catalogue_readers WHERE entry = ?", (entry,))
    targets = connection.execute("SELECT localpart, domain FROM catalogue_targets WHERE entry = ?", (entry,))
    return [*(found.fetchone() or ()), {account for (account,) in readers.fetchall()}, set(targets.fetchall())]


def _drop_older(connection: apsw.Connection, sweep: int) -> int:
    sql = (
        "DELETE FROM catalogue_entries WHERE entry IN"
        " (SELECT entry FROM catalogue_entries WHERE sweep < ? ORDER BY sweep LIMIT ?)"
    )
    return _run(connection, sql, sweep, SWEEP_ROUTES)


def _run(connection: apsw.Connection, sql: str, *bindings: str | int | None) -> int:
    connection.execute(sql, bindings)
    return connection.changes()
