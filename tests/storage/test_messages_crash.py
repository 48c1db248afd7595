"""kill -9 while messages come in: what was acknowledged stands, what was not leaves no trace (docs/states.md)."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from forwarder.storage.database import Database
from forwarder.storage.message_schema import SCHEMA
from forwarder.storage.messages import StoredMessages
from forwarder.storage.sweeping import Sweeping

NOW = 1_800_000_000.0
PROGRAM = Path(__file__).with_name("submitter.py")


def run_and_kill(folder: Path, lines: int) -> list[list[str]]:
    """What it said before it was killed, mid-work, after so many lines."""
    with subprocess.Popen([sys.executable, PROGRAM, folder, str(NOW)], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        said = [program.stdout.readline().split() for _ in range(lines)]
        program.send_signal(signal.SIGKILL)
        return said + [line.split() for line in program.stdout if line.endswith("\n")]


@pytest.mark.parametrize("kill", range(4))
async def test_nothing_acknowledged_is_lost(tmp_path: Path, nursery: trio.Nursery, kill: int) -> None:
    said = await trio.to_thread.run_sync(run_and_kill, tmp_path, 20 + 17 * kill)
    kept = {bytes.fromhex(words[1]): int(words[2]) for words in said if words[0] == "kept"}
    unpinned = {bytes.fromhex(words[1]) for words in said if words[0] == "unpinned"}
    perhaps = {bytes.fromhex(words[1]) for words in said if words[0] == "unpinning"}

    database = Database(tmp_path / "state.db", SCHEMA)
    await database.open()
    await nursery.start(database.run)
    messages = StoredMessages(database, tmp_path / "bodies", lambda: NOW)
    await messages.open()
    await Sweeping(database, messages.bodies, lambda: NOW).sweep()
    for key, size in kept.items():
        held = await messages.find(key)
        assert held is not None
        if key in unpinned:
            assert not messages.opens(held)
        elif key not in perhaps:
            assert messages.opens(held)
            assert len(await messages.read(held, [(0, size)])) == size == held.size
    rows = await database.read(
        lambda c: {str(name) for (name,) in c.execute("SELECT file FROM message WHERE file<>''")}
    )
    files = {path.name for path in (tmp_path / "bodies").rglob("*") if path.is_file()}
    assert files == rows, "no orphan, and no row without its body"
    await database.close()
