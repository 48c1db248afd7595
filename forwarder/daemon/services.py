"""The plugins' services beside our own: their sockets bound once, their tasks run, restarted with back-off, drained.

A service gets duplicates of its listening sockets, so that one that fails does not close the door for good; ours stay
open until the drain, and meanwhile the system keeps who knocks waiting.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog
import trio

from forwarder.bridges import Service, ServicePorts
from forwarder.config.doors import Door
from forwarder.config.lines import ConfigError, ConfigErrors
from forwarder.config.settings import FILE
from forwarder.config.tables import UnixPath
from forwarder.daemon.unix import listen_unix
from forwarder.model import Endpoint
from forwarder.net.server import bound, listen

FIRST, LONGEST = 1.0, 60.0
"""Seconds before a service that failed is started again, doubling."""
STEADY = 300.0
"""One that ran so long before it failed starts again at FIRST."""

log = structlog.get_logger("forwarder.services")


class Opened:
    """A service's listening sockets."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.places: list[Endpoint | UnixPath] = []
        self._masters: list[socket.socket] = []

    async def open(self, group: str) -> None:
        """Raises ConfigErrors for what cannot be bound."""
        for place in self.door.places:
            try:
                if isinstance(place, UnixPath):
                    listener = listen_unix(Path(place.path), group)
                    self.places.append(place)
                else:
                    listener = await listen(place)
                    self.places.append(bound(listener))
            except KeyError:
                raise _cannot("bridge.group", f'there is no group "{group}" on this machine') from None
            except OSError as error:
                said = f"cannot listen on {place}: {error.strerror or error}"
                raise _cannot(f"listen.{self.door.spec.name}", said) from None
            self._masters.append(socket.socket(fileno=listener.socket.dup().detach()))
            listener.socket.close()

    def listeners(self) -> Sequence[trio.SocketListener]:
        """Fresh ones on the same sockets."""
        return [trio.SocketListener(trio.socket.from_stdlib_socket(master.dup())) for master in self._masters]

    def close(self) -> None:
        """Nobody gets in any more, and no file of a Unix socket stays."""
        for master in self._masters:
            master.close()
        for place in self.places:
            if isinstance(place, UnixPath):
                Path(place.path).unlink(missing_ok=True)
        self._masters, self.places = [], []


class Hosted:
    """One service of a plugin in this daemon. make: the service, on these listeners."""

    def __init__(self, opened: Opened, ports: ServicePorts) -> None:
        self.name = opened.door.spec.name
        self._opened = opened
        self._ports = ports
        self._service: Service | None = None
        self._draining = False
        self._drained = trio.Event()
        self.restarts = 0

    async def run(self) -> None:
        """Until it has been drained; whatever it raises starts it again."""
        wait = FIRST
        while not self._draining:
            started = trio.current_time()
            why = await self._live()
            wait = FIRST if trio.current_time() - started > STEADY else wait
            await self._pause(wait, why)
            wait = min(wait * 2, LONGEST)

    async def _live(self) -> str:
        """One life of it; why it ended."""
        listeners = self._opened.listeners()
        try:
            self._service = self._opened.door.spec.make(self._opened.door.options, self._ports, listeners)
            await self._service.run(self._ready)
        except Exception as error:
            log.error("service failed", service=self.name, error=f"{type(error).__name__}: {error}", exc_info=error)
            return f"{type(error).__name__}: {error}"
        finally:
            for listener in listeners:  # one that could not even be made has closed none
                listener.socket.close()
        return "it ended by itself"

    async def _pause(self, seconds: float, why: str) -> None:
        if not self._draining:
            self.restarts += 1
            log.info("service starts again", service=self.name, why=why, seconds=seconds)
            with trio.move_on_after(seconds):
                await self._drained.wait()

    def _ready(self) -> None:
        for place in self._opened.places:
            log.info("listening", service=self.name, address=str(place))

    def drain(self) -> None:
        """Nothing new; `run` returns when what is under way has ended."""
        self._draining = True
        self._drained.set()
        self._opened.close()
        if self._service is not None:
            self._service.drain()


def _cannot(key: str, text: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(FILE, 0, key, text)])


async def open_all(doors: Sequence[Door], group: str) -> list[Opened]:
    """Raises ConfigErrors; then nothing stays open."""
    opened = [Opened(door) for door in doors]
    try:
        for each in opened:
            await each.open(group)
    except BaseException:
        for each in opened:
            each.close()
        raise
    return opened


def places(opened: Sequence[Opened]) -> Mapping[str, list[str]]:
    """Where each listens, for `status`."""
    return {each.door.spec.name: [str(place) for place in each.places] for each in opened if each.places}


class Services:
    """All services of plugins."""

    def __init__(self, opened: Sequence[Opened], ports: Callable[[str], ServicePorts]) -> None:
        self.hosted = [Hosted(each, ports(each.door.spec.name)) for each in opened]
        self._running = 0
        self._ended = trio.Event()

    def start(self, nursery: trio.Nursery) -> None:
        self._running = len(self.hosted)
        for hosted in self.hosted:
            nursery.start_soon(self._run, hosted)

    async def _run(self, hosted: Hosted) -> None:
        try:
            await hosted.run()
        finally:
            self._running -= 1
            if not self._running:
                self._ended.set()

    def drain(self) -> None:
        for hosted in self.hosted:
            hosted.drain()

    async def empty(self) -> None:
        """After `drain`: until the last has ended."""
        if self._running:
            await self._ended.wait()
