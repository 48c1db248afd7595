"""Guessing costs patience, by the minute and by the address (protocol 8.5)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from forwarder.services.misses import Misses

GUESSER, OTHER = "192.0.2.7", "192.0.2.8"


async def waited(misses: Misses, address: str) -> float:
    before = trio.current_time()
    await misses.wait(address)
    return trio.current_time() - before


@pytest.mark.parametrize(("count", "waits"), [(19, 0.0), (20, 0.0), (21, 1.0), (22, 2.0), (40, 16.0)])
async def test_twenty_in_a_minute_are_free(autojump_clock: MockClock, count: int, waits: float) -> None:
    misses = Misses()
    for _ in range(count):
        misses.count(GUESSER)
    assert await waited(misses, GUESSER) == waits


async def test_the_wait_is_the_guessers_own_and_has_a_name(autojump_clock: MockClock) -> None:
    misses, struck = Misses(), list[tuple[str, str]]()
    misses.struck = lambda name, who: struck.append((name, who))
    for _ in range(30):
        misses.count(GUESSER)
    misses.count(OTHER)
    assert await waited(misses, OTHER) == 0.0
    assert struck == []
    assert await waited(misses, GUESSER) > 0.0
    assert struck == [("key guesses", GUESSER)]


async def test_who_is_slow_is_no_guesser(autojump_clock: MockClock) -> None:
    """Twenty a minute, for ever: each minute begins anew."""
    misses = Misses()
    for _ in range(100):
        misses.count(GUESSER)
        await trio.sleep(3.2)
        assert await waited(misses, GUESSER) == 0.0


async def test_a_minute_later_the_first_look_is_free_again(autojump_clock: MockClock) -> None:
    misses = Misses()
    for _ in range(30):
        misses.count(GUESSER)
    await trio.sleep(61)
    assert await waited(misses, GUESSER) == 0.0
    misses.count(GUESSER)
    assert await waited(misses, GUESSER) == 0.0


async def test_each_minute_has_its_own_twenty_and_no_more(autojump_clock: MockClock) -> None:
    misses = Misses()
    for _ in range(3):
        for _ in range(25):
            misses.count(GUESSER)
        assert await waited(misses, GUESSER) == 16.0
        await trio.sleep(61)
        assert await waited(misses, GUESSER) == 0.0
