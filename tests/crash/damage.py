"""What a failing disk or a careless hand may leave in a state folder, and no acknowledged thing among it.

Each kind is one that `fsck --repair` mends (docs/operations.md): rows and files of nobody, a catalogue that forgot.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import apsw

from forwarder.store.machine import Life

Plant = Callable[[apsw.Connection, Path, float], None]
KEPT, CLOSED = int(Life.live), int(Life.cancelled)


def plant(state: Path, now: float, chance: random.Random) -> None:
    """Some of each kind, of most kinds. No daemon runs."""
    connection = apsw.Connection(str(state / "forwarder.db"))
    try:
        for kind in KINDS:
            for _ in range(chance.randrange(3) or int(kind is _orphan)):
                kind(connection, state, now)
    finally:
        connection.close()


def _orphan(c: apsw.Connection, state: Path, now: float) -> None:
    _body(state, secrets.token_hex(16))


def _upload(c: apsw.Connection, state: Path, now: float) -> None:
    (state / "bodies" / "spool" / secrets.token_hex(16)).write_bytes(b"half")


def _lost_body(c: apsw.Connection, state: Path, now: float) -> None:
    _key(c, _message(c, secrets.token_hex(16), now), KEPT)


def _lost_small_body(c: apsw.Connection, state: Path, now: float) -> None:
    _key(c, _message(c, "", now), KEPT)


def _kept_for_nobody(c: apsw.Connection, state: Path, now: float) -> None:
    name = secrets.token_hex(16)
    _body(state, name)
    _key(c, _message(c, name, now), CLOSED)


def _key_of_nothing(c: apsw.Connection, state: Path, now: float) -> None:
    _key(c, 1 << 40, KEPT)


def _debt(c: apsw.Connection, state: Path, now: float) -> None:
    row = ("resend", "role@pobox.test", "role", "pobox.test", "isp.test", secrets.token_bytes(16), b"no PDU", int(now))
    c.execute("INSERT INTO debts SELECT max(number) + 1, ?, ?, ?, ?, ?, ?, ?, ?, x'5b5d', 1 FROM debts", row).fetchall()


def _waiting(c: apsw.Connection, state: Path, now: float) -> None:
    place = ("sub@pobox.test", "sub", "pobox.test", "isp.test", secrets.token_bytes(16), b"no PDU", int(now))
    c.execute(
        """INSERT INTO inbox_arrivals SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, 'x', ?, '127.0.0.1', 1, ?,
        2000000000, 0 FROM (SELECT number FROM inbox_items UNION SELECT number FROM inbox_arrivals)""",
        place,
    ).fetchall()


def _forgetful(c: apsw.Connection, state: Path, now: float) -> None:
    c.execute("DELETE FROM catalogue_entries WHERE entry = (SELECT min(entry) FROM catalogue_entries)").fetchall()


KINDS: tuple[Plant, ...] = (
    _orphan,
    _upload,
    _lost_body,
    _lost_small_body,
    _kept_for_nobody,
    _key_of_nothing,
    _debt,
    _waiting,
    _forgetful,
)


def _body(state: Path, name: str) -> None:
    folder = state / "bodies" / name[:2]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / name).write_bytes(b"nobody's")


def _message(c: apsw.Connection, name: str, now: float) -> int:
    c.execute(
        "INSERT INTO message (account, file, size, sha256, headers, summary, letter, made, expires)"
        " VALUES ('nobody', ?, 8, x'00', 0, x'', x'', ?, ?)",
        (name, int(now), int(now) + 86400),
    ).fetchall()
    return int(c.last_insert_rowid())


def _key(c: apsw.Connection, message: int, life: int) -> None:
    c.execute(
        "INSERT INTO message_key (lookup, identifier, message, told, life, read, failures, follow)"
        " VALUES (randomblob(16), randomblob(16), ?, 0, ?, 0, 0, 1)",
        (message, life),
    ).fetchall()
