"""The server's certificates: chosen by SNI, read again when their files change, no restart (operator 4, `[[tls]]`).

On a new connection, at most once a second, the files are looked at. A pair that does not load leaves the old one in
force; that is logged once and told by `status` until it is mended.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from forwarder.plugin import Log
from forwarder.ports import Clock

LOOK_SECONDS = 1.0

_Stamp = tuple[tuple[int, int, int], ...]


class Pair(NamedTuple):
    """domains: who is asked for by SNI. load: reads the two files; raises ValueError that says what is wrong."""

    domains: tuple[str, ...]
    certificate: Path
    key: Path
    load: Callable[[], ssl.SSLContext]


class _Held:
    """A pair as it is in force."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.stamp = _stamp(pair)
        self.context = pair.load()
        self.wrong = ""


class Certificates:
    """The first pair is the default. Raises ValueError where a pair does not load at start."""

    def __init__(self, pairs: Sequence[Pair], log: Log, clock: Clock = time.monotonic) -> None:
        self._held = [_Held(pair) for pair in pairs]
        self._by_name = {domain: held for held in reversed(self._held) for domain in held.pair.domains}
        self._log = log
        self._clock = clock
        self._looked = clock()
        self._choose_by_name()

    def context(self) -> ssl.SSLContext:
        """For a new connection."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            self.look()
        return self._held[0].context

    def look(self) -> None:
        """Reads what has changed."""
        self._looked = self._clock()
        for held in self._held:
            stamp = _stamp(held.pair)
            if stamp != held.stamp:
                held.stamp = stamp
                self._again(held)
        self._choose_by_name()

    def _again(self, held: _Held) -> None:
        file = str(held.pair.certificate)
        try:
            held.context = held.pair.load()
        except ValueError as error:
            held.wrong = f"{error}; the last good certificate stays in force"
            self._log.info("certificate not read", file=file, error=held.wrong)
            return
        held.wrong = ""
        self._log.info("certificate read", file=file)

    def _choose_by_name(self) -> None:
        self._held[0].context.sni_callback = self._chosen

    def _chosen(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        held = self._by_name.get((name or "").lower())
        if held is not None:
            connection.context = held.context

    @property
    def broken(self) -> dict[str, str]:
        """What is wrong with files that changed, by certificate."""
        return {str(held.pair.certificate): held.wrong for held in self._held if held.wrong}


def _stamp(pair: Pair) -> _Stamp:
    return (_file_stamp(pair.certificate), _file_stamp(pair.key))


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)
