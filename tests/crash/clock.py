"""The daemon's clock and its disk, in the harness's hand: a file that both map."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

FINE, FULL, BROKEN = 0, 1, 2
"""What the disk does: as it should; no space for another octet; no sync goes well."""
_FORM = struct.Struct("<dB")
_time = time.time


class Control:
    """Seconds the daemon's clock is ahead of ours, and what its disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(_FORM.pack(0.0, FINE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FORM.size)

    @property
    def turned(self) -> float:
        return float(_FORM.unpack(self._map)[0])

    @property
    def disk(self) -> int:
        return int(_FORM.unpack(self._map)[1])

    @property
    def now(self) -> float:
        return _time() + self.turned

    def turn(self, seconds: float) -> None:
        self._map[:] = _FORM.pack(self.turned + seconds, self.disk)

    def set_disk(self, does: int) -> None:
        self._map[:] = _FORM.pack(self.turned, does)

    def close(self) -> None:
        self._map.close()
