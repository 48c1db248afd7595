"""Stores that drip, one or many, do not keep the pulls from others waiting (protocol 8.9)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from forwarder.agent.slots import AT_ONCE, PER_STORE, Slots
from forwarder.model import Outcome
from forwarder.ports import PullOrder

from .world import World, notification, route


class Running:
    """Takes places and keeps them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.slots = Slots()
        self._nursery = nursery
        self.stores: list[str] = []

    async def start(self, store: str, kind: str = "pull") -> None:
        self._nursery.start_soon(self._hold, store, kind)
        await trio.testing.wait_all_tasks_blocked()

    async def _hold(self, store: str, kind: str) -> None:
        async with self.slots.of(kind, store):
            self.stores.append(store)
            await trio.sleep_forever()


@pytest.fixture
def running(nursery: trio.Nursery) -> Running:
    return Running(nursery)


async def test_one_store_has_a_few_places_however_much_of_it_is_named(running: Running, nursery: trio.Nursery) -> None:
    for _ in range(50):
        await running.start("slow.example")
    assert running.stores == ["slow.example"] * PER_STORE
    await running.start("other.example")
    assert running.stores[-1] == "other.example"
    nursery.cancel_scope.cancel()


async def test_stores_that_never_gave_us_a_message_have_half(running: Running, nursery: trio.Nursery) -> None:
    running.slots.gave("good.example")
    for number in range(100):
        await running.start(f"evil{number}.example")
    assert len(running.stores) == AT_ONCE // 2
    await running.start("good.example")
    assert running.stores[-1] == "good.example"
    nursery.cancel_scope.cancel()


async def test_other_deeds_do_not_wait_for_pulls(running: Running, nursery: trio.Nursery) -> None:
    for number in range(100):
        running.slots.gave(f"slow{number}.example")
        await running.start(f"slow{number}.example")
    assert len(running.stores) == AT_ONCE
    for kind in ("work", "unpin"):
        await running.start("slow1.example", kind)
    assert len(running.stores) == AT_ONCE + 2
    nursery.cancel_scope.cancel()


async def test_what_is_done_makes_room_and_nothing_is_kept_of_a_store(running: Running) -> None:
    for number in range(50):
        async with running.slots.of("pull", f"store{number}.example"):
            pass
    assert not running.slots._stores


async def test_a_store_that_is_known_is_served_while_strange_ones_drip(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("copy@pobox.example", strategy="pull", to="bob@isp.example"))
    done: list[str] = []

    async def pull(order: PullOrder) -> Outcome:
        if order.notification.store.startswith("evil"):
            await trio.sleep_forever()
        done.append(order.notification.store)
        return Outcome(0)

    monkeypatch.setattr(world.disk, "pull", pull)
    assert await world.code(notification("copy@pobox.example", 1, store="good.example")) == 0
    await trio.testing.wait_all_tasks_blocked()
    for number in range(100):
        evil = notification("copy@pobox.example", 100 + number, store=f"evil{number}.example")
        assert await world.code(evil) == 0
    assert await world.code(notification("copy@pobox.example", 2, store="good.example")) == 0
    await trio.testing.wait_all_tasks_blocked()
    assert done == ["good.example", "good.example"]
