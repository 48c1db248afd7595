"""What came by other mail, as rows: whom a failure is reported to, and what makes a delivery the same again.

* A row for each recipient, written with its message's. `once` is known for six days, whatever became of the message.
* A failure becomes due in the very transaction in which it becomes final: a refusal, the lifetime's end unread.
* A null sender is told of nothing. Runs inside the caller's transaction.
* A copy that an address made of such a message has one row, with its first key: it has failed when all its keys have,
  and the report names the address, never who its members are.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import apsw

from forwarder.storage import keys
from forwarder.storage.keys import Held
from forwarder.store.machine import Life, Read, State, Told
from forwarder.wire.outcome import EXPIRED, REFUSED

REMEMBERED = 6 * 86400
KEPT = 30 * 86400
"""Seconds that a row stays, as long as its key's tombstone: a report may come late, and must find its sender."""
ROWS = 500
GIVE_UP = 7 * 86400
"""Seconds; as long as [retry] give_up has by default, and longer than MTAs wait."""


class Due(NamedTuple):
    """A failure to be reported. message, file, headers: its body and the octets of that one's header section."""

    key: int
    sender: str
    recipient: str
    code: int
    ended: int
    message: int
    file: str
    headers: int


def known(c: apsw.Connection, once: bytes, now: int) -> bool:
    """Whether this very delivery was taken before."""
    return bool(keys.rows(c, "SELECT 1 FROM returned WHERE once=? AND at>?", (once, now - REMEMBERED)))


def insert(c: apsw.Connection, key: int, once: bytes, sender: str, now: int, quiet_until: int) -> None:
    c.execute("DELETE FROM returned WHERE once=?", (once,))
    values = (key, once, sender, now, quiet_until, int(not sender))
    c.execute("INSERT INTO returned (key, once, sender, at, quiet_until, reported) VALUES (?,?,?,?,?,?)", values)


def inherit(c: apsw.Connection, key: int, sender: str, now: int) -> None:
    """The first key of a copy. No delivery can be the same again as what never came."""
    insert(c, key, secrets.token_bytes(16), sender, now, now)


def remove(c: apsw.Connection, key: int) -> None:
    c.execute("DELETE FROM returned WHERE key=?", (key,))


def sender_of(c: apsw.Connection, held: Held) -> str | None:
    """The envelope sender of a message that came by other mail; None: it came by none."""
    found = keys.rows(c, "SELECT sender FROM returned WHERE key=?", (together(c, held)[0].number,))
    return str(found[0][0]) if found else None


def together(c: apsw.Connection, held: Held) -> Sequence[Held]:
    """All keys that fail as one, the one with the row first: a handle with what is under it, or all of a copy."""
    return keys.of_message(c, held.message) if held.copied else keys.family(c, held.root or held.number)


def overdue(c: apsw.Connection, held: Held, now: int) -> bool:
    """Whether what came by other mail was taken by nobody in GIVE_UP: there its sender waits for a word."""
    if held.state.told is Told.notifying:
        return False
    sql = "SELECT 1 FROM returned WHERE key=? AND at<=?"
    return bool(keys.rows(c, sql, (together(c, held)[0].number, now - GIVE_UP)))


def ended(c: apsw.Connection, held: Held, now: int) -> None:
    """A key of these has just been refused: due, where nobody under it can be told any more."""
    family = together(c, held)
    root, last = family[0].number, [key.state for key in family if key.state.life is not Life.handed_on]
    final = (Told.nouser, Told.protocolerror)
    if all(s.life is Life.live and s.due is None and s.told in final for s in last):
        code = next((s.lastcode for s in reversed(last) if s.lastcode is not None), REFUSED)
        _fail(c, root, code, now)


def expire(c: apsw.Connection, message: int, now: int) -> None:
    """Before the keys of a message end with its lifetime: due for those that nobody has read."""
    held_all = keys.of_message(c, message)
    for held in held_all[:1] if held_all and held_all[0].copied else held_all:
        if held.root is None and (states := [k.state for k in together(c, held)]):
            alive = any(s.life is Life.live for s in states)
            if alive and max(s.read for s in states) < Read.readall and not _done(held, states):
                _fail(c, held.number, EXPIRED, now)


def _done(held: Held, states: Sequence[State]) -> bool:
    """Whether one of a copy's many has dealt with it."""
    return held.copied and any(state.life is Life.unpinned for state in states)


def _fail(c: apsw.Connection, root: int, code: int, now: int) -> None:
    c.execute("UPDATE returned SET ended=?, code=? WHERE key=? AND ended IS NULL AND reported=0", (now, code, root))


def due(c: apsw.Connection, now: int, limit: int) -> Sequence[Due]:
    sql = """SELECT r.key, r.sender, iif(m.origin IS NULL, k.recipient, m.account), r.code, r.ended,
        m.number, m.file, m.headers FROM returned r
        JOIN message_key k ON k.number = r.key JOIN message m ON m.number = k.message
        WHERE r.ended IS NOT NULL AND r.reported = 0 AND r.quiet_until <= ? ORDER BY r.quiet_until LIMIT ?"""
    return [Due._make(row) for row in keys.rows(c, sql, (now, limit))]


def reported(c: apsw.Connection, key: int) -> None:
    c.execute("UPDATE returned SET reported=1 WHERE key=?", (key,))


def forget(c: apsw.Connection, now: int) -> int:
    """What is past its time and owes no report any more; how many went. While a key is open its sender counts."""
    open_ = f"({int(Life.live)}, {int(Life.handed_on)})"
    sql = f"""DELETE FROM returned WHERE key IN (SELECT r.key FROM returned r LEFT JOIN message_key k
        ON k.number = r.key WHERE r.at <= ? AND (k.number IS NULL OR ((r.ended IS NULL OR r.reported = 1)
        AND k.life NOT IN {open_} AND NOT EXISTS (SELECT 1 FROM message m JOIN message_key o ON o.message = m.number
        WHERE m.number = k.message AND m.origin IS NOT NULL AND o.life IN {open_}))) LIMIT ?)"""  # noqa: S608
    c.execute(sql, (now - KEPT, ROWS))
    return c.changes()
