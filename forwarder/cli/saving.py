"""Saving a message to a file: whole and synced under its name, or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from forwarder.cli import personal
from forwarder.cli.errors import No, Wrong
from forwarder.cli.output import print_json, print_line
from forwarder.config.disk import sync_folder
from forwarder.model import parse_size
from forwarder.reader.desk import Desk
from forwarder.reader.notebook import Item
from forwarder.reader.view import view

STDOUT = "-"


def size(text: str) -> int:
    """Octets. Raises Wrong."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise Wrong(f"forwarder: --limit: {error}") from None


def check(file: str, force: bool) -> None:
    """Before anything is fetched: whether it can be put there. Raises Wrong."""
    path = Path(file)
    if file == STDOUT:
        return
    if not path.parent.is_dir():
        raise Wrong(f"forwarder: {file}: no such folder")
    if path.exists() and not path.is_file():
        raise Wrong(f"forwarder: {file}: is no regular file")
    if path.exists() and not force:
        raise Wrong(f"forwarder: {file}: exists already (--force overwrites it)")


async def save(desk: Desk, item: Item, file: str, attachment: str | None, limit: int) -> int:
    """Octets written. Raises Complaint, PeerError; then there is no new file."""
    folder = None if file == STDOUT else Path(file).parent
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".forwarder-", delete=False) as spool:
        try:
            with _progress(item) as write:
                octets = await personal.fetch(desk, item, lambda data: write(spool.write(data)), limit)
            if attachment is not None:
                octets = _keep_only(spool, item, attachment)
            spool.flush()
            _put(spool, file)
        finally:
            _drop(spool)
    return octets


def print_saved(saved: dict[str, Any], json: bool) -> int:
    if saved["file"] == STDOUT:
        return 0
    if json:
        print_json(saved)
    else:
        print_line(f"{saved['number']}: {saved['octets']} octets in {saved['file']}")
    return 0


@contextmanager
def _progress(item: Item) -> Iterator[Callable[[int], object]]:
    """Shown on a terminal only; given the number of octets that came."""
    if not sys.stderr.isatty():
        yield lambda octets: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=item.size)
        yield lambda octets: bar.advance(task, octets)


def _keep_only(spool: Any, item: Item, name: str) -> int:
    """The spooled message replaced by one of its attachments; its octets. Raises No."""
    spool.seek(0)
    parts = view(spool.read()).attachments
    found = next((part for part in parts if part.name == name), None)
    if found is None:
        there = ", ".join(part.name for part in parts) or "none"
        raise No(f"forwarder: {item.number}: no attachment {name!r}; there is {there}")
    spool.seek(0)
    spool.truncate()
    spool.write(found.content)
    return found.size


def _drop(spool: Any) -> None:
    Path(spool.name).unlink(missing_ok=True)


def _put(spool: Any, file: str) -> None:
    if file == STDOUT:
        spool.seek(0)
        _copy(spool, sys.stdout.buffer)
        return
    os.fsync(spool.fileno())
    os.replace(spool.name, file)
    sync_folder(Path(file).parent)


def _copy(source: Any, target: BinaryIO) -> None:
    while some := source.read(1 << 20):
        target.write(some)
    target.flush()
