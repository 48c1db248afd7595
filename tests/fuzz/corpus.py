"""Inputs worth keeping: `corpus/TARGET/`, a few small ones that together reach what is reached; `found/` what broke."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .target import Once, Target

HERE = Path(__file__).parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
FILES, OCTETS = 7, 2048
"""Of one target: files kept, and octets of each at most."""
LOOKED_AT = 300
"""Inputs whose reach is measured, of all lengths."""

Reach = frozenset[tuple[str, int, int]]


def kept(target: Target) -> list[bytes]:
    """The good inputs, and those that were worth keeping."""
    files = sorted((CORPUS / target.name).glob("*")) if (CORPUS / target.name).is_dir() else []
    return [*target.seeds, *(file.read_bytes() for file in files)]


def store_finding(target: Target, octets: bytes) -> Path:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{target.name}-{hashlib.sha256(octets).hexdigest()[:12]}"
    path.write_bytes(octets)
    return path


def minimised(once: Once, seeds: Iterable[bytes], inputs: Iterable[bytes]) -> list[bytes]:
    """Of the inputs the few that reach most beyond the seeds, the short ones first among equals."""
    reached: set[tuple[str, int, int]] = set()
    for octets in seeds:
        reached |= _reach(once, octets)
    short = sorted({octets for octets in inputs if len(octets) <= OCTETS}, key=len)
    reaches = {octets: _reach(once, octets) for octets in short[:: 1 + len(short) // LOOKED_AT]}
    chosen: list[bytes] = []
    while reaches and len(chosen) < FILES:
        best = max(reaches, key=lambda octets: (len(reaches[octets] - reached), -len(octets)))
        if not reaches[best] - reached:
            break
        reached |= reaches.pop(best)
        chosen.append(best)
    return chosen


def rewrite(target: Target, inputs: Iterable[bytes]) -> int:
    """The target's folder holds these inputs and no others; how many."""
    folder = CORPUS / target.name
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    names = {hashlib.sha256(octets).hexdigest()[:12]: octets for octets in inputs}
    for name, octets in names.items():
        (folder / name).write_bytes(octets)
    return len(names)


def _reach(once: Once, octets: bytes) -> Reach:
    with _traced() as arcs:
        once(octets)
    return frozenset(arcs)


@contextmanager
def _traced() -> Iterator[set[tuple[str, int, int]]]:
    """The steps from line to line inside the forwarder's own files."""
    arcs: set[tuple[str, int, int]] = set()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if "/forwarder" not in file or "/tests/" in file:
            return None
        last = 0

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                arcs.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield arcs
    finally:
        sys.settrace(before)
