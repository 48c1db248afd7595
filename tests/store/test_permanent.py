"""A no for good, as the originator sees it in Track (protocol 5.0, 4)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from forwarder.model import Outcome
from forwarder.store.machine import DAY, Life, Told

from .test_sending import BRIAN, World


@pytest.mark.parametrize(
    ("code", "told"),
    [(48, Told.nouser), *((code, Told.protocolerror) for code in (49, 50, 51, 52, 53, 63))],
)
async def test_it_ends_the_sending_and_is_shown_with_its_code(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int, told: Told
) -> None:
    world = World(nursery)
    world.notifier.answers[str(BRIAN)] = lambda sent: Outcome(code)
    world.start()
    number = world.messages.submit(BRIAN)
    await trio.sleep(8 * DAY)
    state = world.messages.keys[number].state
    assert (state.told, state.lastcode, state.due, state.life) == (told, code, None, Life.live)
    assert len(world.notifier.sent) == 1
