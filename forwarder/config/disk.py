"""Writing configuration files: whole or not at all, under one lock, on the disk before it is said to be done."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750
LOCK_WAIT = 10.0


class Locked(Exception):
    """Somebody else is editing this configuration folder, for longer than we wait."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time in a configuration folder, verbs and programs alike. Raises Locked after 10 s."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_WAIT
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise Locked(f"{folder}: somebody else has been editing for {LOCK_WAIT:.0f} s")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def write_new(path: Path, text: str, mode: int = FILE_MODE) -> None:
    """A file that must not exist yet. Raises FileExistsError, OSError."""
    make_folder(path.parent)
    draft = _draft(path, text, mode, _heir(path.parent))
    try:
        os.link(draft, path)
    except PermissionError:  # a file system without links: under the lock, looking first is as good
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(draft, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    sync_folder(path.parent)


def replace_file(path: Path, text: str) -> None:
    """New text for a file that keeps its mode and owner; a link stays a link. Raises OSError."""
    real = Path(os.path.realpath(path))
    status = os.stat(real)
    draft = _draft(real, text, stat.S_IMODE(status.st_mode), status)
    try:
        os.replace(draft, real)
    except OSError:
        os.unlink(draft)
        raise
    sync_folder(real.parent)


def remove_file(path: Path) -> None:
    """Raises FileNotFoundError, OSError."""
    os.unlink(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """A folder and those above it, on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with suppress(FileExistsError):
            os.mkdir(folder, FOLDER_MODE)
            owner = _heir(folder.parent)
            if owner is not None:
                os.chown(folder, owner.st_uid, owner.st_gid)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in a folder survives a crash from here on."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _heir(folder: Path) -> os.stat_result | None:
    """Whom root makes new files for: the folder's owner, or the daemon could not read what root's verbs wrote."""
    return os.stat(folder) if os.geteuid() == 0 else None


def _draft(path: Path, text: str, mode: int, owner: os.stat_result | None = None) -> Path:
    """The text on the disk under a name that every reader ignores."""
    draft = path.parent / f".{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as opened:
            opened.write(text)
            opened.flush()
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(opened.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(opened.fileno(), mode)
            os.fsync(opened.fileno())
    except BaseException:
        os.unlink(draft)
        raise
    return draft


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
