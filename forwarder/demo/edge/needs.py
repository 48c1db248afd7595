"""What must be on this machine, and how to get it. The machine's own Postfix may run or not: it is never spoken to."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from forwarder.cli.errors import Wrong

PROGRAMS = {
    "postfix": ("postfix", "sendmail", "postqueue"),
    "fetchmail": ("fetchmail",),
}
"""Debian's package to what is used of it."""

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Postfix's programs are, though root's path may not say so."""


def demand() -> None:
    """Raises Wrong, with a line for each thing that is missing."""
    if missing := list(_missing()):
        raise Wrong(*(f"forwarder demo --postfix: {line}" for line in missing))


def path() -> str:
    """PATH, with the folders where Postfix's programs are."""
    return f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"


def _missing() -> Iterator[str]:
    if os.geteuid():
        yield "only root can start a Postfix: run it with sudo, or in a container"
    for package, programs in PROGRAMS.items():
        lacking = [program for program in programs if shutil.which(program, path=path()) is None]
        if lacking:
            yield f"{', '.join(lacking)} not found: apt-get install {package}"
    if find_spec("srslib") is None:
        yield "srslib not found: pip install 'forwarder[smtp]'"
    if closed := _closed(Path(tempfile.gettempdir())):
        yield f"Postfix's own user may not pass {closed}, where our folder would lie: set TMPDIR, as to /tmp"


def _closed(folder: Path) -> Path | None:
    """The first folder on the way to this one that others may not pass."""
    way = (*reversed(folder.parents), folder)
    return next((each for each in way if not each.stat().st_mode & stat.S_IXOTH), None)
