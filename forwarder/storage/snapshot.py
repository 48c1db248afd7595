"""The database of one moment as a file of its own, while others write (docs/operations.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from forwarder.storage import generation


class Body(NamedTuple):
    """What a row says of its body. kept: it must be there; else it may have left the disk already.

    file: '' where it is in the database; `inside`: how many octets are there then, None: it is not.
    """

    message: int
    file: str
    inside: int | None
    size: int
    sha256: bytes
    kept: bool


def copy_database(path: Path, into: Path) -> None:
    """All that is committed at this moment; synced. Blocking. Raises apsw.Error, OSError."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(30_000)
        connection.execute("VACUUM INTO ?", (str(into),))
    finally:
        connection.close()
    _rename(into)
    into.chmod(0o600)
    descriptor = os.open(into, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(copy: Path) -> None:
    """No log of the one that it was copied from fits it."""
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with suppress(apsw.SQLError):  # a database of before there were names
            generation.begin(connection)
            generation.begin(connection)
    finally:
        connection.close()


def bodies_of(copy: Path) -> Iterator[Body]:
    """Of every message that has, or may have, a body."""
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = """SELECT m.number, m.file, length(b.octets), m.size, m.sha256, m.freed IS NULL
            FROM message m LEFT JOIN small_body b ON b.message = m.number WHERE m.removed = 0"""
        found: Iterator[Any] = connection.execute(sql)
        for number, file, inside, size, sha256, kept in found:
            yield Body(number, file, inside, size, sha256, bool(kept))
    finally:
        connection.close()
