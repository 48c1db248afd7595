"""Lists as rows: public ones by name; private ones for (entry, reader), by capability or by address (protocol 5.5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import apsw

from forwarder.storage.keys import Fresh, mint, rows
from forwarder.store.lists import MOST_KEYS, SCAN_KEYS, Page, capability, page
from forwarder.store.machine import Life


def publish(c: apsw.Connection, message: int, names: Sequence[str], now: int, listed: int) -> bytes | None:
    """The one key of a message on all its public lists, under the second `listed`."""
    if not names:
        return None
    number, key = mint(c, Fresh(message, public=True), now)
    for name in dict.fromkeys(names):
        c.execute("INSERT INTO list (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (name,))
        ((place,),) = c.execute("SELECT number FROM list WHERE name=?", (name,)).fetchall()
        c.execute("INSERT INTO listed (list, at, key) VALUES (?,?,?)", (place, listed, number))
    return key


def list_privately(c: apsw.Connection, entry: str, reader: str, address: str, number: int, listed: int) -> None:
    capability_of(c, entry, reader)
    c.execute(
        """INSERT INTO listed (list, at, key, address)
        SELECT number, ?, ?, ? FROM list WHERE entry=? AND reader=?""",
        (listed, number, address, entry, reader),
    )


def capability_of(c: apsw.Connection, entry: str, reader: str, *, fresh: bool = False) -> str:
    """Made when first asked for; fresh: a new one in its place."""
    found = c.execute("SELECT number, name FROM list WHERE entry=? AND reader=?", (entry, reader)).fetchall()
    if found and not fresh:
        return str(found[0][1])
    name = capability()
    if found:
        c.execute("UPDATE list SET name=? WHERE number=?", (name, found[0][0]))
    else:
        c.execute("INSERT INTO list (name, entry, reader) VALUES (?,?,?)", (name, entry, reader))
    return name


def owner(c: apsw.Connection, name: str) -> tuple[str, str] | None:
    """(entry, reader) of the private list that has this capability."""
    found = c.execute("SELECT entry, reader FROM list WHERE name=? AND entry IS NOT NULL", (name,)).fetchall()
    return (str(found[0][0]), str(found[0][1])) if found else None


def entries(c: apsw.Connection, account: str, name: str) -> Sequence[str]:
    """Entries whose private list for this account goes by `name`: the entry's own, or an address with items in it."""
    sql = """SELECT entry FROM list WHERE reader=?1 AND
        (entry=?2 OR EXISTS (SELECT 1 FROM listed WHERE list=list.number AND address=?2))"""
    return [entry for (entry,) in rows(c, sql, (account, name))]


def scan(
    c: apsw.Connection, name: str, account: str | None, begin: int, present: int, entries: Collection[str]
) -> Page | None:
    """A public list, a capability, or an account's own items by the address or the entry they came for.

    entries: those whose readers are, by their files, allowed this list now. None: no such list.
    """
    found = rows(c, "SELECT number, entry FROM list WHERE name=?", (name,))
    if found:
        place, entry = found[0]
        if entry is not None and entry not in entries:
            return None
        return _page(c, "l.list=?", (place,), begin, present)
    if account is None:
        return None
    allowed = tuple(entries)
    marks = ",".join("?" * len(allowed))
    theirs = f"SELECT number FROM list WHERE reader=? AND entry IN ({marks})"  # noqa: S608
    named = "(SELECT entry FROM list WHERE number=l.list)"
    where = f"l.list IN ({theirs}) AND ? IN (l.address, {named})"
    return _page(c, where, (account, *allowed, name), begin, present)


def _page(c: apsw.Connection, where: str, values: tuple[int | str, ...], begin: int, present: int) -> Page:
    sql = f"""SELECT l.at, k.identifier FROM listed l JOIN message_key k ON k.number = l.key
        JOIN message m ON m.number = k.message
        WHERE {where} AND l.at >= ? AND l.at <= ? AND k.life = {int(Life.live)} AND m.expires > ?
        ORDER BY l.at, l.key LIMIT ?"""  # noqa: S608  # names of ours

    def upto(last: int, limit: int) -> list[tuple[int, bytes]]:
        return rows(c, sql, (*values, begin, last, present, limit))

    found = upto(present, SCAN_KEYS + 1)
    if len(found) > SCAN_KEYS and found[0][0] == found[-1][0]:
        found = upto(found[0][0], MOST_KEYS)
    return page(found, begin, present)
