"""A message on its way out: small ones stay in memory, others lie in a file that ends with it."""

from __future__ import annotations

import secrets
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import trio

from forwarder_smtp_bridge.headers import HEAD

KEPT = 128 << 10
"""Octets in memory; loads that are out at once are bounded by the core."""


class Draft:
    """Its methods raise OSError where the disk is full or fails. `close` is the last call, whatever went before."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(16)
        self._kept = bytearray()
        self._file: BinaryIO | None = None

    @property
    def head(self) -> bytes:
        """What it begins with, HEAD octets at most."""
        return bytes(self._kept[:HEAD])

    async def write(self, octets: bytes) -> None:
        if self._file is None and len(self._kept) + len(octets) <= KEPT:
            self._kept += octets
        else:
            await trio.to_thread.run_sync(self._write, octets)

    def _write(self, octets: bytes) -> None:
        if self._file is None:
            self._file = self._path.open("xb", buffering=0)
            octets = bytes(self._kept) + octets
            self._kept = bytearray(octets[:HEAD])
        view = memoryview(octets)
        while view:
            view = view[self._file.write(view) or 0 :]

    def open(self) -> BinaryIO:
        """From its first octet, once more for each try (in a worker thread)."""
        return BytesIO(self._kept) if self._file is None else self._path.open("rb")

    async def close(self) -> None:
        if self._file is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._remove)

    def _remove(self) -> None:
        assert self._file is not None
        self._file.close()
        self._path.unlink(missing_ok=True)
