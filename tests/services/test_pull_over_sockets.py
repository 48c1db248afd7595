"""Two stores, real sockets, real files: a message is pulled, read, un-pinned, taken back (protocol 5.4)."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from forwarder.model import Endpoint, Hop, Mailbox, Notification, ServiceLocation, parse_mailbox
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.net.sources import StoreSources
from forwarder.ports import Agent, PullOrder, ServiceName, UserRecord
from forwarder.storage.copies import StoredCopies
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas
from forwarder.storage.sweeping import Sweeping
from forwarder.store.letters import addressed
from forwarder.store.pulling import Pulling
from forwarder.testing import MemoryLog
from forwarder.wire import msoap
from forwarder.wire.msrap import QuerySize, Retrieve, Silence, UnPin, View
from forwarder.wire.notification import decode_notification
from forwarder.wire.session import MSRAP

from .store_house import DAY, StoreHouse

PRESS, AGENCY = parse_mailbox("press@pobox.example"), parse_mailbox("agency@press.example")
MIB = 1 << 20


class Locator:
    """Every store is the sender's."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.agent = Agent((endpoint,), "store.example")

    def known(self, domain: str, service: ServiceName) -> Agent | None:
        return self.agent

    async def find(self, domain: str, service: ServiceName) -> Agent:
        return self.agent

    async def place(self, location: ServiceLocation, service: ServiceName) -> Agent:
        return self.agent

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        return ()


async def dial(endpoint: Endpoint) -> trio.abc.Stream:
    return await trio.open_tcp_stream(endpoint.address, endpoint.port)


async def native(notification: Notification) -> str | None:
    return None


class Watched(StoredCopies):
    """Says when a source was told what it was owed."""

    def __init__(self, messages: StoredMessages) -> None:
        super().__init__(messages, Quotas(1 << 30))
        self._tell, self.told = trio.open_memory_channel[None](9)

    async def paid(self, number: int, *, silence: bool, unpin: bool) -> None:
        await super().paid(number, silence=silence, unpin=unpin)
        self._tell.send_nowait(None)


class World:
    """theirs: the sender's store, behind a socket. ours: pulls from it."""

    def __init__(self, folder: Path) -> None:
        for name in ("theirs", "ours"):
            (folder / name).mkdir()
        self.theirs, self.ours = StoreHouse(folder / "theirs"), StoreHouse(folder / "ours")

    async def start(self, nursery: trio.Nursery, tasks: trio.Nursery) -> None:
        for house in (self.theirs, self.ours):
            await house.start(nursery)
        self.listener = listener = await listen(Endpoint("127.0.0.1", 0))
        self.server = PduServer(MSRAP, self.theirs.msrap, Limits(100, 100, lambda address: False), MemoryLog())
        tasks.start_soon(self.server.run, [listener])
        clock = lambda: float(self.ours.now)  # noqa: E731
        locator = Locator(bound(listener))
        self.sources = StoreSources(locator, dial, clock, lambda name: name == "pobox.example", self.ours.msrap)
        self.ours.ask = self.sources.look
        self.copies = Watched(self.ours.messages)
        self.pulling = Pulling(
            self.copies,
            self.sources,
            clock,
            ours=lambda name: name == "pobox.example",
            returns=native,
            hop=lambda address, how: Hop("mx1.pobox.example", None, self.ours.now, how),
            lifetime=DAY,
        )
        tasks.start_soon(self.sources.run)
        tasks.start_soon(self.pulling.run)

    async def notification(self) -> Notification:
        (due,) = (await self.theirs.messages.due(1, ()))[0]
        return decode_notification(addressed(due, "store.example"))

    async def pull(self, **more: Any) -> bytes:
        """The key of our copy."""
        order = PullOrder(
            *(await self.notification(), str(PRESS), PRESS, (AGENCY,), (), False, "after_readers", 1 << 30, None, False)
        )._replace(**more)
        assert (await self.pulling.pull(order)).code == 0
        (due,) = (await self.ours.messages.due(1, ()))[0]
        return due.identifier

    async def told_theirs(self, key: bytes) -> msoap.DeliveryStatus:
        tracked = (await (await self.theirs.originator()).say(msoap.Track(key))).data
        delivery: msoap.DeliveryStatus = tracked.delivery
        return delivery


@pytest.fixture
async def world(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with trio.open_nursery() as tasks:
        await made.start(nursery, tasks)
        yield made
        await made.sources.aclose()
        tasks.cancel_scope.cancel()
    await made.listener.aclose()
    for house in (made.theirs, made.ours):
        await house.database.close()


async def test_silenced_at_once_and_unpinned_when_our_reader_is_done(world: World) -> None:
    (key,) = (await world.theirs.submit(b"Subject: x\r\n\r\nhello", str(PRESS))).identifiers
    ours = await world.pull()

    await world.copies.told.receive()
    told = await world.told_theirs(key)
    assert (told.notificationstatus, told.pinned) == (msoap.NotificationStatus.silenced, True)
    reader = world.ours.reader()
    assert (await reader.say(Retrieve(ours, View.all, 0, 99))).data.data == b"Subject: x\r\n\r\nhello"
    assert (await reader.say(UnPin(ours))).status.name == "noerror"
    await world.copies.told.receive()
    assert not (await world.told_theirs(key)).pinned
    assert world.theirs.msrap.counters["bodies served"] == {"stranger": 1}


@pytest.mark.parametrize("unpin", ["after_copy", "after_readers"])
async def test_a_copy_that_nobody_read_in_its_time_leaves_no_pin_at_its_source(world: World, unpin: str) -> None:
    (key,) = (await world.theirs.submit(b"Subject: x\r\n\r\nhello", str(PRESS))).identifiers
    ours = await world.pull(unpin=unpin, keep=3600)
    await world.copies.told.receive()
    assert (await world.told_theirs(key)).pinned is (unpin == "after_readers")
    world.ours.now += 3600
    await Sweeping(
        world.ours.database, world.ours.messages.bodies, lambda: float(world.ours.now), world.ours.messages.tell
    ).sweep()
    if unpin == "after_readers":
        with trio.fail_after(10):
            await world.copies.told.receive()
    assert not (await world.told_theirs(key)).pinned
    answer = await world.ours.reader().say(Retrieve(ours, View.all, 0, 99))
    assert answer.status.name == "errornosuchmessage"


async def test_the_sender_takes_it_back_from_our_copy_too(world: World) -> None:
    (key,) = (await world.theirs.submit(b"Subject: x\r\n\r\noops", str(PRESS))).identifiers
    ours = await world.pull()
    await (await world.theirs.originator()).say(msoap.Cancel(key))
    reader = world.ours.reader()
    for command in (QuerySize(ours), Retrieve(ours, View.all, 0, 99), Silence(ours), UnPin(ours)):
        assert (await reader.say(command)).status.name == "errornosuchmessage"
    assert (await world.copies.owed(9))[0] == [], "and the source is owed nothing more"


async def test_a_large_message_is_pulled_in_little_memory(world: World) -> None:
    talk, piece = await world.theirs.originator(), bytes(range(256)) * 4096
    await talk.say(msoap.SubmitEnvelope((PRESS,), (), DAY))
    for n in range(64):
        await talk.say(msoap.SubmitMsgChunk(n == 63, n * MIB, piece))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    await world.pull()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"64 MiB pulled in {time.perf_counter() - began:.2f} s, {grown:.1f} MiB more memory")
    assert grown < 16
