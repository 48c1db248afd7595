"""Un-pins that we owe other stores: given until the store has answered, over restarts, and not for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from forwarder.model import Notification
from forwarder.plugin import PeerError
from forwarder.ports import Debt, Gone

from .conftest import MAKERS
from .test_courier import settled, turned
from .world import World, build, notification

SENT = notification("box@pobox.example")


class Store:
    """The sender's: what it answers to each un-pin, the last answer for ever."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def unpin(self, sent: Notification) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(sent.identifier)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer


Owing = Callable[[Store], World]


@pytest.fixture
def owing(nursery: trio.Nursery) -> Owing:
    """An agent that owes one un-pin, by a committed row (storage/reading.py)."""

    def make(store: Store) -> World:
        world = build(nursery, dict(MAKERS))
        world.courier._errands.unpin = store.unpin
        debt = Debt(
            1,
            "unpin",
            "box@pobox.example",
            SENT.recipient,
            SENT.store,
            SENT.identifier,
            SENT.raw,
            int(world.now[0]),
            b"{}",
        )
        world.disk.debts[1] = debt
        world.courier.take(debt, SENT)
        return world

    return make


@pytest.mark.parametrize("answer", [None, Gone()])
async def test_it_is_given_once(owing: Owing, answer: Exception | None) -> None:
    """errornosuchmessage: another did, or it was withdrawn. As good as done."""
    store = Store(answer)
    world = owing(store)
    await settled()
    assert store.asked == [SENT.identifier]
    assert not world.disk.debts[1].open


async def test_a_store_that_is_down_is_asked_again_until_it_answers(
    owing: Owing, autojump_clock: trio.testing.MockClock
) -> None:
    store = Store(PeerError("down"), RuntimeError("a bug"), PeerError("down"), None)
    world = owing(store)
    await settled()
    assert (len(store.asked), world.disk.debts[1].open) == (1, True)
    for _ in range(8):
        await turned(world, 60)
    assert len(store.asked) == 4
    assert not world.disk.debts[1].open


async def test_a_restart_takes_it_up_at_once(
    owing: Owing, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = owing(Store(PeerError("down")))
    await settled()
    again, up = build(nursery, dict(MAKERS), disk=world.disk), Store(None)
    again.courier._errands.unpin = up.unpin
    await again.courier.load()
    await settled()
    assert up.asked == [SENT.identifier]
    assert not world.disk.debts[1].open


async def test_who_is_never_found_is_given_up_after_a_while(
    owing: Owing, autojump_clock: trio.testing.MockClock
) -> None:
    world = owing(Store(PeerError("down")))
    for _ in range(12):
        await turned(world, 86400)
    assert not world.disk.debts[1].open
