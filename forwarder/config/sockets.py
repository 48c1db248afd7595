"""The path of a Unix socket, however deep its folder lies: unix(7) has room for 107 octets.

A longer one is reached by a descriptor of its folder, where the system has /proc.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM = 103
"""Octets that every system has room for (BSD: 103, Linux: 107)."""
DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def within_reach(path: Path) -> Iterator[str]:
    """A name for `path`, short enough to bind and connect to, good inside the block. Raises OSError."""
    if len(os.fsencode(path)) <= ROOM:
        yield str(path)
        return
    if not DESCRIPTORS.is_dir():
        raise OSError(errno.ENAMETOOLONG, f"a socket's path may have {ROOM} octets", str(path))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(DESCRIPTORS / str(folder) / path.name)
    finally:
        os.close(folder)
