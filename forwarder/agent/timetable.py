"""When something is due again: numbers with their times in a heap, and one task that waits for the next of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import trio

from forwarder.ports import Clock

LOOK_EVERY = 3600.0
"""Seconds: the clock may be turned."""


class Timetable:
    """Unix times. `due` hears of each number whose time has come, once however often it stands."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, int]] = []
        self._order = count()
        self._woken = trio.Event()
        self.due: Callable[[int, float], None] = _nobody

    def at(self, due: float, number: int) -> None:
        heapq.heappush(self._heap, (due, next(self._order), number))
        if self._heap[0][2] == number:
            self._woken.set()

    async def run(self) -> None:
        while True:
            self._woken = trio.Event()
            wait = self._heap[0][0] - self._clock() if self._heap else float("inf")
            with trio.move_on_after(max(0.0, min(wait, LOOK_EVERY))):
                await self._woken.wait()
            now = self._clock()
            numbers = set()
            while self._heap and self._heap[0][0] <= now:
                numbers.add(heapq.heappop(self._heap)[2])
            for number in numbers:
                self.due(number, now)


def _nobody(number: int, now: float) -> None:
    raise AssertionError("the courier was not wired to its timetable")
