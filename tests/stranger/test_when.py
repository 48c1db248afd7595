"""When the daemon's store comes back to a stranger's agent; its clock is turned (docs/protocol.md 6.6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..program.peers import eventually  # noqa: TID252
from .agent import Agent
from .conftest import World

HOUR, DAY = 3600, 86400
MESSAGE = b"From: toby@stranger.example\r\nSubject: %s\r\n\r\nhello\r\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, stack)
        made.start(turnable=True)
        yield made
        assert made.node.stop() == 0


def later(world: World, seconds: float, witness: Agent) -> None:
    """The clock is turned; something new wakes the daemon, which then sends what is due first, and to the witness last.

    When that outcome is on the disk, so are those before it.
    """
    world.node.turn_clock(seconds)
    toby = world.originator()
    [key] = toby.submit(["bob@witness.stranger.example"], MESSAGE % str(world.node.turned).encode())
    while witness.next()["identifier"] != key:
        pass
    eventually(lambda: toby.track(key)["notificationstatus"] == "notifying")


@pytest.mark.parametrize(
    ("says", "legacy", "not_before", "by"),
    [
        ({"code": 0}, False, DAY - 60, 1.1 * DAY + 60),
        ({"code": 0, "retransmit": HOUR}, False, DAY - 60, 1.1 * DAY + 60),
        ({"code": 0, "retransmit": 3 * DAY}, False, 3 * DAY - 60, 3 * DAY + 60),
        ({"code": 0, "retransmit": 30 * DAY}, False, 7 * DAY - 60, 7 * DAY + 60),
        ({"code": 33, "retryafter": HOUR}, False, HOUR - 60, HOUR + 60),
        ({"code": 35, "retryafter": 1}, False, 290, 310),
        ({"code": 32}, False, DAY - 60, DAY + 60),
        ({"code": 0}, True, DAY - 60, 1.1 * DAY + 60),
        ({"code": 48}, True, 290, 310),
    ],
)
def test_the_next_attempt(world: World, says: dict[str, Any], legacy: bool, not_before: float, by: float) -> None:
    agent, witness = world.agent("again", lambda *_: says, legacy), world.agent("witness")
    [key] = world.originator().submit(["bob@again.stranger.example"], MESSAGE, lifetime=30 * DAY)
    assert agent.next()["identifier"] == key
    later(world, 0, witness)
    later(world, not_before, witness)
    assert agent.came.empty()
    later(world, by - not_before, witness)
    assert agent.next()["identifier"] == key
