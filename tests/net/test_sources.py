"""The stores that notifications name, asked over a pool of sessions or in process (ports.Sources)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from forwarder.model import ContentDigest, Endpoint, Mailbox, Notification, Peer, ServiceLocation, parse_mailbox
from forwarder.net.sources import IDLE_SECONDS, SESSIONS, SLICE, StoreSources, place_of
from forwarder.plugin import PeerError
from forwarder.ports import Agent, BodySize, Gone, NoService, ServiceName, UserRecord
from forwarder.wire.msrap import (
    QuerySize,
    Response,
    Retrieve,
    Retrieved,
    Silence,
    Silenced,
    Size,
    UnPin,
    UnPinned,
    View,
)
from forwarder.wire.rnasp import Status
from forwarder.wire.session import MSRAP, NEED_DATA, Bad, ServerSession

KEY = b"k" * 16
BODY = bytes(range(256)) * (SLICE // 256) * 2 + b"the rest"
NOTE = Notification(ServiceLocation("store.example"), None, parse_mailbox("brian@pobox.example"), KEY, "toby")


def fine(data: Any) -> Response:
    return Response(False, Status.noerror, data)


class Store:
    """A store of one message. `answer` as it is; tests replace parts of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.sized = True
        self.legacy = False
        self.gone = False
        self.tear_at: int | None = None
        self.piece = SLICE
        self.busy = 0.0

    def open(self, peer: Peer) -> Store:
        self.peer = peer
        return self

    async def close(self) -> None:
        self.asked.append("closed")

    async def answer(self, command: Any, /) -> Response | None:
        """None: the session is torn."""
        self.asked.append(command)
        await trio.sleep(self.busy)
        if self.gone:
            return MSRAP.error("errornosuchmessage")  # type: ignore[no-any-return]
        match command:
            case QuerySize():
                digest = ContentDigest(1, bytes(32))
                return MSRAP.error("errorunexpectedcommand") if self.legacy else fine(Size(len(BODY), digest, 99))
            case Retrieve(_, View.nothing):
                return fine(Retrieved(b"", 0))
            case Retrieve(_, _, offset, length):
                if self.tear_at is not None and offset >= self.tear_at:
                    self.tear_at = None
                    return None
                octets = BODY[offset : offset + min(length, self.piece)]
                return fine(Retrieved(octets, len(BODY) if self.sized else None))
            case Silence():
                return fine(Silenced())
            case UnPin():
                return fine(UnPinned())
        raise AssertionError(command)


class Net:
    """ports.Locator, and the dial: every session is with `store`."""

    def __init__(self, nursery: trio.Nursery, store: Store) -> None:
        self.nursery, self.store = nursery, store
        self.dialled = 0
        self.open = 0
        self.most_open = 0
        self.endpoint = Endpoint("192.0.2.1", 7102)

    def known(self, domain: str, service: ServiceName) -> Agent | None:
        return None

    async def find(self, domain: str, service: ServiceName) -> Agent:
        if domain == "nowhere.example":
            raise NoService("baddomain", domain)
        return Agent((self.endpoint,), domain)

    async def place(self, location: ServiceLocation, service: ServiceName) -> Agent:
        return await self.find(location.domain or "", service)

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        return ()

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        self.dialled += 1
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        session = ServerSession(MSRAP)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            async with stream:
                while data := await stream.receive_some():
                    session.receive_data(bytes(data))
                    while (command := session.next_event()) is not NEED_DATA:
                        assert not isinstance(command, Bad)
                        answer = await self.store.answer(command)
                        if answer is None:
                            return
                        await stream.send_all(session.send(answer))
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.now = 1_800_000_000.0
        self.store, self.local = Store(), Store()
        self.net = Net(nursery, self.store)
        ours: Callable[[str], bool] = lambda name: name == "pobox.example"  # noqa: E731
        self.strange: list[Endpoint] = []
        self.missed: list[Endpoint] = []
        self.sources = StoreSources(
            *(self.net, self.net.dial, lambda: self.now, ours, self.local),
            dial_strange=self._dial_strange,
            missed=lambda endpoint: self.missed.append(endpoint),
        )
        nursery.start_soon(self.sources.run)

    async def _dial_strange(self, endpoint: Endpoint) -> trio.abc.Stream:
        self.strange.append(endpoint)
        return await self.net.dial(endpoint)

    async def body(self, note: Notification = NOTE, limit: int = 1 << 30) -> bytes:
        got = bytearray()
        async with self.sources.body(note, limit) as slices:
            async for piece in slices:
                assert len(piece) <= SLICE
                got += piece
        return bytes(got)


@pytest.fixture
def world(nursery: trio.Nursery) -> World:
    return World(nursery)


async def test_a_look_asks_size_digest_and_end(world: World) -> None:
    assert await world.sources.look(NOTE) == BodySize(len(BODY), ContentDigest(1, bytes(32)), 99)
    assert world.store.asked == [QuerySize(KEY)]


async def test_a_store_of_2004_is_asked_whether_it_is_there_and_remembered_for_a_day(world: World) -> None:
    world.store.legacy = True
    for _ in range(2):
        assert await world.sources.look(NOTE) == BodySize(None, None, None)
    there = Retrieve(KEY, View.nothing, 0, 0)
    assert world.store.asked == [QuerySize(KEY), there, there]
    world.now += 86_401
    await world.sources.look(NOTE)
    assert world.store.asked[3] == QuerySize(KEY)


@pytest.mark.parametrize(("sized", "piece"), [(True, SLICE), (False, SLICE), (True, 100_000)])
async def test_a_body_comes_in_slices_and_whole(world: World, sized: bool, piece: int) -> None:
    world.store.sized, world.store.piece = sized, piece
    assert await world.body() == BODY
    assert await world.body(limit=len(BODY)) == BODY


async def test_a_fetch_that_is_torn_goes_on_where_it_ended(world: World) -> None:
    world.store.tear_at = SLICE
    assert await world.body() == BODY
    assert [command.offset for command in world.store.asked] == [0, SLICE, SLICE, 2 * SLICE]
    assert world.net.dialled == 2


async def test_no_octet_beyond_the_limit_is_taken(world: World) -> None:
    world.store.sized = False
    with pytest.raises(PeerError, match="more than"):
        await world.body(limit=len(BODY) - 1)


async def test_a_store_that_drips_is_given_up_in_good_time(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    world.store.piece, world.store.busy = 1, 59
    with pytest.raises(PeerError, match="slowly"):
        await world.body(limit=1 << 20)
    assert trio.current_time() < 400


async def test_the_head_ends_at_its_limit(world: World) -> None:
    assert await world.sources.head(NOTE, 100) == BODY[:100]


async def test_silence_and_unpin_are_said(world: World) -> None:
    await world.sources.silence(NOTE)
    await world.sources.unpin(NOTE)
    assert world.store.asked == [Silence(KEY), UnPin(KEY)]


async def test_gone_is_no_fault_and_no_service_is_one(world: World) -> None:
    world.store.gone = True
    for ask in (world.sources.look, world.sources.silence, world.sources.unpin):
        with pytest.raises(Gone):
            await ask(NOTE)
    with pytest.raises(PeerError):
        await world.sources.look(NOTE._replace(storeclear=ServiceLocation("nowhere.example")))


async def test_sessions_are_kept_at_most_4_to_a_store_and_closed_when_idle(
    autojump_clock: MockClock, nursery: trio.Nursery, world: World
) -> None:
    world.store.busy = 1
    async with trio.open_nursery() as many:
        for _ in range(20):
            many.start_soon(world.sources.look, NOTE)
    assert (world.net.dialled, world.net.most_open) == (SESSIONS, SESSIONS)
    await world.sources.look(NOTE)
    assert world.net.dialled == SESSIONS
    await trio.sleep(IDLE_SECONDS + 5)
    assert world.net.open == 0
    await world.sources.look(NOTE)
    assert world.net.dialled == SESSIONS + 1


async def test_a_store_is_a_strangers_word_until_it_had_what_was_named(world: World) -> None:
    """Before: counted as strange, and no session kept. Proved by a message that is there, and for that address only."""
    world.store.gone = True
    for dialled in (1, 2):
        with pytest.raises(Gone):
            await world.sources.look(NOTE)
        assert (world.net.dialled, len(world.strange)) == (dialled, dialled)
    assert len(world.missed) == 2
    world.store.gone = False
    await world.sources.look(NOTE)
    assert len(world.strange) == 3
    await world.sources.look(NOTE)
    assert world.net.dialled == 3, "the session was kept"
    await world.sources.aclose()
    world.store.gone = True
    with pytest.raises(Gone):
        await world.sources.look(NOTE)
    assert (world.net.dialled, len(world.strange), len(world.missed)) == (4, 3, 2), "known"
    await world.sources.aclose()
    world.net.endpoint = Endpoint("192.0.2.9", 7102)
    with pytest.raises(Gone):
        await world.sources.look(NOTE)
    assert world.strange[-1] == world.net.endpoint, "its name leads elsewhere now"
    other = NOTE._replace(storeclear=ServiceLocation("mirror.example"))
    with pytest.raises(Gone):
        await world.sources.look(other)
    assert len(world.strange) == 5, "another name for the same address"


async def test_a_store_of_ours_is_asked_in_process(world: World) -> None:
    ours = NOTE._replace(storeclear=ServiceLocation("pobox.example"))
    assert (await world.sources.look(ours)).size == len(BODY)
    assert await world.body(ours) == BODY
    assert world.net.dialled == 0
    assert world.local.peer.inner
    assert world.local.asked.count("closed") == 2


@pytest.mark.parametrize(
    ("clear", "ssl", "place"),
    [
        ("a.example", None, ("a.example", "msrap")),
        ("a.example", "b.example", ("b.example", "msraps")),
        (None, "b.example", ("b.example", "msraps")),
        ("a.example", "", ("a.example", "msrap")),
    ],
)
def test_what_is_named_over_tls_is_asked_over_tls_alone(clear: str | None, ssl: str | None, place: Any) -> None:
    storessl = None if ssl is None else ServiceLocation(ssl or None)
    named = Notification(ServiceLocation(clear), storessl, Mailbox("brian", "isp.example"), bytes(16), "toby")
    location, service = place_of(named)
    assert (location.domain, service) == place
