"""The story of each notification: `trace/YYYY-MM-DD.log`, append-only, without an index (architecture 5, speed 8).

* A line costs its writer an append to a list; it is on its way to the file with FLUSH_LINES, or after FLUSH_SECONDS.
* Nothing waits for the trace and nothing is answered by it: a crash may lose its last moment, a full disk more. What is
  dropped is counted, and the trace says so itself once it can be written again.
* A segment is a day (UTC). Lines are whole: a torn end, left by a crash or a full disk, is closed off before the next.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import structlog
import trio

from forwarder.ports import Clock

FLUSH_LINES = 500
FLUSH_SECONDS = 0.2
BUFFER_LINES = 50_000
"""Lines kept while the disk is slow; over it they are dropped and counted."""

log = structlog.get_logger("forwarder.storage")


class Trace:
    """ports.Trace over segments in `folder` (made, 0700). keep: how long a segment stays after its day."""

    def __init__(self, folder: Path, keep: timedelta, clock: Clock) -> None:
        self._folder = folder
        self._keep = keep
        self._clock = clock
        self._lines: list[str] = []
        self._some, self._many = trio.Event(), trio.Event()
        self._pruned: date | None = None
        self._closing = False
        self._unsaid = 0
        self.dropped = 0

    def write(self, *lines: str) -> None:
        held = len(self._lines)
        kept = lines[: BUFFER_LINES - held]
        self._lines += kept
        self.dropped += len(lines) - len(kept)
        self._unsaid += len(lines) - len(kept)
        if not held:
            self._some.set()
        if held < FLUSH_LINES <= held + len(kept):
            self._many.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The writer. Ends after `close`; cancelled, it still writes what waits."""
        task_status.started()
        try:
            while not self._closing:
                await self._some.wait()
                with trio.move_on_after(FLUSH_SECONDS):
                    await self._many.wait()
                await self._flush()
        finally:
            with trio.CancelScope(shield=True):
                await self._flush()

    def close(self) -> None:
        """Lets `run` write what waits and end."""
        self._closing = True
        self._some.set()
        self._many.set()

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not self._closing:
            self._some, self._many = trio.Event(), trio.Event()
        if not lines and not self._unsaid:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            lines.append(f"{now:%Y-%m-%dT%H:%M:%SZ} trace dropped={unsaid}")
        try:
            await trio.to_thread.run_sync(self._append, lines, now.date())
        except OSError as error:
            self.dropped += len(lines) - bool(unsaid)
            self._unsaid += unsaid + len(lines) - bool(unsaid)
            log.error("trace not written", error=str(error), dropped=self.dropped)

    def _append(self, lines: list[str], today: date) -> None:
        text = "\n".join(lines)
        if text.count("\n") >= len(lines) or "\r" in text:  # a line is one line, whoever chose its words
            text = "\n".join(line.replace("\n", "\\n").replace("\r", "\\r") for line in lines)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._pruned != today:
            self._pruned = today
            prune(self._folder, today - self._keep)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / f"{today:%Y-%m-%d}.log", flags, 0o600)
        try:
            _write_all(descriptor, _closing_off(descriptor) + text.encode("utf-8", "backslashreplace") + b"\n")
        finally:
            os.close(descriptor)


def prune(folder: Path, before: date) -> None:
    """Removes the segments of days before then."""
    for segment in segments(folder):
        if date.fromisoformat(segment.stem) < before:
            segment.unlink(missing_ok=True)


def segments(folder: Path) -> list[Path]:
    """The segments there are, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*.log") if _is_day(path.stem))


def search(folder: Path, needle: bytes, limit: int) -> Iterator[str]:
    """The last `limit` whole lines that hold `needle`, in time order. Reads backwards, newest segment first; blocks."""
    if not needle or b"\n" in needle:
        raise ValueError("a search needs some octets of one line")
    found: list[str] = []
    for segment in reversed(segments(folder)):
        for line in _backwards(segment, needle):
            found.append(line.decode("utf-8", "replace"))
            if len(found) == limit:
                return reversed(found)
    return reversed(found)


def _backwards(segment: Path, needle: bytes) -> Iterator[bytes]:
    with segment.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            end = octets.rfind(b"\n") + 1  # a line without its end is not whole yet
            while (place := octets.rfind(needle, 0, end)) >= 0:
                start = octets.rfind(b"\n", 0, place) + 1
                yield octets[start : octets.find(b"\n", place)]
                end = start


def _closing_off(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return b"" if not size or os.pread(descriptor, 1, size - 1) == b"\n" else b"\n"


def _write_all(descriptor: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("2026-01-31")
