"""Small bodies, beside the rows of their messages. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import apsw

from forwarder.storage import keys
from forwarder.storage.bodies import Upload
from forwarder.store.views import Range


def insert(c: apsw.Connection, message: int, upload: Upload) -> None:
    c.execute("INSERT INTO small_body (message, octets) VALUES (?,?)", (message, upload.octets))


def read(c: apsw.Connection, message: int, pieces: Sequence[Range]) -> bytes:
    """Octets of it. Raises FileNotFoundError once it has left the disk, as a file would."""
    found = keys.rows(c, "SELECT octets FROM small_body WHERE message=?", (message,))
    if not found:
        raise FileNotFoundError(f"message {message} has no body any more")
    octets = bytes(found[0][0])
    return b"".join(octets[start : start + length] for start, length in pieces)


def remove(c: apsw.Connection, messages: Collection[int]) -> None:
    c.executemany("DELETE FROM small_body WHERE message=?", [(message,) for message in messages])
