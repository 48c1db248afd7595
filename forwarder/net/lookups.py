"""Look-ups remembered until they expire, one under way at a time for each key, so many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import trio

from forwarder.ports import ByCarrier, Clock, NoService

DEADLINE = 10.0  # seconds for all questions of one look-up
WAITING = 10_000  # look-ups that run or wait to
REMEMBERED = 65_536  # results of each sort

T = TypeVar("T")


class Result(NamedTuple, Generic[T]):
    """What a look-up came to, and for how many seconds that holds. A NoService is a result too."""

    value: T | NoService
    seconds: float


class Lookups(Generic[T]):
    """Results by key until they expire, and one look-up at a time for each key."""

    def __init__(self, clock: Clock, slots: trio.CapacityLimiter) -> None:
        self._clock = clock
        self._slots = slots
        self._kept: dict[tuple[str, str], tuple[float, T | NoService]] = {}
        self._under_way: dict[tuple[str, str], trio.Event] = {}

    def fresh(self, key: tuple[str, str]) -> T | NoService | None:
        """From memory, at once."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    async def get(self, key: tuple[str, str], look_up: Callable[[], Awaitable[Result[T]]]) -> T:
        """From memory, else by `look_up`. Raises NoService, anew for each caller."""
        while (value := self.fresh(key)) is None:
            event = self._under_way.get(key)
            if event is not None:
                await event.wait()
            elif len(self._under_way) >= WAITING:
                raise NoService("noserver", "too many look-ups under way")
            else:
                await self._run(key, look_up)
        if isinstance(value, ByCarrier):
            raise ByCarrier("baddomain" if value.kind == "baddomain" else "noservice", str(value), value.carrier)
        if isinstance(value, NoService):
            raise NoService(value.kind, str(value))
        return value

    async def _run(self, key: tuple[str, str], look_up: Callable[[], Awaitable[Result[T]]]) -> None:
        """Cancelled, it keeps nothing: the next who waits begins anew."""
        event = self._under_way[key] = trio.Event()
        try:
            await self._slot()
            try:
                result = await look_up()
            finally:
                self._slots.release()
            while len(self._kept) >= REMEMBERED:
                del self._kept[next(iter(self._kept))]
            self._kept.pop(key, None)
            self._kept[key] = (self._clock() + result.seconds, result.value)
        finally:
            del self._under_way[key]
            event.set()

    async def _slot(self) -> None:
        with trio.move_on_after(DEADLINE):
            await self._slots.acquire()
            return
        raise NoService("noserver", "too many look-ups under way")
