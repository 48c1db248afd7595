"""`backup`: everything a node is, of one moment, in a folder that appears complete or not at all (docs/operations.md).

* Small bodies are in the database. Files of others are linked (copied where that cannot be) before it is copied, and
  those of its rows once more after: no row of the copy is without its body. Bodies never change, so a link is as good
  as a copy, on the same disk.
* SHA256SUMS is what `sha256sum -c` reads; manifest.json names the sum of that file, so a backup is whole or refused.
* A body that is lost or has another size is named, and no reason to have no backup at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from forwarder.config.disk import locked, sync_folder
from forwarder.config.settings import Settings
from forwarder.daemon.state import DATABASE
from forwarder.storage.bodies import Bodies
from forwarder.storage.snapshot import Body, bodies_of, copy_database

VERSION = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
SLICE = 1 << 20


class CannotBackUp(Exception):  # an answer: not so, or not there
    """Nothing was left behind."""


def back_up(
    settings: Settings, bodies: Bodies, into: Path, now: int, go_on: Callable[[], None] = lambda: None
) -> Mapping[str, Any]:
    """Blocking; what was taken. `into` is there afterwards, or nothing is. go_on: asked often, raises to end it.

    Raises CannotBackUp, OSError, apsw.Error, config.disk.Locked.
    """
    if os.path.lexists(into):
        raise CannotBackUp(f"{into} is there already")
    if any(into.resolve().is_relative_to(place.resolve()) for place in (settings.folder, settings.state)):
        raise CannotBackUp(f"{into} is inside of what is to be backed up")
    if not into.parent.is_dir():
        raise CannotBackUp(f"{into.parent} is no folder")
    draft = into.parent / f".{into.name}.{secrets.token_hex(4)}"
    draft.mkdir(mode=0o700)
    try:
        taken = _take(settings, bodies, draft, now, go_on)
        for folder, _, _ in os.walk(draft, topdown=False):
            sync_folder(Path(folder))
        if os.path.lexists(into):
            raise CannotBackUp(f"{into} is there already")
        draft.rename(into)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(into.parent)
    return taken


def _take(settings: Settings, bodies: Bodies, draft: Path, now: int, go_on: Callable[[], None]) -> Mapping[str, Any]:
    state = draft / "state"
    (state / "bodies").mkdir(mode=0o700, parents=True)
    _link_all(bodies, state / "bodies", go_on)
    copy_database(settings.state / DATABASE, state / DATABASE)
    with (draft / SUMS).open("x", encoding="utf-8") as sums:
        counts = _bodies(bodies, state, sums, go_on)
        _others(settings, draft, sums)
        _note(sums, draft, state / DATABASE)
        _flush(sums)
    manifest = {"version": VERSION, "node": settings.node.name, "made": now, **counts, "sums": sum_of(draft / SUMS)}
    with (draft / MANIFEST).open("x", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        _flush(file)
    return manifest


# -- bodies


def _link_all(bodies: Bodies, into: Path, go_on: Callable[[], None]) -> None:
    for folder in bodies.folders():
        for entry in os.scandir(folder):
            go_on()
            if entry.is_file(follow_symlinks=False):
                _link(Path(entry.path), into / folder.name / entry.name)


def _link(source: Path, target: Path) -> bool:
    """False: it has left the disk."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    except OSError:  # another file system, or one without links
        return _copied(source, target)
    return True


def _copied(source: Path, target: Path) -> bool:
    try:
        copy_file(source, target)
    except FileNotFoundError:
        return False
    return True


def _bodies(bodies: Bodies, state: Path, sums: TextIO, go_on: Callable[[], None]) -> dict[str, Any]:
    """Those that rows need, each in the sums; the rest of what was linked goes."""
    messages, octets = 0, 0
    damaged: list[str] = []
    needed: set[str] = set()
    for body in bodies_of(state / DATABASE):
        go_on()
        needed.add(body.file)
        if _taken(body, bodies, state / "bodies", sums):
            messages += 1
            octets += body.size
        elif body.kept:
            damaged.append(body.file or f"of message {body.message}")
    for entry in _files(state / "bodies"):
        if entry.name not in needed:
            entry.unlink()
    return {"messages": messages, "octets": octets, "damaged": sorted(damaged)}


def _taken(body: Body, bodies: Bodies, into: Path, sums: TextIO) -> bool:
    """Whether it is there as its row has it. A small one came with the database."""
    if not body.file:
        return body.inside == body.size
    name = f"{body.file[:2]}/{body.file}"
    if not _link(bodies.path(body.file), into / name) or (into / name).stat().st_size != body.size:
        return False
    sums.write(f"{body.sha256.hex()}  state/bodies/{name}\n")
    return True


# -- the rest


def _others(settings: Settings, draft: Path, sums: TextIO) -> None:
    state = settings.state
    for source in [state / "secret", *sorted(_files(state / "trace"))]:
        if source.is_file():
            _put(source, draft, f"state/{source.relative_to(state)}", sums)
    with locked(settings.folder):
        for source in sorted(config_files(settings.folder, state)):
            _put(source, draft, f"config/{source.relative_to(settings.folder)}", sums)


def _put(source: Path, draft: Path, name: str, sums: TextIO) -> None:
    if not name.isprintable():
        raise CannotBackUp(f"{name!r} is no name for a file of a configuration")
    target = draft / name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_file(source, target)
    _note(sums, draft, target)


def config_files(folder: Path, state: Path) -> Iterator[Path]:
    """Every file of a configuration but the state's; drafts and hidden names are nobody's. Links are followed once."""
    seen = {os.path.realpath(state)}
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        inner = {name: os.path.realpath(here / name) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, real in inner.items() if real not in seen]
        seen.update(inner.values())
        yield from (here / name for name in files if not name.startswith(".") and (here / name).is_file())


def _files(folder: Path) -> Iterator[Path]:
    for place, _, files in os.walk(folder):
        yield from (Path(place) / name for name in files)


def copy_file(source: Path, target: Path) -> None:
    """Octets, mode and, for root, owner; on the disk."""
    with source.open("rb") as read, target.open("xb") as write:
        status = os.fstat(read.fileno())
        os.fchmod(write.fileno(), stat.S_IMODE(status.st_mode))
        if os.geteuid() == 0:
            os.fchown(write.fileno(), status.st_uid, status.st_gid)
        shutil.copyfileobj(read, write, SLICE)
        write.flush()
        os.fsync(write.fileno())


def _note(sums: TextIO, draft: Path, file: Path) -> None:
    sums.write(f"{sum_of(file)}  {file.relative_to(draft)}\n")


def sum_of(file: Path) -> str:
    """As SHA256SUMS has it."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _flush(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())
