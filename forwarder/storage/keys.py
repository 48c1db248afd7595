"""Keys of our store as rows: found, minted, moved by the machine, ended. Runs inside the caller's transaction."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apsw

from forwarder.model import KEY_OCTETS, Mailbox
from forwarder.ports import Due
from forwarder.store.machine import Event, Life, Read, State, Told, step


class Held(NamedTuple):
    """A key with what it opens. copied: its message is an address's copy, and `account` the address.

    held: its source may still take it back.
    """

    number: int
    identifier: bytes
    message: int
    root: int | None
    bond: int | None
    recipient: Mailbox | None
    original: Mailbox | None
    reader: str | None
    public: bool
    depth: int
    state: State
    closed: int | None
    closer: str | None
    account: str
    file: str
    size: int
    sha256: bytes
    headers: int
    summary: bytes
    expires: int
    copied: bool
    held: bool


class Fresh(NamedTuple):
    """A key to be minted."""

    message: int
    recipient: Mailbox | None = None
    original: Mailbox | None = None
    rna: str | None = None
    token: bytes | None = None
    reader: str | None = None
    public: bool = False
    root: int | None = None
    bond: int | None = None
    depth: int = 0
    follow: bool = True


_COLUMNS = """k.number, k.identifier, k.message, k.root, k.bond, k.recipient, k.original, k.reader, k.public, k.depth,
    k.told, k.life, k.read, k.due, k.failures, k.lastcode, k.follow, k.closed, k.closer,
    m.account, m.file, m.size, m.sha256, m.headers, m.summary, m.expires, m.origin IS NOT NULL,
    coalesce(s.held, 0)"""
ASKED, KEPT = 1, 2
"""How a source's pin is held: asked before each reading, for its sender may still take it back; or our copy is served
whatever becomes of it (`after_copy`), and the pin is kept for the sake of others who hold the same key."""
_HELD = f"""SELECT {_COLUMNS} FROM message_key k JOIN message m ON m.number = k.message
    LEFT JOIN source s ON s.message = k.message"""  # noqa: S608  # names of ours


def rows(c: apsw.Connection, sql: str, values: Sequence[Any]) -> list[Any]:
    """What a query finds, its columns typed as the schema types them."""
    return c.execute(sql, tuple(values)).fetchall()


def text(mailbox: Mailbox | None) -> str | None:
    return f"{mailbox.localpart}@{mailbox.domain}" if mailbox else None


def mailbox(stored: str | None) -> Mailbox | None:
    if stored is None:
        return None
    local, _, domain = stored.rpartition("@")
    return Mailbox(local, domain)


def lookup(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:16]


def find(c: apsw.Connection, key: bytes) -> Held | None:
    """A key that was ever issued and is remembered, dead ones included."""
    for row in rows(c, f"{_HELD} WHERE k.lookup = ?", (lookup(key),)):
        found = _held(row)
        return found if hmac.compare_digest(found.identifier, key) else None
    return None


def family(c: apsw.Connection, root: int) -> list[Held]:
    """The handle itself first, then every key minted under it."""
    return _all(c, "k.number = ?1 OR k.root = ?1", root)


def by_number(c: apsw.Connection, number: int) -> Held | None:
    return next(iter(_all(c, "k.number = ?", number)), None)


def of_message(c: apsw.Connection, message: int) -> list[Held]:
    return _all(c, "k.message = ?", message)


def bound(c: apsw.Connection, bond: int) -> list[Held]:
    return _all(c, "k.bond = ?", bond)


def mint(c: apsw.Connection, fresh: Fresh, now: int) -> tuple[int, bytes]:
    """A new random key, live; due at once if somebody is to be notified. Its number and itself."""
    key = secrets.token_bytes(KEY_OCTETS)
    to = fresh.recipient
    c.execute(
        """INSERT INTO message_key (lookup, identifier, message, root, bond, recipient, folded, original, rna, agent,
        token, reader, public, depth, told, life, read, due, failures, lastcode, follow)
        VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,NULL,?)""",
        (
            *(lookup(key), key, fresh.message, fresh.root, fresh.bond),
            *(text(to), text(to.folded) if to else None, text(fresh.original)),
            *(fresh.rna, fresh.rna or (to.domain if to else None), fresh.token, fresh.reader, int(fresh.public)),
            *(fresh.depth, int(Told.unprocessed), int(Life.live), int(Read.unread), now if to else None),
            int(fresh.follow),
        ),
    )
    return c.last_insert_rowid(), key


def mint_due(c: apsw.Connection, fresh: Fresh, letter: bytes, now: int) -> Due:
    """As `mint`, for somebody who is to be notified at once: what the sending needs for that."""
    number, key = mint(c, fresh, now)
    assert fresh.recipient is not None
    return Due(number, key, fresh.recipient, letter, fresh.original, fresh.rna, fresh.token, fresh.follow, fresh.depth)


def save(c: apsw.Connection, number: int, state: State) -> None:
    c.execute(
        "UPDATE message_key SET told=?, life=?, read=?, due=?, failures=?, lastcode=?, follow=? WHERE number=?",
        (
            *(int(state.told), int(state.life), int(state.read), state.due),
            *(state.failures, state.lastcode, int(state.follow), number),
        ),
    )


def end(
    c: apsw.Connection,
    keys: Iterable[Held],
    event: Event,
    now: int,
    closer: str | None = None,
    winner: int | None = None,
) -> int:
    """Ends those that are live; what nobody has pinned any more is let go. How many ended."""
    ended: set[int] = set()
    count = 0
    for key in keys:
        if state := step(key.state, event, now):
            save(c, key.number, state)
            close(c, key.number, now, closer, winner)
            ended.add(key.message)
            count += 1
    for message in ended:
        if not _pinned(c, message):
            _let_go(c, message, event, now)
    return count


def unpin(c: apsw.Connection, held: Held, now: int, account: str | None) -> int:
    """This key first, then those that are linked to it, whose end is its doing. How many of the others ended."""
    linked = [key for key in bound(c, held.bond) if key.number != held.number] if held.bond else []
    end(c, [held], Event.unpin, now, account, held.number)
    return end(c, linked, Event.unpin, now, None, held.number)


def close(c: apsw.Connection, number: int, now: int, closer: str | None = None, winner: int | None = None) -> None:
    """When a key ended, by which account, and whose un-pin it was."""
    c.execute("UPDATE message_key SET closed=?, closer=?, winner=? WHERE number=?", (now, closer, winner, number))


def _pinned(c: apsw.Connection, message: int) -> bool:
    return bool(rows(c, "SELECT 1 FROM message_key WHERE message=? AND life=? LIMIT 1", (message, int(Life.live))))


def _let_go(c: apsw.Connection, message: int, event: Event, now: int) -> None:
    """The body is freed (un-pins alone do not free an archive); a source held for readers is owed its un-pin.

    So it is when the copy's time ends: nobody will read it here any more. A key that others hold too is theirs then,
    for nobody of ours has said that he is done with it. After a withdrawal the source knows of nothing to be told.
    """
    archive = " AND archived=0" if event is Event.unpin else ""
    c.execute(f"UPDATE message SET freed=? WHERE number=? AND freed IS NULL{archive}", (now, message))  # noqa: S608
    if event is Event.cancel:
        owed = "silence=0, due=NULL"
    elif event is Event.unpin:
        owed = "unpin=1, due=:now"
    else:
        owed = "unpin=NOT shared, due=CASE WHEN shared THEN NULL ELSE :now END"
    c.execute(
        f"UPDATE source SET held=0, {owed}, failures=0, since=:now WHERE message=:message AND held<>0",  # noqa: S608
        {"now": now, "message": message},
    )


def _all(c: apsw.Connection, where: str, value: int) -> list[Held]:
    return [_held(row) for row in rows(c, f"{_HELD} WHERE {where} ORDER BY k.number", (value,))]


def _held(row: Sequence[object]) -> Held:
    values: list[Any] = list(row)
    told, life, read, due, failures, lastcode, follow = values[10:17]
    state = State(Told(told), Life(life), Read(read), due, failures, lastcode, bool(follow))
    values[10:17] = [state]
    values[5:7] = map(mailbox, values[5:7])
    values[8], values[-2], values[-1] = bool(values[8]), bool(values[-2]), values[-1] == ASKED
    return Held._make(values)
