"""What a PDU leaves behind goes by itself: a circle would wait for the collector, and cost twice the time in memory."""

from __future__ import annotations

import gc

import trio.testing

from .world import OF_2004, TODAY, World, notification, route


async def test_a_forwarded_pdu_leaves_no_circle_of_references(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(5)))

    async def forward(first: int) -> None:
        for peer in (TODAY, OF_2004):
            await world.notify(*(notification(f"u{i}@pobox.example", first + i) for i in range(5)), peer=peer)
            first += 5

    await forward(100)
    gc.collect()
    gc.disable()
    try:
        await forward(200)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith("forwarder")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()
