"""The end of a tick: what many PDUs ask for in one turn of the loop is done once, when all of them have been read.

No timer: the task is woken by the first caller and runs with the next batch of the loop, after every task that was
runnable beside the caller (speed 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio


class Tick:
    """Collects calls and makes them together. Calls made while they run belong to the next tick."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._calls: list[Callable[[], None]] = []
        self._parked: trio.lowlevel.Task | None = None
        self._time = 0.0

    def soon(self, call: Callable[[], None]) -> None:
        """`call` at the end of this tick. What it raises is a bug: `failed` hears of it, the others go on."""
        self._calls.append(call)
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    def time(self) -> float:
        """trio.current_time(), read once in a tick."""
        if not self._time:
            self._time = trio.current_time()
            self.soon(self._forget_time)
        return self._time

    def _forget_time(self) -> None:
        self._time = 0.0

    async def run(self) -> None:
        while True:
            if not self._calls:
                await self._park()
            calls, self._calls = self._calls, []
            for call in calls:
                try:
                    call()
                except Exception as error:
                    self._failed(error)
            if self._calls:
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.checkpoint_if_cancelled()

    async def _park(self) -> None:
        self._parked = trio.lowlevel.current_task()

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
