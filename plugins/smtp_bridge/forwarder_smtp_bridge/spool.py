"""A message on its way in, in a file of its own: counted, hashed, on the disk before `finish` returns.

Nothing of it counts before COMMIT: a file that a crash left behind is swept at the next start, for its sender was not
answered. The disk is touched in threads only, once for a message of PIECE octets or less.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import NamedTuple

import trio

PIECE = 32 * 1024  # octets gathered before they go to the disk
SUFFIX = ".incoming"


class Spooled(NamedTuple):
    """A whole message on the disk: the file, octets, SHA-256 of them. Who takes it moves or unlinks the file."""

    path: Path
    size: int
    digest: bytes


class Spool:
    """One message in `folder`, which exists. Every method raises OSError where the disk does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(16)}{SUFFIX}"
        self._gathered = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0
        self._file = -1

    async def write(self, octets: bytes) -> None:
        """The next octets."""
        self._gathered += octets
        if len(self._gathered) >= PIECE:
            await trio.to_thread.run_sync(self._put)

    async def finish(self) -> Spooled:
        """All octets are there; they are on the disk when this returns, the name in the folder is not."""
        await trio.to_thread.run_sync(self._finish)
        return Spooled(self.path, self._size, self._hash.digest())

    async def abort(self) -> None:
        """The file is gone, whatever was done to it before."""
        await trio.to_thread.run_sync(self._abort)

    def _put(self) -> None:
        if self._file < 0:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        octets = bytes(self._gathered)
        self._gathered.clear()
        self._hash.update(octets)
        self._size += len(octets)
        while octets:
            octets = octets[os.write(self._file, octets) :]

    def _finish(self) -> None:
        self._put()
        os.fsync(self._file)
        self._close()

    def _abort(self) -> None:
        self._gathered.clear()
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def sweep(folder: Path) -> int:
    """Removes what a crash left of messages on their way in; how many. Call it before the first session."""
    swept = 0
    for file in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
            swept += 1
    return swept
