"""What is on the disk before the row of a body is committed: file, its folder, the folder above (docs/states.md).

A power cut keeps nothing that was not synced, so each fsync is written down; some fail, some are held up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.model import parse_mailbox
from forwarder.storage.bodies import SMALL, SPOOL, TOGETHER, Bodies, Upload
from forwarder.storage.database import Database
from forwarder.storage.message_rows import Envelope
from forwarder.storage.message_schema import SCHEMA
from forwarder.storage.messages import StoredMessages
from forwarder.store.letters import letter

NOW = 1_800_000_000


class Power:
    """Each fsync by whose upload it was made for (the thread's own word), the path below the folder, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._real = os.fsync
        self.synced: list[tuple[str, str]] = []
        self.who = threading.local()
        self.fails: Callable[[str], None] = lambda _: None
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}")).relative_to(self._folder)
        self.fails(str(path))
        self._real(handle)
        self.synced.append((getattr(self.who, "name", ""), str(path)))

    def of(self, name: str) -> list[str]:
        return [path for who, path in self.synced if who == name]


@pytest.fixture
def power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Power:
    return Power(tmp_path, monkeypatch)


def opened(folder: Path) -> Bodies:
    bodies = Bodies(folder / "bodies")
    bodies.open()
    return bodies


async def uploaded(folder: Path, name: str) -> Upload:
    """Large enough for a file of its own."""
    upload = Upload(folder / "bodies" / SPOOL, name)
    await upload.write(b"Subject: x\n\n")
    await upload.write(bytes(SMALL))
    return upload


def order(name: str) -> list[str]:
    return [f"bodies/{name[:2]}/{name}", f"bodies/{name[:2]}", "bodies"]


async def test_file_then_its_folder_then_the_folder_above(tmp_path: Path, power: Power) -> None:
    bodies = opened(tmp_path)
    power.synced.clear()
    await bodies.land(await uploaded(tmp_path, "ab01"))
    assert power.of("") == order("ab01")
    power.synced.clear()
    await bodies.land(await uploaded(tmp_path, "ab02"))
    assert power.of("") == order("ab02")[:2], "the folder's own name is on the disk for good"


async def test_a_folder_made_by_a_process_that_died_is_not_trusted(tmp_path: Path, power: Power) -> None:
    opened(tmp_path)
    (tmp_path / "bodies" / "ab").mkdir()
    bodies = opened(tmp_path)
    power.synced.clear()
    await bodies.land(await uploaded(tmp_path, "ab01"))
    assert power.of("") == order("ab01")


async def test_a_folder_whose_name_could_not_be_synced_is_synced_by_the_next(tmp_path: Path, power: Power) -> None:
    bodies = opened(tmp_path)

    def fails(path: str) -> None:
        if path == "bodies":
            raise OSError("I/O error")

    power.fails = fails
    with pytest.raises(OSError, match="I/O error"):
        await bodies.land(await uploaded(tmp_path, "ab01"))
    power.fails = lambda _: None
    power.synced.clear()
    await bodies.land(await uploaded(tmp_path, "ab02"))
    assert power.of("") == order("ab02")


async def test_none_of_many_that_land_at_once_relies_on_another(tmp_path: Path, power: Power) -> None:
    """One makes the folder and is held up right before its name is synced: whoever is done has synced it himself."""
    bodies = opened(tmp_path)
    names = [f"ab0{number}" for number in range(8)]
    uploads = {name: await uploaded(tmp_path, name) for name in names}
    held, go_on = threading.Event(), threading.Event()
    done: dict[str, int] = {}

    def land(name: str) -> None:
        power.who.name = name
        bodies._land(tmp_path / "bodies" / "ab", [uploads[name]])
        done[name] = len(power.synced)

    def hold_the_first(path: str) -> None:
        if path == "bodies" and power.who.name == names[0]:
            held.set()
            assert go_on.wait(10)

    power.fails = hold_the_first
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, land, names[0])
        assert await trio.to_thread.run_sync(held.wait, 10)
        async with trio.open_nursery() as others:
            for name in names[1:]:
                others.start_soon(trio.to_thread.run_sync, land, name)
        assert names[0] not in done
        for name, at in done.items():
            assert power.of(name)[:2] == order(name)[:2]
            assert "bodies" in [path for _, path in power.synced[:at]]
        go_on.set()
    assert power.of(names[0]) == order(names[0])


async def test_its_octets_and_its_lasting_name_are_on_the_disk(tmp_path: Path, power: Power) -> None:
    bodies = opened(tmp_path)
    upload = await uploaded(tmp_path, "ab01")
    assert (tmp_path / "bodies" / SPOOL / "ab01").exists()
    power.synced.clear()
    await bodies.land(upload)
    assert power.of("") == order("ab01")
    assert bodies.path("ab01").stat().st_size == upload.size
    assert not list((tmp_path / "bodies" / SPOOL).iterdir())


async def land_all(bodies: Bodies, folder: Path, count: int) -> list[Upload]:
    """In one moment."""
    uploads = [await uploaded(folder, f"{number:02x}{number:02x}") for number in range(count)]
    async with trio.open_nursery() as nursery:
        for upload in uploads:
            nursery.start_soon(bodies.land, upload)
    return uploads


async def test_those_that_come_in_one_moment_land_together_in_one_folder(tmp_path: Path, power: Power) -> None:
    bodies = opened(tmp_path)
    power.synced.clear()
    uploads = await land_all(bodies, tmp_path, TOGETHER)
    [folder] = {upload.name[:2] for upload in uploads}
    assert {upload.name for upload in uploads} == set(bodies.names()) == bodies.landing()
    assert set(power.of("")[:TOGETHER]) == {order(upload.name)[0] for upload in uploads}
    assert power.of("")[TOGETHER:] == [f"bodies/{folder}", "bodies"]


@pytest.mark.parametrize("count", [TOGETHER + 1, 60])
async def test_many_land_in_groups_each_file_before_its_folder(tmp_path: Path, power: Power, count: int) -> None:
    bodies = opened(tmp_path)
    power.synced.clear()
    uploads = await land_all(bodies, tmp_path, count)
    assert len({upload.name[:2] for upload in uploads}) == -(-count // TOGETHER)
    assert {upload.name for upload in uploads} == set(bodies.names())
    synced = power.of("")
    for upload in uploads:
        file, folder, _ = order(upload.name)
        assert synced.count(file) == synced.count(folder) == 1
        assert synced.index(file) < synced.index(folder)


async def test_of_those_that_land_together_none_is_believed_where_the_disk_fails(tmp_path: Path, power: Power) -> None:
    bodies = opened(tmp_path)
    uploads = [await uploaded(tmp_path, f"{number:02x}{number:02x}") for number in range(3 * TOGETHER)]
    failed = []

    def fails(path: str) -> None:
        if path.endswith(uploads[5].name[2:]):
            raise OSError("I/O error")

    async def land(upload: Upload) -> None:
        try:
            await bodies.land(upload)
        except OSError:
            failed.append(upload.name)
            await upload.abort()

    power.fails = fails
    async with trio.open_nursery() as nursery:
        for upload in uploads:
            nursery.start_soon(land, upload)
    assert len(failed) == TOGETHER
    assert uploads[5].name in failed
    assert {name[:2] for name in failed} == {uploads[5].name[:2]}
    await bodies.remove(failed)
    await bodies.land(await uploaded(tmp_path, "ff01"))
    assert set(bodies.names()) == {upload.name for upload in uploads if upload.name not in failed} | {"ff01"}


async def test_no_row_is_committed_before_its_body_is_lasting(
    tmp_path: Path, nursery: trio.Nursery, power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await store(tmp_path, nursery)
    transact = Database._transact

    def noted(database: Database, group: object) -> object:
        power.synced.append(("", "COMMIT"))
        return transact(database, group)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "_transact", noted)
    power.synced.clear()
    upload = await sent(messages, bytes(SMALL))
    assert power.of("") == [*order(upload.name), "COMMIT"]
    power.synced.clear()
    await sent(messages)
    assert power.of("") == ["COMMIT"], "a small one is in the database"
    await messages.database.close()


async def test_a_commit_of_which_nobody_knows_keeps_its_body(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync failed, the octets may be in the log all the same: then the next start finds the row."""
    messages = await store(tmp_path, nursery)

    async def fails(*_: object, **__: object) -> None:
        raise apsw.IOError("sync failed")

    with monkeypatch.context() as broken:
        broken.setattr(messages.database, "commit", fails)
        with pytest.raises(apsw.IOError):
            await sent(messages, bytes(SMALL))
    assert len(list(messages.bodies.names())) == 1
    assert not messages.bodies.landing(), "the next sweep decides"
    await messages.database.close()


async def store(folder: Path, nursery: trio.Nursery) -> StoredMessages:
    database = Database(folder / "state.db", SCHEMA)
    await database.open()
    await nursery.start(database.run)
    messages = StoredMessages(database, folder / "bodies", lambda: float(NOW))
    await messages.open()
    return messages


async def sent(messages: StoredMessages, rest: bytes = b"") -> Upload:
    brian = parse_mailbox("brian@pobox.example")
    upload = messages.upload()
    await upload.write(b"Subject: x\n\n" + rest)
    made = letter("toby", upload.size, upload.sha256, upload.claimed, NOW + 86400)
    envelope = Envelope("toby", (brian,), (), made, NOW + 86400, upload.sha256, 1 << 20)
    await messages.submit(upload, envelope)
    return upload
