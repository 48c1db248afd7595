"""A message on its way out, as SMTP carries it: small ones stay in memory, others lie in a file that ends with it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

import trio

from forwarder_smtp_bridge.headers import HEAD
from forwarder_smtp_bridge.octets import Letter, Stuffing

KEPT = 128 << 10
"""Octets in memory; loads that are out at once are bounded by the core. So many are read from a file at once, too."""


class Draft:
    """front: fields before the message, lines ending in CRLF. return_path: whether that field may stay at its head.

    Its methods raise OSError where the disk is full or fails. `close` is the last call, whatever went before.
    """

    def __init__(self, folder: Path, *, front: bytes = b"", return_path: bool = True) -> None:
        self._path = folder / secrets.token_hex(16)
        self._stuffing = Stuffing(front, return_path=return_path)
        self._head = bytearray()
        self._kept = bytearray()
        """What is not in the file: all, or the end."""
        self._file: BinaryIO | None = None
        self._filed = 0

    @property
    def head(self) -> bytes:
        """What was written first, HEAD octets at most, as it came."""
        return bytes(self._head)

    async def write(self, octets: bytes) -> None:
        self._head += octets[: HEAD - len(self._head)]
        self._kept += self._stuffing.feed(octets)
        if len(self._kept) > KEPT:
            await trio.to_thread.run_sync(self._spill)

    def _spill(self) -> None:
        if self._file is None:
            self._file = self._path.open("x+b", buffering=0)
        view = memoryview(bytes(self._kept))
        while view:
            written = self._file.write(view) or 0
            self._filed += written
            view = view[written:]
        self._kept.clear()

    def finish(self) -> Letter:
        """After the last write. What it gives is good until `close`."""
        self._kept += self._stuffing.finish()
        known = self._stuffing
        return Letter(known.size, known.eight_bit, known.changed, self._pieces)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        at = 0
        while self._file is not None and at < self._filed:
            piece = await trio.to_thread.run_sync(os.pread, self._file.fileno(), KEPT, at)
            if not piece:
                raise OSError(f"{self._path.name}: only {at} of {self._filed} octets are there")
            at += len(piece)
            yield piece
        if self._kept:
            yield bytes(self._kept)

    async def close(self) -> None:
        if self._file is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._remove)

    def _remove(self) -> None:
        assert self._file is not None
        self._file.close()
        self._path.unlink(missing_ok=True)
