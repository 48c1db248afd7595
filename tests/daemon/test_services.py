"""Services of plugins in the daemon: sockets bound once, tasks started again with back-off, drained."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from forwarder.bridges import ServicePorts, ServiceSpec
from forwarder.config.doors import Door
from forwarder.config.lines import ConfigErrors
from forwarder.config.tables import UnixPath
from forwarder.daemon.services import FIRST, LONGEST, STEADY, Hosted, Opened, Services, open_all, places
from forwarder.model import Endpoint
from forwarder.plugin import Options
from forwarder.testing import make_service_ports

HERE = Endpoint("127.0.0.1", 0)


class Nothing(Options):
    pass


Lives = Callable[[int], Awaitable[None]]


class Scripted:
    """All lives of a service: `live` is what each does; `started` and `ended` when."""

    def __init__(self, name: str = "lmtp") -> None:
        self.name = name
        self.live: Lives = self._until_drained
        self.started: list[float] = []
        self.drained: list[int] = []
        self.listeners: list[Sequence[trio.SocketListener]] = []
        self.broken = 0
        """So many times it cannot even be made."""
        self._told = trio.Event()

    def make(self, options: Nothing, ports: ServicePorts, listeners: Sequence[trio.SocketListener]) -> Life:
        self.started.append(trio.current_time())
        self.listeners.append(listeners)
        if len(self.started) <= self.broken:
            raise RuntimeError("its secrets cannot be read")
        return Life(self, len(self.started))

    async def _until_drained(self, number: int) -> None:
        await self._told.wait()

    def drain(self, number: int) -> None:
        self.drained.append(number)
        self._told.set()

    def door(self, *where: Endpoint | UnixPath) -> Door:
        spec: ServiceSpec[Any] = ServiceSpec(self.name, "bridge", Nothing, self.make)
        return Door(spec, Nothing(), where)


class Life:
    def __init__(self, scripted: Scripted, number: int) -> None:
        self._scripted = scripted
        self._number = number

    async def run(self, ready: Callable[[], None], /) -> None:
        ready()
        await self._scripted.live(self._number)

    def drain(self) -> None:
        self._scripted.drain(self._number)


async def hosted(scripted: Scripted, *where: Endpoint | UnixPath) -> Hosted:
    [opened] = await open_all([scripted.door(*where)], "")
    return Hosted(opened, make_service_ports())


def port_of(opened: Opened) -> int:
    [place] = opened.places
    assert isinstance(place, Endpoint)
    return place.port


# -- lives


async def test_one_that_fails_is_started_again_after_longer_and_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()

    async def fail(number: int) -> None:
        raise RuntimeError("a bug")

    scripted.live = fail
    service = await hosted(scripted)
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(service.run)
        await trio.sleep(400)
    gaps = [after - before for before, after in zip(scripted.started, scripted.started[1:], strict=False)]
    assert gaps[:8] == [FIRST, 2, 4, 8, 16, 32, LONGEST, LONGEST]
    assert service.restarts == len(scripted.started)
    failures = [line for line in logs if line["event"] == "service failed"]
    assert failures[0]["error"] == "RuntimeError: a bug"
    assert failures[0]["service"] == "lmtp"
    nursery.cancel_scope.cancel()


async def test_one_that_ends_by_itself_or_cannot_be_made_is_started_again_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()
    scripted.broken = 2

    async def end(number: int) -> None:
        if number > 3:
            await trio.sleep_forever()

    scripted.live = end
    service = await hosted(scripted, HERE)
    nursery.start_soon(service.run)
    await trio.sleep(60)
    assert len(scripted.started) == 4
    service.drain()
    nursery.cancel_scope.cancel()


async def test_one_that_had_run_well_begins_with_the_shortest_wait(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()

    async def live(number: int) -> None:
        await trio.sleep(0 if number != 4 else STEADY + 1)
        raise RuntimeError("a bug")

    scripted.live = live
    nursery.start_soon((await hosted(scripted)).run)
    await trio.sleep(1000)
    assert scripted.started[4] - scripted.started[3] == STEADY + 1 + FIRST
    nursery.cancel_scope.cancel()


async def test_a_fault_of_one_is_none_of_the_others(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bad, good = Scripted("lmtp"), Scripted("pop3")

    async def fail(number: int) -> None:
        raise RuntimeError("a bug")

    bad.live = fail
    services = Services(await open_all([bad.door(), good.door()], ""), lambda name: make_service_ports(node=name))
    services.start(nursery)
    await trio.sleep(100)
    assert (len(good.started), [one.restarts for one in services.hosted][1]) == (1, 0)
    services.drain()
    await services.empty()


async def test_who_knocks_while_it_is_started_again_waits_and_is_served(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()

    async def serve(number: int) -> None:
        if number == 1:
            raise RuntimeError("a bug")
        [listener] = scripted.listeners[-1]
        async with await listener.accept() as stream:
            await stream.send_all(b"here")

    scripted.live = serve
    [opened] = await open_all([scripted.door(HERE)], "")
    service = Hosted(opened, make_service_ports())
    nursery.start_soon(service.run)
    await trio.testing.wait_all_tasks_blocked()
    async with await trio.open_tcp_stream("127.0.0.1", port_of(opened)) as stream:
        assert await stream.receive_some(10) == b"here"
    service.drain()


async def test_each_life_leaves_no_descriptor_behind(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()
    scripted.broken = 10
    service = await hosted(scripted, HERE)
    nursery.start_soon(service.run)
    await trio.testing.wait_all_tasks_blocked()
    before = len(os.listdir("/proc/self/fd"))
    await trio.sleep(200)
    assert len(scripted.started) > 5
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(listener.socket.fileno() < 0 for life in scripted.listeners for listener in life)
    service.drain()


# -- drained


async def test_a_drain_takes_nothing_new_and_waits_for_what_is_under_way(nursery: trio.Nursery) -> None:
    scripted, finish = Scripted(), trio.Event()

    async def live(number: int) -> None:
        await finish.wait()

    scripted.live = live
    opened = await open_all([scripted.door(HERE)], "")
    port = port_of(opened[0])
    services = Services(opened, lambda name: make_service_ports())
    services.start(nursery)
    await trio.testing.wait_all_tasks_blocked()
    services.drain()
    assert scripted.drained == [1]
    with trio.move_on_after(0.05) as scope:
        await services.empty()
    assert scope.cancelled_caught
    finish.set()
    with trio.fail_after(5):
        await services.empty()
    scripted.listeners[0][0].socket.close()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    assert len(scripted.started) == 1


async def test_a_drain_in_the_back_off_ends_it_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    scripted = Scripted()

    async def live(number: int) -> None:
        if number < 6:
            raise RuntimeError("a bug")
        await trio.sleep_forever()

    scripted.live = live
    services = Services(await open_all([scripted.door(HERE)], ""), lambda name: make_service_ports())
    services.start(nursery)
    await trio.sleep(20)
    begun, lives = trio.current_time(), len(scripted.started)
    services.drain()
    with trio.fail_after(5):
        await services.empty()
    assert (trio.current_time() - begun, len(scripted.started)) == (0, lives)


async def test_without_any_service_a_drain_is_over_at_once() -> None:
    services = Services([], lambda name: make_service_ports())
    services.drain()
    with trio.fail_after(5):
        await services.empty()


# -- sockets


async def test_a_unix_socket_has_its_file_until_the_drain(tmp_path: Path) -> None:
    path = UnixPath(str(tmp_path / "lmtp"))
    [opened] = await open_all([Scripted().door(path, HERE)], "")
    assert stat.S_IMODE(os.stat(path.path).st_mode) == 0o660
    assert places([opened]) == {"lmtp": [f"unix:{path.path}", f"127.0.0.1:{opened.places[1].port}"]}  # type: ignore[union-attr]
    opened.close()
    assert os.listdir(tmp_path) == []
    assert places([opened]) == {}


async def refused(door: Door, group: str = "") -> str:
    with pytest.raises(ConfigErrors) as wrong:
        await open_all([Scripted("pop3").door(HERE), door], group)
    return str(wrong.value)


async def test_a_port_that_is_taken_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = await refused(Scripted().door(Endpoint("127.0.0.1", port)))
    assert said == f"forwarder.toml: listen.lmtp: cannot listen on 127.0.0.1:{port}: Address already in use"


async def test_a_unix_socket_in_use_is_an_error_and_the_owner_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        said = await refused(Scripted().door(UnixPath(str(path))))
    assert said == f"forwarder.toml: listen.lmtp: cannot listen on unix:{path}: somebody listens there"
    assert path.exists()


async def test_a_file_in_its_place_or_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lmtp").write_text("precious")
    assert "is no socket" in await refused(Scripted().door(UnixPath(str(tmp_path / "lmtp"))))
    assert "No such file" in await refused(Scripted().door(UnixPath(str(tmp_path / "none" / "lmtp"))))
    assert (tmp_path / "lmtp").read_text() == "precious"


async def test_a_group_that_is_not_there_is_an_error_and_nothing_stays_open(tmp_path: Path) -> None:
    said = await refused(Scripted().door(UnixPath(str(tmp_path / "lmtp"))), "no-such-group")
    assert said == 'forwarder.toml: bridge.group: there is no group "no-such-group" on this machine'
    assert os.listdir(tmp_path) == []
