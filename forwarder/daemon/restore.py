"""`restore`: a backup becomes a node again, where there is none (docs/operations.md).

* The whole backup is verified before anything is made. Then all is copied beside its place, synced, renamed into it.
* Never over a daemon that runs. What was in the place before is never deleted: with `force` it gets another name.
* Linked bodies are copied back: backup and node share nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from forwarder.config.disk import sync_folder
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import load_settings
from forwarder.daemon.backup import MANIFEST, SUMS, VERSION, copy_file, sum_of
from forwarder.daemon.state import lock

OURS = frozenset({"lock", "control.sock"})
"""What a state folder has in it that is no state."""


class NoBackup(Exception):  # wrong use
    """The folder is none."""


class CannotRestore(Exception):  # an answer: no
    """One line each: what is damaged, or in the way. Nothing was changed."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def restore(source: Path, config: Path, now: str, *, force: bool) -> Mapping[str, Any]:
    """Blocking; the manifest, and under `kept` what was moved aside. now: a word for the names of that.

    Raises NoBackup, CannotRestore, StateInUse, ConfigErrors of the backup's node file, OSError.
    """
    manifest = _manifest(source)
    if wrong := list(_wrong(source)):
        raise CannotRestore(*(f"the backup is damaged: {text}" for text in wrong[:20]))
    state = config / load_settings(source / "config").node.state
    with ExitStack() as held:
        for folder in {state, *_state_now(config)}:
            if folder.is_dir():
                held.callback(os.close, lock(folder))
        if not force and (there := _in_the_way(config, state)):
            raise CannotRestore(f"{there} is not empty: with --force it is kept under another name")
        return {**manifest, "kept": _put(source, config, state, now)}


# -- what is there


def _manifest(source: Path) -> Mapping[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text("utf-8"))
        version, sums = manifest["version"], manifest["sums"]
    except FileNotFoundError:
        raise NoBackup(f"{source} is no backup: it has no {MANIFEST}") from None
    except (ValueError, TypeError, KeyError):
        raise CannotRestore(f"the backup is damaged: its {MANIFEST} cannot be read") from None
    if version != VERSION:
        raise NoBackup(f"{source} is a backup of version {version}, which this program does not know")
    if sums != sum_of(source / SUMS):
        raise CannotRestore(f"the backup is damaged: {SUMS} is not what {MANIFEST} says")
    return manifest


def _entries(source: Path) -> Iterator[tuple[str, str]]:
    """(sum, name). Names are below config/ or state/, or the backup is none of ours."""
    with (source / SUMS).open(encoding="utf-8") as lines:
        for line in lines:
            digest, _, name = line.rstrip("\n").partition("  ")
            parts = PurePosixPath(name).parts
            if not parts or parts[0] not in ("config", "state") or ".." in parts or len(parts) < 2:
                raise CannotRestore(f"the backup is damaged: {name!r} is no name in it")
            yield digest, name


def _wrong(source: Path) -> Iterator[str]:
    for digest, name in _entries(source):
        try:
            if sum_of(source / name) != digest:
                yield f"{name} is not what was saved"
        except FileNotFoundError:
            yield f"{name} is missing"


def _state_now(config: Path) -> list[Path]:
    """Where a daemon of the configuration that is there would run."""
    try:
        return [load_settings(config).state]
    except (ConfigErrors, OSError):
        return []


def _in_the_way(config: Path, state: Path) -> Path | None:
    for folder in (config, state):
        if folder.is_dir() and any(name not in OURS for name in os.listdir(folder)):
            return folder
    return None


# -- what is made


def _put(source: Path, config: Path, state: Path, now: str) -> list[str]:
    """Beside its place first; then the state and the configuration take their places. What was moved aside."""
    drafts = {config: _beside(config)}
    if not state.is_relative_to(config):
        drafts[state] = _beside(state)
    new_state = drafts.get(state) or drafts[config] / state.relative_to(config)
    try:
        for draft in drafts.values():
            draft.mkdir(mode=0o750, parents=True)
        new_state.mkdir(mode=0o700, parents=True, exist_ok=True)
        new_state.chmod(0o700)
        for _, name in _entries(source):
            top, _, rest = name.partition("/")
            target = (new_state if top == "state" else drafts[config]) / rest
            _parents(target.parent, 0o700 if top == "state" else 0o750)
            copy_file(source / name, target)
        (new_state / "bodies").mkdir(mode=0o700, exist_ok=True)
        _finish(drafts, source)
        return [kept for place, draft in reversed(drafts.items()) if (kept := _swap(draft, place, now))]
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)


def _beside(place: Path) -> Path:
    return place.parent / f".{place.name}.{secrets.token_hex(4)}"


def _parents(folder: Path, mode: int) -> None:
    if not folder.is_dir():
        _parents(folder.parent, mode)
        folder.mkdir(mode=mode)


def _finish(drafts: Mapping[Path, Path], source: Path) -> None:
    """Folders on the disk, and root's are the backup's owner's."""
    owner = source.stat()
    for draft in drafts.values():
        for folder, _, _ in os.walk(draft, topdown=False):
            if os.geteuid() == 0:
                os.chown(folder, owner.st_uid, owner.st_gid)
            sync_folder(Path(folder))


def _swap(draft: Path, place: Path, now: str) -> str:
    """The draft in its place; the name of what was there, if that is kept."""
    kept = ""
    if place.is_dir() and os.listdir(place):
        kept = f"{place}.before-{now}"
        place.rename(kept)
    draft.rename(place)
    sync_folder(place.parent)
    return kept
