"""Slow targets do not hurt fast ones; what waits is bounded; undecided batches go again, singly."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from forwarder.agent import links
from forwarder.model import Outcome

from .world import TODAY, World, notification, route


def fifty(world: World) -> None:
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(50)))


async def test_one_mailbox_in_fifty_that_answers_after_a_second_does_not_hold_up_the_others(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    fifty(world)
    world.wires.delay = lambda n: 1.0 if n.recipient.localpart == "u7" else 0.001
    took: list[float] = []

    async def client(number: int) -> None:
        for turn in range(20):
            began = trio.current_time()
            assert await world.code(notification(f"u{number}@pobox.example", turn * 50 + number)) == 0
            if number != 7:
                took.append(trio.current_time() - began)

    async with trio.open_nursery() as clients:
        for number in range(50):
            clients.start_soon(client, number)
    assert sorted(took)[len(took) // 2] < 0.035  # three looks of the clock, at most
    assert sum(1 for seconds in took if seconds > 0.5) <= 2 * 49


async def test_a_suspect_is_cleared_by_a_quick_answer(world: World, autojump_clock: trio.testing.MockClock) -> None:
    fifty(world)
    world.wires.delay = lambda n: 0.5
    await world.notify(*(notification(f"u{i}@pobox.example", i) for i in range(3)))
    await world.notify(*(notification(f"u{i}@pobox.example", 10 + i) for i in range(3)))
    assert world.links.suspects() == 3
    world.wires.delay = lambda n: 0.001
    await world.notify(*(notification(f"u{i}@pobox.example", 20 + i) for i in range(3)))
    assert world.links.suspects() == 0


async def test_an_error_status_for_a_batch_decides_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """An agent that was extended and answers as one of 2004 now: each item gets its own answer."""
    fifty(world)
    await world.notify(notification("u0@pobox.example", 100))
    world.wires.legacy.add("isp.example")
    world.wires.script = lambda n: Outcome(48) if n.recipient.localpart == "u1" else Outcome(0)
    outcomes, _ = await world.notify(*(notification(f"u{i}@pobox.example", i) for i in range(3)))
    assert [outcome.code for outcome in outcomes] == [0, 32, 0]


@pytest.mark.parametrize("legacy", [False, True])
async def test_an_agent_is_connected_to_so_often_at_once_and_no_more(world: World, legacy: bool) -> None:
    """4 sessions with one that gives results, 16 with one of 2004, however much waits for it (8.1)."""
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(1000)))
    if legacy:
        world.wires.legacy.add("isp.example")
    await world.notify(notification("u0@pobox.example", 5000))
    world.wires.script = lambda n: None
    for number in range(1000):
        world.dispatcher.receive([notification(f"u{number}@pobox.example", number)], TODAY, lambda *_: None)
        if number % 100 == 0:
            await trio.sleep(0.03)
    await trio.sleep(0.05)
    assert world.wires.busy["isp.example", "main"] == (16 if legacy else 4)


async def test_a_full_queue_names_its_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "QUEUE", 5)
    fifty(world)
    world.wires.script = lambda n: None
    waiting: list[Outcome] = []
    for key in range(40):
        world.dispatcher.receive(
            [notification("u1@pobox.example", key)], TODAY, lambda outcomes, failed: waiting.append(outcomes[0])
        )
    await trio.testing.wait_all_tasks_blocked()
    assert {outcome.code for outcome in waiting} == {35}
    assert waiting[0].text == "over the limit agent queue"


async def test_a_link_stands_still_when_nothing_is_out(world: World, autojump_clock: trio.testing.MockClock) -> None:
    fifty(world)
    await world.notify(notification("u0@pobox.example"))
    await trio.sleep(1)
    assert world.links.waiting == 0
    before = trio.lowlevel.current_statistics().tasks_living
    await trio.sleep(3600)
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_look_up_that_fails_in_a_way_nobody_foresaw_defers_its_own_items(world: World) -> None:
    fifty(world)
    world.where.missing["isp.example"] = RuntimeError("a bug")  # type: ignore[assignment]
    assert await world.code(notification("u0@pobox.example")) == 32
    del world.where.missing["isp.example"]
    assert await world.code(notification("u0@pobox.example", 2)) == 0


async def test_what_an_agent_showed_counts_for_a_day_since_it_last_did(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """`results` seen: batches. Not seen for 24 h: one at a time, until it shows them again (5.0)."""
    fifty(world)
    keys = iter(range(1, 1000))

    async def batches() -> list[int]:
        """The sizes of what five at once are sent as."""
        before = len(world.wires.sent)
        await world.notify(*(notification(f"u{i}@pobox.example", next(keys)) for i in range(5)))
        return [len(items) for _, _, items in world.wires.sent[before:]]

    assert await batches() == [1, 1, 1, 1, 1]
    assert await batches() == [5]
    await trio.sleep(86_000)
    assert await batches() == [5]
    await trio.sleep(86_000)
    assert await batches() == [5], "the day begins anew with each answer"
    await trio.sleep(links.HINT)
    assert await batches() == [1, 1, 1, 1, 1]
    assert await batches() == [5]
