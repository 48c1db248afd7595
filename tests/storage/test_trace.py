"""The trace: written behind, bounded, one line a line, searched from its end."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from forwarder.storage import trace as room
from forwarder.storage.trace import Trace, search, segments

NOON = 1_799_971_200  # 2027-01-15T00:00:00Z
DAY = 86_400


class World:
    """A trace whose clock can be turned."""

    def __init__(self, folder: Path) -> None:
        self.now = NOON
        self.folder = folder / "trace"
        self.trace = Trace(self.folder, timedelta(days=2), lambda: float(self.now))

    async def write(self, *lines: str) -> None:
        """Written out, by a life of its own."""
        async with trio.open_nursery() as nursery:
            trace = Trace(self.folder, timedelta(days=2), lambda: float(self.now))
            await nursery.start(trace.run)
            for line in lines:
                trace.write(line)
            trace.close()

    def found(self, needle: bytes, limit: int = 100) -> list[str]:
        return list(search(self.folder, needle, limit))

    def days(self) -> list[str]:
        return [segment.name for segment in segments(self.folder)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_lines_go_to_the_segment_of_the_day_with_mode_0600(world: World) -> None:
    await world.write("first", "second")
    world.now += DAY
    await world.write("third")
    assert world.days() == ["2027-01-15.log", "2027-01-16.log"]
    assert (world.folder / "2027-01-15.log").read_bytes() == b"first\nsecond\n"
    assert (world.folder / "2027-01-15.log").stat().st_mode & 0o777 == 0o600
    assert world.folder.stat().st_mode & 0o777 == 0o700


async def test_a_full_buffer_is_written_at_once_and_a_short_one_after_200_ms(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, float]] = []
    event = trio.Event()

    def append(lines: list[str], today: object) -> None:
        written.append((len(lines), trio_time()))
        trio.from_thread.run_sync(event.set)

    def trio_time() -> float:
        return float(trio.from_thread.run_sync(trio.current_time))

    monkeypatch.setattr(world.trace, "_append", append)
    await nursery.start(world.trace.run)
    start = trio.current_time()
    for _ in range(500):
        world.trace.write("x")
    await event.wait()
    assert written[0][0] == 500 and written[0][1] - start < room.FLUSH_SECONDS
    event = trio.Event()
    start = trio.current_time()
    world.trace.write("x")
    await event.wait()
    assert written[1][0] == 1 and written[1][1] - start >= room.FLUSH_SECONDS
    world.trace.close()


async def test_a_line_that_brings_its_own_line_ends_stays_one_line(world: World) -> None:
    await world.write("from evil\n2027 forged line\r", "next")
    assert world.found(b"forged") == ["from evil\\n2027 forged line\\r"]
    assert len((world.folder / "2027-01-15.log").read_bytes().splitlines()) == 2


async def test_a_torn_end_is_closed_off_and_does_not_eat_the_next_line(world: World) -> None:
    await world.write("whole a")
    with (world.folder / "2027-01-15.log").open("ab") as file:
        file.write(b"torn a")
    assert world.found(b"a") == ["whole a"]
    await world.write("next a")
    assert world.found(b"a") == ["whole a", "torn a", "next a"]


async def test_segments_are_kept_as_long_as_asked(world: World) -> None:
    for _ in range(5):
        await world.write("x")
        world.now += DAY
    (world.folder / "notes.log").write_text("not a segment")
    assert world.days() == ["2027-01-17.log", "2027-01-18.log", "2027-01-19.log"]


async def test_a_search_gives_the_last_ones_in_time_order_over_segments(world: World) -> None:
    await world.write("1 key=aa", "2 key=bb key=bb", "3 key=aa")
    world.now += DAY
    await world.write("4 key=aa", "5 key=bb")
    assert world.found(b"key=aa") == ["1 key=aa", "3 key=aa", "4 key=aa"]
    assert world.found(b"key=aa", 2) == ["3 key=aa", "4 key=aa"]
    assert world.found(b"key=bb") == ["2 key=bb key=bb", "5 key=bb"]
    assert world.found(b"nobody") == []
    assert world.found(b"1") == ["1 key=aa"]
    (world.folder / "2027-01-16.log").write_bytes(b"")
    assert world.found(b"key=aa", 1) == ["3 key=aa"]
    with pytest.raises(ValueError, match="one line"):
        world.found(b"")


async def test_a_full_disk_stops_nobody_and_is_told_of_afterwards(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "FLUSH_SECONDS", 0)
    real = os.write
    tried = trio.Event()

    def full(descriptor: int, octets: Any) -> int:
        if len(octets) > 5:
            return real(descriptor, octets[:5])
        trio.from_thread.run_sync(tried.set)
        raise OSError(errno.ENOSPC, "No space left on device")

    await nursery.start(world.trace.run)
    with monkeypatch.context() as disk:
        disk.setattr("forwarder.storage.trace.os.write", full)
        world.trace.write("lost line")
        await tried.wait()
        while not world.trace.dropped:
            await trio.lowlevel.checkpoint()
    world.trace.write("good line")
    world.trace.close()
    while not world.found(b"dropped"):
        await trio.lowlevel.checkpoint()
    assert world.trace.dropped == 1
    assert world.found(b"line") == ["good line"]
    assert world.found(b"dropped") == ["2027-01-15T00:00:00Z trace dropped=1"]


async def test_the_buffer_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BUFFER_LINES", 3)
    for n in range(5):
        world.trace.write(f"line {n}")
    world.trace.close()
    await world.trace.run()
    assert world.trace.dropped == 2
    assert world.found(b"line") == ["line 0", "line 1", "line 2"]
    assert world.found(b"dropped=2") != []
