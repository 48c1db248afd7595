"""A connected socket, driven without a task for each send: what the PDU server and the pooled sessions share.

`send` writes at once; only what the kernel does not take waits for a small task of its own. Half duplex bounds that
to one PDU. Reading is `await readable()`, then `receive()`; or `listen`, which has others call for what arrives.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Self

import trio

from forwarder.net.readiness import Ending, readiness

RECEIVE = 65536


class Channel:
    """Octets in and out. Closed once; after that `receive` says the stream has ended and `send` does nothing."""

    __slots__ = ("_closing", "_ending", "_left", "_nursery", "_pending", "_socket", "closed")

    ready = True
    """Whether octets may pass yet; over TLS only after the handshake."""
    failure = ""
    """Why TLS came to nothing."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        self._socket = sock
        self._nursery = nursery
        self._pending = bytearray()
        self._left: trio.Event | None = None
        self._closing = False
        self._ending: Ending | None = None
        self.closed = False

    @classmethod
    def of(cls, stream: trio.SocketStream, nursery: trio.Nursery) -> Self:
        """Takes a connected stream's socket over."""
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        return cls(sock, nursery)

    @property
    def peer(self) -> tuple[Any, ...]:
        """The other side's address as getpeername gives it; unspecified where it has gone already."""
        try:
            name: tuple[Any, ...] = self._socket.getpeername()
        except OSError:
            name = ("0.0.0.0", 0)  # noqa: S104  # a name for nobody
        return name

    async def readable(self) -> None:
        """Until there is something to receive, or the channel is closed."""
        if not self.closed:
            try:  # noqa: SIM105  # a context manager costs more than the wait
                await trio.lowlevel.wait_readable(self._socket)
            except trio.ClosedResourceError:
                pass

    async def listen(self, take: Callable[[bytes], bool]) -> None:
        """Hands what arrives to `take`, until the stream ends or `take` says no. Raises what `take` raised."""
        if self.closed:
            return

        def readable() -> None:
            failure = None
            try:
                data = self.receive()
                if data is None or (data and take(data)):
                    return
            except Exception as error:
                failure = error
            self._listen_no_more(failure)

        ending = self._ending = Ending()
        readiness().call(self._socket.fileno(), readable)
        try:
            await ending.wait()
        finally:
            self._listen_no_more()

    def _listen_no_more(self, failure: Exception | None = None) -> None:
        ending, self._ending = self._ending, None
        if ending is not None:
            readiness().forget(self._socket.fileno())
            ending.come(failure)

    def receive(self) -> bytes | None:
        """What has arrived; None: nothing yet; b"": the stream has ended."""
        if self.closed:
            return b""
        try:
            return self._socket.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def send(self, octets: bytes) -> None:
        """At once, or as the peer takes it. A broken connection shows at the next `receive`."""
        if self.closed:
            return
        if self._pending:
            self._pending += octets
            return
        try:
            sent = self._socket.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(octets):
            self._pending += memoryview(octets)[sent:]
            self._nursery.start_soon(self._push)

    async def _push(self) -> None:
        while self._pending and not self.closed:
            try:
                await trio.lowlevel.wait_writable(self._socket)
                sent = self._socket.send(self._pending[: 1 << 20])
                del self._pending[:sent]
            except (BlockingIOError, InterruptedError):
                continue
            except (OSError, trio.ClosedResourceError):
                self.close()
        if self._left is not None:
            self._left.set()
        if self._closing:
            self.close()

    @property
    def unsent(self) -> int:
        """Octets that the peer has not taken yet."""
        return len(self._pending)

    async def sent(self) -> None:
        """Until the peer has taken all, or the channel is closed."""
        while self._pending and not self.closed:
            self._left = trio.Event()
            await self._left.wait()

    def close_when_sent(self) -> None:
        """Closes now, or when what was sent has left."""
        self._closing = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._listen_no_more()
        if self._left is not None:
            self._left.set()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
