"""What `trace` prints: the lines that the daemon wrote, of one handle or one address, as a table or as JSON.

The daemon writes behind, at most 0.2 s; a handle is the first 12 hex digits of SHA-256(key), in any case.
"""

from __future__ import annotations

import json as as_json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from forwarder.cli.errors import No, Wrong, one_line
from forwarder.cli.folder import an_address, open_folder
from forwarder.cli.output import print_json, print_table
from forwarder.storage.trace import search
from forwarder.wire.outcome import TEXTS, code_class

COLUMNS = ("time", "handle", "store", "for", "peer", "result", "said")
SAID = ("taken", "told where to go", "later", "refused")
LOOK_AGAIN = 0.3
LOOKED_AT = 200_000
"""Lines at most that a search brings before it is narrowed."""
_HANDLE = re.compile(r"[0-9a-f]{12}\Z")


class Wanted(NamedTuple):
    """The verb's words: one of them."""

    handle: str | None
    to: str | None


class Step(NamedTuple):
    """A line of the trace. peer: who notified us, or "-> TARGET"; code: of protocol 5.0."""

    at: float
    handle: str
    store: str
    recipient: str
    peer: str
    code: int
    note: str


def print_story(wanted: Wanted, config: str | None, most: int, *, follow: bool, json: bool) -> int:
    """The exit code. Raises Wrong, No, ConfigErrors."""
    folder = open_folder(config).settings.state / "trace"
    column, needle = _needle(wanted)
    steps = _found(folder, column, needle, most)
    if not steps and not follow:
        raise No(f"forwarder: nothing is known of {wanted.handle or wanted.to}: it never came, or [trace] keep is over")
    _print(steps, json=json)
    while follow:
        time.sleep(LOOK_AGAIN)
        new = [step for step in _found(folder, column, needle, most) if step not in steps]
        _print(new, json=json, lines=True)
        steps = [*steps, *new][-most:]
    return 0


def _needle(wanted: Wanted) -> tuple[int, str]:
    """Which column is to be what."""
    if (wanted.handle is None) == (wanted.to is None):
        raise Wrong("forwarder trace: expected a HANDLE, or --to ADDRESS")
    if wanted.to is not None:
        mailbox = an_address(wanted.to).folded
        return Step._fields.index("recipient"), f"{mailbox.localpart}@{mailbox.domain}"
    handle = (wanted.handle or "").lower()
    if not _HANDLE.match(handle):
        raise Wrong(f"forwarder trace: {wanted.handle!r}: a handle is 12 hex digits, as logs show it")
    return Step._fields.index("handle"), handle


def _found(folder: Path, column: int, needle: str, most: int) -> Sequence[Step]:
    """The last of them, in time order. Local parts stand there as written, so all lines of a domain are looked at."""
    octets = f"@{needle.rpartition('@')[2]}\t" if "@" in needle else f"\t{needle}\t"
    steps = map(_step, search(folder, octets.encode(), LOOKED_AT))
    return [step for step in steps if step is not None and str(step[column]).lower() == needle][-most:]


def _step(line: str) -> Step | None:
    """None: a line that is none of these, as the trace's own remarks are."""
    parts = line.split("\t")
    try:
        at, handle, store, recipient, peer, code, note = parts
        return Step(float(at), handle, store, recipient, peer, int(code), note)
    except ValueError:
        return None


def _print(steps: Sequence[Step], *, json: bool, lines: bool = False) -> None:
    rows = [_row(step) for step in steps]
    if json and not lines:
        print_json([step._asdict() for step in steps])
    elif json:
        for step in steps:
            print(as_json.dumps(step._asdict()), flush=True)
    elif lines:
        for row in rows:
            print(one_line("  ".join(row.values())), flush=True)
    elif rows:
        print_table(COLUMNS, rows)


def _row(step: Step) -> dict[str, str]:
    at = datetime.fromtimestamp(step.at, UTC)
    result = f"{step.code} {TEXTS.get(step.code) or SAID[min(code_class(step.code), 3)]}"
    moment = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return dict(
        zip(COLUMNS, (moment, step.handle, step.store, step.recipient, step.peer, result, step.note), strict=True)
    )
