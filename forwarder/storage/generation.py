"""Which log belongs to which file: SQLite itself would copy any log that lies beside a database into it.

* A life of the log, from one reset to the next, begins with a row in its first transaction: its own name, and the name
  that the file had by then. The file takes a new name each time all of the log was copied into it.
* So, before anything is written: the file by itself has a name; file and log together have one and the one before it.
  They belong together if the file's is one of the two. A log of another time, or of another database, is refused.
* A file that cannot be read by itself (its schema was being copied when the power went) is not judged here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import apsw

SQL = """
    CREATE TABLE generation (only INTEGER PRIMARY KEY CHECK (only = 1), life BLOB NOT NULL, after BLOB NOT NULL);
    INSERT INTO generation VALUES (1, x'', x'');
"""


class StrayLog(Exception):
    """The log is none of this database's; nothing was touched."""


def begin(connection: apsw.Connection) -> None:
    """A new name; only where the file holds all of the log, or nothing is in the log."""
    connection.execute("UPDATE generation SET after = life, life = randomblob(16)")


def check(path: Path) -> None:
    """Of a database that nobody has open. Raises StrayLog, apsw.Error."""
    log = Path(f"{path}-wal")
    if not log.exists() or not log.stat().st_size:
        return
    if not path.exists() or not path.stat().st_size:
        raise StrayLog(
            f"{path} is missing or empty, and its log {log.name} is there: put the database back, or move {log}"
        )
    alone = _alone(path)
    if alone is not None and alone not in _together(path):
        raise StrayLog(
            f"{log} is of another time, or of another database, than {path}: move it away, or put its own back"
        )


def _alone(path: Path) -> bytes | None:
    """The file's name, whatever lies beside it; None: it cannot be told."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"file:{quote(str(path))}?immutable=1", flags=flags)
        try:
            return _names(connection)[0]
        finally:
            connection.close()
    except apsw.Error:
        return None


def _together(path: Path) -> tuple[bytes, bytes]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(5_000)
        return _names(connection)
    finally:
        connection.close()


def _names(connection: apsw.Connection) -> tuple[bytes, bytes]:
    """Its own and the one before; both empty in a database of before there were names."""
    with suppress(apsw.SQLError):  # no such table
        for life, after in connection.execute("SELECT life, after FROM generation"):
            return bytes(life), bytes(after)
    return b"", b""
