"""A door on real sockets, on loopback, with and without TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
import trustme

from forwarder.testing import MemoryLog
from forwarder_pop3_door.door import Door, Pop3Options

from .house import Mailbag, Talk


class Certified(NamedTuple):
    """A server's context for "localhost", a client's, and the file by which programs believe it."""

    server: Callable[[], ssl.SSLContext]
    client: ssl.SSLContext
    authority: Path


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1", common_name="localhost").configure_cert(server)
    authority.configure_trust(client)
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return Certified(lambda: server, client, path)


class Open:
    """A door and who came to it."""

    def __init__(self, door: Door, port: int, log: MemoryLog) -> None:
        self.door, self.port, self.log = door, port, log
        self._came: list[Talk] = []

    async def knock(self) -> Talk:
        talk = Talk(await trio.open_tcp_stream("127.0.0.1", self.port))
        self._came.append(talk)
        return talk

    async def enter(self) -> Talk:
        talk = await self.knock()
        assert await talk.line() == "+OK POP3 ready"
        await talk.ask("USER brian")
        assert (await talk.ask("PASS right")).startswith("+OK")
        return talk

    async def leave(self) -> None:
        for talk in self._came:
            await trio.aclose_forcefully(talk.stream)


OpenDoor = Callable[..., AbstractAsyncContextManager[Open]]


@pytest.fixture
def open_door() -> OpenDoor:
    @asynccontextmanager
    async def opened(bag: Mailbag, *, buffer: int = 1 << 20, clear: bool = True, **more: Any) -> AsyncIterator[Open]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        bag.in_clear = clear
        log = MemoryLog()
        options = Pop3Options(check_wait=timedelta(seconds=5), buffer=buffer)
        door = Door(options, bag, listeners, log=log, **more)
        ready = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.run, ready.set)
            await ready.wait()
            found = Open(door, listeners[0].socket.getsockname()[1], log)
            yield found
            await found.leave()
            door.drain()
        assert not [event for event, _ in log.lines if event in ("session failed", "command failed")], log.lines

    return opened
