"""Bodies of messages: small ones beside their rows, others as files, `bodies/xx/NAME`, first `bodies/spool/NAME`.

* A small one (SMALL octets at most) is committed with its message's row: it lands with it and leaves with it.
* A file: name and octets -> fsync of the file, of the folder and, until somebody has, of the folder above it, all
  before the row's COMMIT: a row always has its body, after a loss of power too.
* Files that come in one moment, or while all LANDINGS are taken, land in groups: one thread call, one folder for each.
* A file without a row is an orphan of a crash; `sweep` removes it, never one that is just landing.
* Nothing is held in memory but one slice and the header section; files are 0600, folders 0700.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import trio

from forwarder.model import Mailbox
from forwarder.store.views import HeaderScan, Range, Views

SPOOL = "spool"
SMALL = 32 << 10
"""Octets that wait in memory for more before they go to a file; what ends before lies in the database."""
LANDINGS, TOGETHER = 8, 4
"""Groups that land at once, and bodies of one: a thread waits for the disk once for each file, and file systems take
what several threads wait for in one go."""


class Upload:
    """A body on its way in. One task at a time; `abort` may come at any moment between its calls."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = self._spooled = name
        self._folder = folder
        self.size = 0
        self._file: BinaryIO | None = None
        self._gathered = bytearray()
        self._hash = hashlib.sha256()
        self._scan = HeaderScan()
        self._ended = False

    @property
    def path(self) -> Path:
        """Of what is not small, until it has landed under its lasting name."""
        return self._folder / self._spooled

    @property
    def small(self) -> bool:
        """Whether it goes beside its row: all of it is in memory."""
        return self._file is None

    @property
    def octets(self) -> bytes:
        """Of a small one."""
        assert self.small
        return bytes(self._gathered)

    @property
    def file(self) -> str:
        """As its message's row names it."""
        return "" if self.small else self.name

    @property
    def sha256(self) -> bytes:
        return self._hash.digest()

    @property
    def views(self) -> Views:
        return self._scan.views()

    @property
    def claimed(self) -> Mailbox | None:
        return self.views.claimed

    async def write(self, data: bytes) -> None:
        """Raises OSError where the disk is full or fails."""
        if self.small and self.size + len(data) <= SMALL:
            self._count(data)
            self._gathered += data
        else:
            await trio.to_thread.run_sync(self._write, data)

    async def abort(self) -> None:
        if not self.small and not self._ended:
            self._ended = True
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._remove)

    async def head(self, octets: int) -> bytes:
        """What it begins with. Raises OSError."""
        if self.small:
            return bytes(self._gathered[:octets])
        return await trio.to_thread.run_sync(self._head, octets)

    def _head(self, octets: int) -> bytes:
        with self.path.open("rb") as file:
            return file.read(octets)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(handle, "wb", buffering=0)
            gathered, self._gathered = self._gathered, bytearray()
            self._put(gathered)
        self._count(data)
        self._put(data)

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self._scan.feed(data)
        self.size += len(data)

    def _put(self, octets: bytes | bytearray) -> None:
        assert self._file is not None
        view = memoryview(octets)
        while view:
            view = view[self._file.write(view) :]

    def place(self, target: Path) -> None:
        """Under its lasting name, in a folder that is there (in a worker thread)."""
        self.path.rename(target)

    def sync(self) -> None:
        """Its octets are on the disk (in a worker thread)."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        self._ended = True

    def _remove(self) -> None:
        assert self._file is not None
        self._file.close()
        self.path.unlink(missing_ok=True)


class _Group:
    """Bodies that land together. error: of them all, once they are `done`."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.error: Exception | None = None
        self.done = trio.Event()


class Bodies:
    """The folder of bodies. Its methods run in worker threads where they touch the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool = folder / SPOOL
        self._landing: set[str] = set()
        self._gathering = _Group()
        self._landings = trio.Semaphore(LANDINGS)
        self._lasting: set[str] = set()
        """Folders of bodies whose own names are known to be on the disk."""

    def open(self) -> None:
        """Makes the folders and empties the spool: what was under way ended with its session."""
        for folder in (self._folder, self._folder / SPOOL):
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync(folder.parent)
        for left in (self._folder / SPOOL).iterdir():
            left.unlink()

    def upload(self) -> Upload:
        return Upload(self._spool, secrets.token_hex(16))

    def path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    async def land(self, upload: Upload) -> None:
        """Durable and named; safe from `sweep` until `landed`. Not to be cancelled. Raises OSError.

        A small one has nowhere to land but beside its row."""
        if upload.small:
            return
        if len(self._gathering.uploads) == TOGETHER:
            self._gathering = _Group()
        group = self._gathering
        group.uploads.append(upload)
        if upload is group.uploads[0]:
            async with self._landings:
                await self._land_together(group)
        await group.done.wait()
        if group.error is not None:
            raise group.error

    async def _land_together(self, group: _Group) -> None:
        if group is self._gathering:
            self._gathering = _Group()
        folder = self.path(group.uploads[0].name).parent
        for upload in group.uploads:
            upload.name = folder.name + upload.name[2:]
            self._landing.add(upload.name)
        try:
            await trio.to_thread.run_sync(self._land, folder, group.uploads)
        except Exception as error:  # the disk: nothing of the group is acknowledged
            group.error = error
        group.done.set()

    def landed(self, name: str) -> None:
        """Its row is committed, or never will be."""
        self._landing.discard(name)

    async def read(self, name: str, pieces: Sequence[Range]) -> bytes:
        """Octets of a body. Raises FileNotFoundError."""
        return await trio.to_thread.run_sync(self._read, name, pieces)

    async def remove(self, names: Collection[str]) -> None:
        await trio.to_thread.run_sync(self._remove, names)

    def landing(self) -> frozenset[str]:
        """Names that may have a file and no row yet."""
        return frozenset(self._landing)

    def folders(self) -> list[Path]:
        """Those that hold bodies."""
        if not self._folder.is_dir():
            return []
        return [folder for folder in self._folder.iterdir() if folder.name != SPOOL and folder.is_dir()]

    def names(self) -> Iterator[str]:
        """Every body on the disk (in a worker thread)."""
        for folder in self.folders():
            yield from (entry.name for entry in os.scandir(folder))

    def _land(self, folder: Path, uploads: Sequence[Upload]) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        for upload in uploads:
            upload.place(folder / upload.name)
        for upload in uploads:
            upload.sync()
        _sync(folder)
        if folder.name not in self._lasting:  # that it is there already says nothing of the disk
            _sync(self._folder)
            self._lasting.add(folder.name)

    def _read(self, name: str, pieces: Sequence[Range]) -> bytes:
        file = os.open(self.path(name), os.O_RDONLY)
        try:
            if len(pieces) == 1:
                return os.pread(file, pieces[0][1], pieces[0][0])
            return b"".join(os.pread(file, length, start) for start, length in pieces)
        finally:
            os.close(file)

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            self.path(name).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
