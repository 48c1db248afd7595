"""A trio loop beside a fuzzer that knows no loop: it stands still until it is asked to run one coroutine to its end."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import outcome
import trio

SECONDS = 5.0
"""For one execution, waits included: over it, it hangs."""

Asked = Callable[[bytes], Awaitable[None]]


class Loop:
    """start: called in the loop with a nursery and an empty folder, gives what runs one input.

    All is begun anew after `fresh` inputs, so that nothing grows but what leaks.
    """

    def __init__(self, start: Callable[[trio.Nursery, Path], Awaitable[Asked]], fresh: int) -> None:
        self._start, self._fresh = start, fresh
        self._count = 0
        self._ready: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._asked: trio.MemorySendChannel[bytes] | None = None
        self._ended: outcome.Outcome[None] | None = None
        self._done = False

    def __call__(self, octets: bytes) -> None:
        if self._asked is None:
            self._open()
        assert self._asked is not None
        self._done = False
        self._asked.send_nowait(octets)
        self._pump(lambda: self._done)
        self._count += 1
        if self._count >= self._fresh:
            self.close()

    def close(self) -> None:
        if self._asked is not None:
            self._asked.close()
            self._asked, self._count = None, 0
            self._pump(lambda: self._ended is not None)

    def _open(self) -> None:
        self._ended = None
        send, receive = trio.open_memory_channel[bytes](1)
        self._asked = send
        trio.lowlevel.start_guest_run(
            self._main,
            receive,
            run_sync_soon_threadsafe=self._ready.put,
            done_callback=self._end,
            host_uses_signal_set_wakeup_fd=True,
        )

    def _end(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended

    def _pump(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self._ready.get()()
            if self._ended is not None:
                self._asked = None
                self._ended.unwrap()

    async def _main(self, asked: trio.MemoryReceiveChannel[bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            await self._serve(asked, Path(folder))

    async def _serve(self, asked: trio.MemoryReceiveChannel[bytes], folder: Path) -> None:
        async with trio.open_nursery() as nursery:
            once = await self._start(nursery, folder)
            async for octets in asked:
                with trio.fail_after(SECONDS):
                    await once(octets)
                self._done = True
            nursery.cancel_scope.cancel()
