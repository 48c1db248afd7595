"""The control socket (operator 3): one JSON object a line asked, one answered. 0660: whoever reaches it may ask.

`{"verb": "...", ...}` -> `{"ok": true, ...}` or `{"ok": false, "error": "..."}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import trio

from forwarder.config.sockets import within_reach

SOCKET = "control.sock"
LONGEST = 65536
PATIENCE = 30.0
AT_ONCE = 20

log = structlog.get_logger("forwarder.control")

Verb = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Control:
    """Serves `verbs` on `state/control.sock`. A verb says no by raising ValueError."""

    def __init__(self, state: Path, verbs: Mapping[str, Verb]) -> None:
        self._path = state / SOCKET
        self._verbs = verbs
        self._limiter = trio.CapacityLimiter(AT_ONCE)

    def listen(self) -> trio.SocketListener:
        """Whoever holds the state folder's lock may replace what a crash left here."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        sock = socket.socket(socket.AF_UNIX)
        old = os.umask(0o117)
        try:
            with within_reach(self._path) as name:
                sock.bind(name)
        finally:
            os.umask(old)
        sock.listen(16)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))

    async def run(self, listener: trio.SocketListener) -> None:
        try:
            await trio.serve_listeners(self._talk, [listener])
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _talk(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
            async with stream, self._limiter:
                asked = bytearray()
                with trio.fail_after(PATIENCE):
                    while not asked.endswith(b"\n") and len(asked) < LONGEST:
                        some = await stream.receive_some(LONGEST)
                        if not some:
                            return
                        asked += some
                answer = await self._answer(bytes(asked))  # takes what it takes: a backup its minutes
                with trio.fail_after(PATIENCE):
                    await stream.send_all(json.dumps(answer).encode() + b"\n")

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            asked = json.loads(line)
            verb = self._verbs.get(asked["verb"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return {"ok": False, "error": "not a request"}
        if verb is None:
            return {"ok": False, "error": f"this daemon does not know {asked['verb']!r}"}
        try:
            return {"ok": True, **await verb(asked)}
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:  # a fault in a verb, or a failing disk, is not the end of the daemon
            log.error("verb failed", verb=asked["verb"], error=repr(error), exc_info=error)
            return {"ok": False, "error": "failed; the log of the daemon says why"}
