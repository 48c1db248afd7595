"""Messages as rows: what comes in, what is due. Runs inside the caller's transaction."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple

import apsw

from forwarder.model import Mailbox
from forwarder.ports import Due
from forwarder.storage import body_rows
from forwarder.storage.bodies import Upload
from forwarder.storage.keys import mailbox, text
from forwarder.store.views import Range

DAY = 86400
AGAIN = 600
"""Seconds in which the same submission gets the first one's keys (protocol 2)."""


class OverQuota(Exception):
    """The account's messages would pass its quota."""


class OverLimit(Exception):
    """More notifications or recipients than the account may have in a day."""


class Envelope(NamedTuple):
    """A submission. per_day, recipients_per_day: 0 = no limit. fingerprint: of account, envelope and octets."""

    account: str
    recipients: tuple[Mailbox, ...]
    lists: tuple[str, ...]
    letter: bytes
    expires: int
    fingerprint: bytes
    quota: int
    per_day: int = 0
    recipients_per_day: int = 0


class Submitted(NamedTuple):
    """Keys in the order of the recipients, and the lists' one."""

    keys: tuple[bytes, ...]
    listkey: bytes | None = None


class Kept(NamedTuple):
    """Messages whose body is not freed, and their octets."""

    messages: int
    octets: int


def insert(
    c: apsw.Connection,
    upload: Upload,
    account: str,
    letter: bytes,
    now: int,
    expires: int,
    fingerprint: bytes | None = None,
    archived: bool = False,
    origin: str | None = None,
) -> int:
    """Its number. The body must have landed, unless it is small. origin: of a copy; `account` is then an address."""
    views = upload.views
    c.execute(
        """INSERT INTO message
        (account, file, size, sha256, headers, summary, letter, fingerprint, made, expires, archived, origin)
        VALUES (?,?,?,?,?,?,?,?,?,?,?,?)""",
        (
            *(account, upload.file, upload.size, upload.sha256, views.headers, pack_ranges(views.summary)),
            *(letter, fingerprint, now, expires, int(archived), origin),
        ),
    )
    message = c.last_insert_rowid()
    if upload.small:
        body_rows.insert(c, message, upload)
    return message


def first_keys(c: apsw.Connection, fingerprint: bytes, now: int) -> Submitted | None:
    """What the same submission was given a moment ago. A row from a time to come is of a clock that was wrong."""
    found = c.execute(
        "SELECT number FROM message WHERE fingerprint=? AND made>? AND made<?", (fingerprint, now - AGAIN, now + AGAIN)
    ).fetchall()
    if not found:
        return None
    rows = c.execute(
        "SELECT identifier, public FROM message_key WHERE message=? AND root IS NULL ORDER BY number", (found[0][0],)
    )
    minted = [(bytes(key), bool(public)) for key, public in rows]
    return Submitted(tuple(k for k, public in minted if not public), next((k for k, public in minted if public), None))


def taken(c: apsw.Connection, account: str) -> int:
    """Octets of the account's messages that are kept."""
    found = c.execute("SELECT octets FROM room WHERE account=?", (account,)).fetchone()
    return int(found[0]) if found else 0


def kept(c: apsw.Connection) -> Kept:
    return Kept(*next(c.execute("SELECT count(*), coalesce(sum(size), 0) FROM message WHERE freed IS NULL")))


def within(c: apsw.Connection, envelope: Envelope, now: int) -> bool:
    """Whether the account keeps its limits of the last 24 h with this envelope."""
    if not envelope.per_day and not envelope.recipients_per_day:
        return True
    sent = [
        folded
        for (folded,) in c.execute(
            """SELECT k.folded FROM message m JOIN message_key k ON k.message = m.number
            WHERE m.account=? AND m.origin IS NULL AND m.made>? AND k.root IS NULL AND k.folded IS NOT NULL""",
            (envelope.account, now - DAY),
        )
    ]
    people = {*sent, *(text(recipient.folded) for recipient in envelope.recipients)}
    many = envelope.per_day and len(sent) + len(envelope.recipients) > envelope.per_day
    return not many and not (envelope.recipients_per_day and len(people) > envelope.recipients_per_day)


def due(c: apsw.Connection, now: int, limit: int, without: Collection[str]) -> Sequence[Due]:
    """Keys to be notified by now whose agents' domains are not in `without`, the longest due first."""
    marks = ",".join("?" * len(without))
    rows = c.execute(
        f"""SELECT k.number, k.identifier, k.recipient, m.letter, k.original, k.rna, k.token, k.follow, k.depth
        FROM message_key k JOIN message m ON m.number = k.message
        WHERE k.due <= ? AND m.expires > ? AND k.agent NOT IN ({marks}) ORDER BY k.due LIMIT ?""",  # noqa: S608
        (now, now, *without, limit),
    )
    return [_due(*row) for row in rows]


def next_due(c: apsw.Connection, now: int) -> float | None:
    (at,) = next(c.execute("SELECT min(due) FROM message_key WHERE due > ?", (now,)))
    return None if at is None else float(at)


def _due(
    number: int,
    identifier: bytes,
    recipient: str,
    letter: bytes,
    original: str | None,
    rna: str | None,
    token: bytes | None,
    follow: int,
    depth: int,
) -> Due:
    to = mailbox(recipient)
    assert to is not None
    return Due(number, identifier, to, letter, mailbox(original), rna, token, bool(follow), depth)


def pack_ranges(ranges: Sequence[Range]) -> bytes:
    return b"".join(struct.pack(">II", *piece) for piece in ranges)


def unpack_ranges(packed: bytes) -> tuple[Range, ...]:
    return tuple(struct.iter_unpack(">II", packed))
