"""A service on its listeners: each connection is a session in a task of its own."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence

import trio

OVERLOADED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Listening:
    """bridges.Service. serve: one session, raises nothing of what peers do. begin_drain: tells the sessions."""

    def __init__(
        self,
        listeners: Sequence[trio.SocketListener],
        serve: Callable[[trio.SocketStream], Awaitable[None]],
        begin_drain: Callable[[], None] | None = None,
    ) -> None:
        self._listeners = listeners
        self._serve = serve
        self._begin_drain = begin_drain
        self._accepting = trio.CancelScope()
        self._sessions = trio.CancelScope()

    async def run(self, ready: Callable[[], None], /) -> None:
        with self._sessions:
            async with trio.open_nursery() as sessions:
                try:
                    with self._accepting:
                        async with trio.open_nursery() as accepting:
                            for listener in self._listeners:
                                accepting.start_soon(self._accept, listener, sessions)
                            ready()
                finally:
                    for listener in self._listeners:
                        listener.socket.close()

    async def _accept(self, listener: trio.SocketListener, sessions: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OVERLOADED:
                    raise
                await trio.sleep(0.1)
                continue
            sessions.start_soon(self._serve, stream)

    def drain(self) -> None:
        """No new sessions. Those that nobody tells of it are idle between questions and end now."""
        self._accepting.cancel()
        if self._begin_drain is None:
            self._sessions.cancel()
        else:
            self._begin_drain()
