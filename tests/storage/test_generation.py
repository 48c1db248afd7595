"""A log that is not this database's: of an older time, of a newer one, of another file. It is refused, never copied in.

Files are put back by hand as an operator might, after kills and after clean ends; the right ones always go on.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.storage import database
from forwarder.storage.database import Database, DatabaseUnfit, Migration
from forwarder.storage.snapshot import copy_database

SCHEMA = (Migration("test-1", "CREATE TABLE things (name TEXT NOT NULL UNIQUE)"),)


def put(name: str) -> Callable[[apsw.Connection], object]:
    return lambda c: c.execute("INSERT INTO things VALUES (?)", (name,)).fetchall()


def names(c: apsw.Connection) -> set[str]:
    return {str(name) for (name,) in c.execute("SELECT name FROM things")}


class House:
    """A database of which a copy is taken as a kill would leave it. acknowledged: what it was told is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: set[str] = set()
        self._count = 0

    @property
    def file(self) -> Path:
        return self.folder / "state.db"

    @property
    def log(self) -> Path:
        return self.folder / "state.db-wal"

    async def life(self, commits: int, copies: tuple[int, ...] = (), *, end: bool = True) -> list[Path]:
        """So many commits; what lies on the disk after some of them. end False: it is killed."""
        made = Database(self.file, SCHEMA)
        await made.open()
        taken = []
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            for number in range(1, commits + 1):
                self._count += 1
                name = f"{self._count} {'x' * 3000}"
                await made.commit(put(name), point="test")
                self.acknowledged.add(name)
                if number in copies:
                    taken.append(await self.at_rest(made, f"copy{self._count}"))
            killed = await self.at_rest(made, f"killed{self._count}")
            await made.close()
        if not end:
            for path in (self.file, self.log):
                path.unlink(missing_ok=True)
                if (killed / path.name).exists():
                    shutil.copy(killed / path.name, path)
        return taken

    async def at_rest(self, made: Database, name: str) -> Path:
        """File and log of one moment, between two steps of the writer: copied one by one they could be no pair."""
        return await trio.to_thread.run_sync(self.copy, name, limiter=made._writing)

    def copy(self, name: str) -> Path:
        into = self.folder / name
        into.mkdir()
        for path in (self.file, self.log):
            shutil.copy(path, into / path.name)
        return into

    async def content(self) -> set[str]:
        made = Database(self.file, SCHEMA)
        await made.open()
        found = await made.read(names)
        await made.close()
        return found

    def octets(self) -> tuple[bytes, bytes]:
        return self.file.read_bytes(), self.log.read_bytes()

    async def is_refused(self) -> None:
        before = self.octets()
        with pytest.raises(DatabaseUnfit, match="is of another time, or of another database"):
            await Database(self.file, SCHEMA).open()
        assert self.octets() == before, "nothing was touched"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_log_of_an_older_time_beside_a_newer_database(house: House) -> None:
    (old,) = await house.life(5, (4,))
    await house.life(3)
    shutil.copy(old / house.log.name, house.log)
    await house.is_refused()
    house.log.unlink()
    assert await house.content() == house.acknowledged, "its own is put back: all is there"


async def test_a_log_of_the_life_that_has_just_ended(house: House) -> None:
    """Its first half only: what came later would be overwritten."""
    (old,) = await house.life(9, (4,))
    shutil.copy(old / house.log.name, house.log)
    await house.is_refused()
    house.log.unlink()
    assert await house.content() == house.acknowledged


async def test_a_newer_log_beside_an_older_database(house: House) -> None:
    (old,) = await house.life(5, (4,))
    await house.life(3, end=False)
    log = house.log.read_bytes()
    shutil.copy(old / house.file.name, house.file)
    await house.is_refused()
    assert house.log.read_bytes() == log


async def test_the_log_beside_a_copy_that_was_put_in_the_place_of_its_database(house: House) -> None:
    """A backup of `forwarder backup`, copied over the file by hand."""
    await house.life(5)
    copy_database(house.file, house.folder / "saved.db")
    await house.life(3, end=False)
    shutil.copy(house.folder / "saved.db", house.file)
    await house.is_refused()


async def test_the_log_of_another_database(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "other")
    other.folder.mkdir()
    await other.life(5, end=False)
    await house.life(5)
    shutil.copy(other.log, house.log)
    await house.is_refused()


async def test_a_log_whose_database_is_gone(house: House) -> None:
    await house.life(5, end=False)
    house.file.unlink()
    with pytest.raises(DatabaseUnfit, match="is missing or empty, and its log"):
        await Database(house.file, SCHEMA).open()
    assert house.log.exists()


async def test_a_database_and_its_log_go_on_wherever_they_were_cut(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short logs that are copied often, kills and clean ends by turns: what lies there together belongs together."""
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 7)
    chance = random.Random(10)
    for turn in range(30):
        commits = chance.randrange(1, 20)
        await house.life(commits, end=chance.random() < 0.4)
        assert await house.content() == house.acknowledged, turn


async def test_a_pair_that_was_copied_together_at_any_moment_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 7)
    copies = await house.life(40, tuple(range(1, 41)))
    for number, copy in enumerate(copies, 1):
        assert len(await House(copy).content()) == number


async def test_a_crash_within_the_copying_of_the_log(house: House) -> None:
    """The file has the first pages of the log, or the last, or any: its own log makes it whole."""
    await house.life(12, end=False)
    old, log = house.octets()
    pages = {int.from_bytes(log[at : at + 4], "big"): log[at + 24 : at + 24 + 4096] for at in range(32, len(log), 4120)}
    chance = random.Random(4)
    for _ in range(40):
        file = bytearray(old)
        for number, page in pages.items():
            if chance.random() < 0.5:
                file.extend(bytes(max(0, number * 4096 - len(file))))
                file[(number - 1) * 4096 : number * 4096] = page
        house.file.write_bytes(file)
        house.log.write_bytes(log)
        assert await house.content() == house.acknowledged
