"""What the embedded inbox does behind its answers: sorting in, failing disks, deaths of the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from forwarder.model import Endpoint, Mailbox
from forwarder.ports import Arrival
from forwarder.storage import inbox as room
from forwarder.storage.caps import InboxLimits
from forwarder.storage.database import Database
from forwarder.storage.inbox import Inbox

ENTRY = "sales@pobox.example"
NOW = 1_800_000_000
FREE = InboxLimits(0, 0, 0, 0)


def arrival(key: int) -> Arrival:
    where = Mailbox("sales", "pobox.example")
    return Arrival(
        ENTRY, where, "s.example", key.to_bytes(16, "big"), b"n", Endpoint("192.0.2.1", 1), NOW, sender="toby"
    )


async def opened(path: Path, nursery: trio.Nursery, limits: InboxLimits = FREE) -> tuple[Database, Inbox]:
    database = Database(path, room.SCHEMA)
    await database.open()
    await nursery.start(database.run)
    inbox = Inbox(database, limits, lambda: float(NOW))
    await inbox.open()
    return database, inbox


async def deposit(inbox: Inbox, arrivals: Sequence[Arrival]) -> Any:
    told = trio.Event()
    answers: list[Any] = []

    def hear(answer: Any) -> None:
        answers.append(answer)
        told.set()

    inbox.deposit_soon(arrivals, hear)
    await told.wait()
    return answers[0]


def unsorted(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM inbox_arrivals").get)


async def test_arrivals_are_sorted_in_without_a_reader(tmp_path: Path, nursery: trio.Nursery) -> None:
    database, inbox = await opened(tmp_path / "state.db", nursery)
    await deposit(inbox, [arrival(n) for n in range(1_200)])
    assert await database.read(unsorted) == 1_200
    await nursery.start(inbox.run)
    with trio.fail_after(20):
        while await database.read(unsorted):
            await trio.lowlevel.checkpoint()
    items, more = await inbox.peek("bob", [ENTRY], None, 2_000, 1 << 20)
    assert len(items) == 1_200 and not more
    await database.close()


async def test_arrivals_of_an_earlier_life_are_sorted_in(tmp_path: Path, nursery: trio.Nursery) -> None:
    database, inbox = await opened(tmp_path / "state.db", nursery)
    await deposit(inbox, [arrival(n) for n in range(3)])
    await database.close()
    database, inbox = await opened(tmp_path / "state.db", nursery)
    await nursery.start(inbox.run)
    with trio.fail_after(20):
        while await database.read(unsorted):
            await trio.lowlevel.checkpoint()
    await database.close()


async def test_pollers_at_once_see_each_item_once(tmp_path: Path, nursery: trio.Nursery) -> None:
    database, inbox = await opened(tmp_path / "state.db", nursery)
    await deposit(inbox, [arrival(n) for n in range(100)])
    taken: list[bytes] = []

    async def take() -> None:
        more = True
        while more:
            items, more = await inbox.retrieve_and_clear("bob", [ENTRY], 7, 1 << 20)
            taken.extend(item.cursor for item in items)

    async with trio.open_nursery() as readers:
        for _ in range(8):
            readers.start_soon(take)
    assert len(taken) == len(set(taken)) == 100
    await database.close()


async def test_what_could_not_be_written_uses_no_room(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, inbox = await opened(tmp_path / "state.db", nursery, InboxLimits(waiting_per_sender=2))

    def full(*_: object) -> None:
        raise apsw.FullError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("forwarder.storage.sorting.append", full)
        for key in range(5):
            assert isinstance(await deposit(inbox, [arrival(key)]), apsw.FullError)
    assert [outcome.code for outcome in await deposit(inbox, [arrival(n) for n in range(3)])] == [0, 0, 33]
    await database.close()


async def test_a_disk_that_fails_shows_what_is_in_sight_and_never_says_that_this_is_all(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, inbox = await opened(tmp_path / "state.db", nursery)
    await deposit(inbox, [arrival(n) for n in range(3)])
    assert len((await inbox.peek("bob", [ENTRY], None, 10, 1 << 20))[0]) == 3

    def full(*_: object) -> None:
        raise apsw.FullError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr("forwarder.storage.sorting.sort_in", full)
        await deposit(inbox, [arrival(9)])
        items, more = await inbox.peek("bob", [ENTRY], None, 2, 1 << 20)
        assert (len(items), more) == (2, True)
        with pytest.raises(apsw.FullError):
            await inbox.peek("bob", [ENTRY], None, 10, 1 << 20)
    assert len((await inbox.peek("bob", [ENTRY], None, 10, 1 << 20))[0]) == 4
    await database.close()


CHILD = """
import sys, trio
from pathlib import Path
from forwarder.model import Endpoint, Mailbox
from forwarder.ports import Arrival
from forwarder.storage import inbox as room
from forwarder.storage.caps import InboxLimits
from forwarder.storage.database import Database

ENTRY, WHERE = "sales@pobox.example", Mailbox("sales", "pobox.example")

def arrival(key):
    return Arrival(ENTRY, WHERE, "s.example", key.to_bytes(16, "big"), b"n", Endpoint("192.0.2.1", 1), 1_800_000_000)

async def main():
    database = Database(Path(sys.argv[1]), room.SCHEMA)
    await database.open()
    inbox = room.Inbox(database, InboxLimits(0, 0, 0, 0), lambda: 1_800_000_000.0)
    room.SORT_PAUSE = 0.001

    async def store(who):
        for n in range(100_000):
            keys = [int(sys.argv[2]) * 10**9 + who * 10**7 + n * 10 + i for i in range(3)]
            told = trio.Event()
            def done(answer):
                assert not isinstance(answer, Exception)
                sys.stdout.write("".join(f"in {key}\\n" for key in keys))
                sys.stdout.flush()
                told.set()
            inbox.deposit_soon([arrival(key) for key in keys], done)
            await told.wait()

    async def reader():
        while True:
            items, _ = await inbox.peek("freda", [ENTRY], None, 50, 1 << 20)
            await inbox.clear([ENTRY], [item.cursor for item in items[::2]])
            keys = [int.from_bytes(item.cursor, "big") for item in items[::2]]
            sys.stdout.write("".join(f"out {key}\\n" for key in keys))
            sys.stdout.flush()

    async with trio.open_nursery() as nursery:
        await nursery.start(database.run)
        await inbox.open()
        nursery.start_soon(inbox.run)
        nursery.start_soon(reader)
        for who in range(3):
            nursery.start_soon(store, who)

trio.run(main)
"""


def killed(path: Path, life: int, after: int) -> tuple[set[int], set[int]]:
    """Keys whose deposit, and cursors whose clear, a child had been told of when it was killed."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(life)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(after)]
    child.kill()
    lines += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    words = [line.split() for line in lines if line.endswith(b"\n")]
    came = {int(number) for what, number in words if what == b"in"}
    return came, {int(number) for what, number in words if what == b"out"}


async def test_kill_9_loses_no_item_and_brings_none_back(tmp_path: Path, nursery: trio.Nursery) -> None:
    came: set[int] = set()
    cleared: set[int] = set()
    for life, after in enumerate((900, 1, 2_500, 333), 1):
        more = await trio.to_thread.run_sync(killed, tmp_path / "state.db", life, after)
        came, cleared = came | more[0], cleared | more[1]
        database, inbox = await opened(tmp_path / "state.db", nursery)
        items, _ = await inbox.peek("bob", [ENTRY], None, 10**6, 1 << 30)
        waiting = {int.from_bytes(item.cursor, "big") for item in items}
        known = {int.from_bytes(sight.key, "big") for sight in await inbox.sights(0)}
        await database.close()
        assert came <= known, "a deposit that was answered is gone"
        assert not cleared & waiting, "a clear that was answered came undone"
        assert len(known) == len(waiting) + await cleared_rows(tmp_path / "state.db", nursery), "one row an item"


async def cleared_rows(path: Path, nursery: trio.Nursery) -> int:
    database, _ = await opened(path, nursery)
    rows = await database.read(lambda c: c.execute("SELECT count(*) FROM inbox_items WHERE cleared = 1").get)
    await database.close()
    return int(rows)
