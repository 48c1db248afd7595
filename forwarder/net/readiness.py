"""One task that reads for all sessions (speed 11): a poll of its own, each socket registered once, a call for each.

A task woken for each PDU costs a wait, a registration and a switch: 9 us. Here a session's task only waits for its end;
what arrives is handed on in the one task of the run, which goes back to the loop after each round of the poll.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import trio

ROUND = 1024
"""Sockets read before the loop gets its turn."""


class Readiness:
    """Calls by socket. Level-triggered: a call that leaves octets behind is made again in the next round."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}

    def call(self, number: int, readable: Callable[[], None]) -> None:
        """`readable()` whenever the socket of that number is. It must not raise."""
        self._calls[number] = readable
        self._poll.register(number, select.EPOLLIN)

    def forget(self, number: int) -> None:
        """Before the socket is closed: its number will be another's."""
        del self._calls[number]
        self._poll.unregister(number)

    async def run(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._poll.fileno())
            for number, _ in self._poll.poll(0, ROUND):
                readable = self._calls.get(number)
                if readable is not None:
                    readable()


_of_this_run: trio.lowlevel.RunVar[Readiness] = trio.lowlevel.RunVar("forwarder.net.readiness")


def readiness() -> Readiness:
    """The one of this Trio run, started when it is first wanted."""
    try:
        return _of_this_run.get()
    except LookupError:
        made = Readiness()
        _of_this_run.set(made)
        trio.lowlevel.spawn_system_task(made.run)
        return made


class Ending:
    """Where a session's task waits while others read for it: until the stream ends, or a reader failed."""

    __slots__ = ("_error", "_over", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._error: Exception | None = None
        self._over = False

    def come(self, error: Exception | None = None) -> None:
        if self._over:
            return
        self._over, self._error = True, error
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> None:
        """Raises what `come` was given."""
        if not self._over:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._error is not None:
            raise self._error

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task, self._over = None, True
        return trio.lowlevel.Abort.SUCCEEDED
