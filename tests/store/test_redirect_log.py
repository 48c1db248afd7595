"""A redirect that our store follows is told to the log: an operator sees where his senders' mail went (8.4)."""

from __future__ import annotations

import structlog.testing
import trio
from trio.testing import MockClock

from forwarder.model import handle

from .test_sending import BOB, BRIAN, World, redirect_to


async def test_a_redirect_that_is_followed_is_told_to_the_log(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World(nursery)
    world.notifier.answers[str(BRIAN)] = redirect_to(str(BOB))
    with structlog.testing.capture_logs() as lines:
        world.start()
        number = world.messages.submit(BRIAN)
        key = world.messages.keys[number].due.identifier
        await trio.sleep(10)
    assert world.sent_to() == [str(BRIAN), str(BOB)]
    [told] = [line for line in lines if line["event"] == "redirected"]
    assert (told["key"], told["to"], told["proven"]) == (handle(key), [str(BOB)], False)
