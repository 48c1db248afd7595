"""The whole daemon on a disk that fails, on a log that is torn, on databases of other versions (docs/states.md)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from forwarder.daemon.state import SCHEMA
from forwarder.model import parse_mailbox
from forwarder.storage.database import Database
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.rnasp import Capabilities
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP, Protocol

from .clock import BROKEN, FINE, FULL
from .house import PASSWORD, ROOT, House
from .line import Line
from .peers import notification, serve_names
from .truth import Sent, body

RESULTS = Capabilities(1, frozenset({"results"}))


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, {}, await serve_names(nursery))
    await made.open()
    yield made
    with trio.CancelScope(shield=True):
        await made.close()


async def ask(house: House, service: str, protocol: Protocol, *commands: Any) -> Any:
    """The last answer of a session."""
    with trio.fail_after(20):
        async with Line(house.address, house.ports[service], protocol) as line:
            for command in commands:
                response = await line.ask(command)
    return response


async def notify(house: House, sent: Sent) -> int:
    response = await ask(house, "rnasp", RNASP, rnasp.Notify((notification(sent),), RESULTS))
    return int(response.data.results[0].code)


async def begin(house: House, **how: Any) -> bool:
    """The first life in a folder: readers are shown all that is theirs once every address file was met."""
    if not await house.start(**how):
        return False
    with trio.fail_after(20):
        while not (await house.ask("status"))["catalogue"]["complete"]:
            await trio.lowlevel.checkpoint()
    return True


async def waiting(house: House) -> list[bytes]:
    login = rnaqp.Authenticate("brian", PASSWORD)
    response = await ask(house, "rnaqp", RNAQP, login, rnaqp.Peek(None, 100))
    return [item.notification.identifier for item in response.data.items]


async def submit(house: House, number: int) -> Any:
    envelope = msoap.SubmitEnvelope((parse_mailbox("sub@pobox.test"),), (), 86400)
    chunk = msoap.SubmitMsgChunk(True, 0, body(number))
    return await ask(house, "msoap", MSOAP, rnaqp.Authenticate("toby", PASSWORD), envelope, chunk)


async def read(house: House, key: bytes) -> bytes:
    response = await ask(house, "msrap", MSRAP, msrap.Retrieve(key, msrap.View.all, 0, 1 << 20))
    return bytes(response.data.data)


def verb(*words: str) -> int:
    command = [sys.executable, "-m", "forwarder", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode


def said(house: House) -> str:
    return "\n".join(record["text"] for record in house.log() if "text" in record)


@pytest.mark.parametrize("fault", [FULL, BROKEN])
async def test_a_failing_disk_acknowledges_nothing_serves_its_readers_and_recovers(house: House, fault: int) -> None:
    assert await begin(house, disk=True)
    before, during = Sent("sub", 1, 0), Sent("sub", 2, 0)
    role = Sent("role", 3, 0)
    assert await notify(house, before) == 0
    (key,) = (await submit(house, 7)).data.identifiers
    seen = await waiting(house)
    assert before.key in seen

    house.control.set_disk(fault)
    for sent in (during, role):
        assert await notify(house, sent) == 32
    no_room = "errornotenoughroom" if fault == FULL else "errorinternalproblem"
    assert (await submit(house, 8)).status.name == no_room
    assert (await ask(house, "msrap", MSRAP, msrap.UnPin(key))).status.name == "errorinternalproblem"
    assert before.key in await waiting(house)
    assert await read(house, key) == body(7)

    house.control.set_disk(FINE)
    for sent in (during, role):
        assert await notify(house, sent) == 0
    assert (await submit(house, 8)).status.name == "noerror"
    assert {before.key, during.key} <= set(await waiting(house))
    assert (await ask(house, "msrap", MSRAP, msrap.UnPin(key))).status.name == "noerror"
    assert await house.stop() == 0
    assert not said(house)


async def test_a_log_torn_by_a_crash_gives_all_that_was_acknowledged(house: House) -> None:
    assert await begin(house)
    sent = [Sent("sub", number, 0) for number in range(5)]
    for one in sent:
        assert await notify(house, one) == 0
    house.kill()
    await house.ended()
    log = house.folder / "state" / "forwarder.db-wal"
    with log.open("ab") as file:
        file.write(bytes(range(256)) * 40)
    assert await house.start()
    assert {one.key for one in sent} <= set(await waiting(house))
    assert await house.stop() == 0


async def test_a_database_of_an_older_version_is_brought_up_to_date(house: House) -> None:
    (house.folder / "state").mkdir(mode=0o700, exist_ok=True)
    older = Database(house.folder / "state" / "forwarder.db", SCHEMA[:-1])
    await older.open()
    await older.close()
    assert await begin(house)
    assert await notify(house, Sent("sub", 1, 0)) == 0
    assert (await submit(house, 7)).status.name == "noerror"
    assert await house.stop() == 0


async def test_a_database_of_a_newer_version_is_refused_in_one_line(house: House) -> None:
    assert await begin(house)
    assert await house.stop() == 0
    connection = apsw.Connection(str(house.folder / "state" / "forwarder.db"))
    connection.execute("INSERT INTO migrations VALUES ('later-9', 99)")
    connection.close()
    assert not await house.start()
    assert house.code == 2
    assert said(house) == "forwarder: the database was written by a newer version: this one does not know later-9"


async def test_a_daemon_that_starts_on_a_full_disk_serves_its_readers_and_recovers(house: House) -> None:
    sent = Sent("sub", 1, 0)
    assert await begin(house)
    assert await notify(house, sent) == 0
    assert sent.key in await waiting(house)
    assert await house.stop() == 0
    house.control.set_disk(FULL)
    assert await house.start(disk=True)
    assert sent.key in await waiting(house)
    assert await notify(house, Sent("sub", 2, 0)) == 32
    house.control.set_disk(FINE)
    assert await notify(house, Sent("sub", 3, 0)) == 0
    assert await house.stop() == 0
    assert not said(house)


async def test_a_daemon_that_was_killed_starts_on_a_full_disk_too(house: House) -> None:
    """Its log cannot be copied into the file yet; it is read all the same."""
    sent = Sent("sub", 1, 0)
    assert await begin(house)
    assert await notify(house, sent) == 0
    assert sent.key in await waiting(house)
    house.kill()
    await house.ended()
    house.control.set_disk(FULL)
    assert await house.start(disk=True)
    assert sent.key in await waiting(house)
    assert await notify(house, Sent("sub", 2, 0)) == 32
    house.control.set_disk(FINE)
    assert await notify(house, Sent("sub", 3, 0)) == 0
    assert await house.stop() == 0
    assert not said(house)


async def test_killed_after_a_sync_that_failed_no_message_is_without_its_body(house: House) -> None:
    """What the log has of a commit that failed may be found at the next start, as a commit that went well."""
    assert await begin(house, disk=True)
    house.control.set_disk(BROKEN)
    assert (await submit(house, 7)).status.name == "errorinternalproblem"
    house.kill()
    await house.ended()
    house.control.set_disk(FINE)
    assert await house.start()
    await house.ask("fsck")
    report = await house.ask("fsck")
    assert report["problems"] == []
    assert await house.stop() == 0


async def test_a_log_of_an_older_time_is_refused_in_one_line_and_nothing_is_lost(house: House) -> None:
    state = house.folder / "state"
    log = state / "forwarder.db-wal"
    sent = [Sent("sub", number, 0) for number in range(4)]
    assert await begin(house)
    assert await notify(house, sent[0]) == 0
    old = log.read_bytes()
    assert await house.stop() == 0
    for one in sent[1:]:
        assert await house.start()
        assert await notify(house, one) == 0
        assert await house.stop() == 0
    log.write_bytes(old)
    assert not await house.start()
    assert house.code == 2
    assert said(house).startswith(f"forwarder: {log} is of another time, or of another database, than ")
    assert "\n" not in said(house)
    assert verb("backup", str(house.folder.parent / "saved"), "--config", str(house.folder)) == 1
    assert verb("fsck", "--repair", "--config", str(house.folder)) == 1
    assert log.read_bytes() == old
    log.unlink()
    assert await house.start()
    assert {one.key for one in sent} <= set(await waiting(house))
    assert await house.stop() == 0


async def test_what_is_restored_over_a_killed_node_has_no_log_of_it(house: House, tmp_path: Path) -> None:
    first, second = Sent("sub", 1, 0), Sent("sub", 2, 0)
    assert await begin(house)
    assert await notify(house, first) == 0
    await house.ask("backup", into=str(tmp_path / "saved"))
    assert await notify(house, second) == 0
    house.kill()
    await house.ended()
    assert verb("restore", str(tmp_path / "saved"), "--force", "--config", str(house.folder)) == 0
    assert not (house.folder / "state" / "forwarder.db-wal").exists()
    assert await house.start()
    assert await waiting(house) == [first.key]
    assert await house.stop() == 0
