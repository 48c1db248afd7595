"""What a client hears when a session ends that it did not end: no room, or a server that stops (protocol 2).

Real sockets on loopback, clear and TLS; both shapes of service, one that answers by callback and one that converses.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog
import trio
import trustme

from forwarder.model import Endpoint, Peer
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.frames import frame
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP, ClientSession, Protocol

COMMANDS: dict[str, Any] = {
    "rnasp": rnasp.Notify(()),
    "rnaqp": rnaqp.RetrieveAndClear(None),
    "msrap": msrap.Silence(bytes(16)),
    "msoap": msoap.Track(bytes(16)),
}
NUMBERS = {"rnasp": 5, "rnaqp": 5, "msrap": 5, "msoap": 4}
PROTOCOLS = pytest.mark.parametrize("protocol", [RNASP, RNAQP, MSRAP, MSOAP], ids=lambda each: each.name)


class Slow:
    """Answers, in the shape that the server of this protocol wants, when `go` is set."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.go = trio.Event()
        self.asked = trio.Event()
        self.waiting: list[Callable[[Any], None]] = []
        if protocol is RNASP:
            self.receive = self._receive

    @property
    def fine(self) -> Any:
        return self.protocol.error("errornotauthenticated")

    def _receive(self, command: Any, peer: Peer, answer: Callable[[Any], None], /) -> None:
        self.waiting.append(answer)
        self.asked.set()

    def open(self, peer: Peer) -> Slow:
        return self

    async def answer(self, command: Any, /) -> Any:
        self.asked.set()
        await self.go.wait()
        return self.fine

    async def close(self) -> None:
        """Nothing is open."""

    def say(self) -> None:
        self.go.set()
        for answer in self.waiting:
            answer(self.fine)


class House:
    def __init__(self, protocol: Protocol, nursery: trio.Nursery, limits: Limits) -> None:
        self.protocol = protocol
        self.service = Slow(protocol)
        self.server = PduServer(protocol, self.service, limits, structlog.get_logger())
        self._nursery = nursery
        self.authority = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("mx.example").configure_cert(self._context)

    async def open(self) -> House:
        clear, secure = await listen(Endpoint("127.0.0.1", 0)), await listen(Endpoint("127.0.0.1", 0))
        self.clear, self.secure = bound(clear).port, bound(secure).port
        self._nursery.start_soon(self.server.run, [clear], [secure], lambda: self._context)
        return self

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.clear)

    async def connect_tls(self) -> trio.SSLStream[trio.SocketStream]:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        stream = await trio.open_tcp_stream("127.0.0.1", self.secure)
        return trio.SSLStream(stream, context, server_hostname="mx.example", https_compatible=True)

    def word(self, name: str) -> bytes:
        return frame(self.protocol.encode_response(self.protocol.error(name)))

    @property
    def settled(self) -> bool:
        """All three are in, one has done its handshake and one has begun a PDU."""
        sessions = self.server._sessions
        begun = any(session.wire.inside for session in sessions)
        return len(sessions) == 3 and begun and all(session.channel.ready for session in sessions)

    @property
    def command(self) -> bytes:
        return frame(self.protocol.encode_command(COMMANDS[self.protocol.name]))


async def all_of(stream: trio.abc.ReceiveStream) -> bytes:
    heard = bytearray()
    with trio.fail_after(10):
        async for data in stream:
            heard += data
    return bytes(heard)


@pytest.fixture
async def make(nursery: trio.Nursery) -> AsyncIterator[Callable[..., House]]:
    yield lambda protocol, limits=None: House(protocol, nursery, limits or Limits(0, 0, lambda address: True))
    nursery.cancel_scope.cancel()


def test_the_word_is_each_protocols_own() -> None:
    for protocol in (RNASP, RNAQP, MSRAP, MSOAP):
        word = protocol.error("errorserviceshutdown")
        assert (word.abort, int(word.status)) == (True, NUMBERS[protocol.name])


@PROTOCOLS
@pytest.mark.parametrize("limits", [(1, 0), (0, 1)], ids=["sessions", "sessions_per_address"])
async def test_who_finds_no_room_is_told_so_and_it_is_counted(
    make: Callable[..., House], protocol: Protocol, limits: tuple[int, int]
) -> None:
    struck: list[tuple[str, str]] = []
    caps = Limits(*limits, lambda address: False, lambda name, who: struck.append((name, who)))
    house = await make(protocol, caps).open()
    async with await house.connect() as first:
        await first.send_all(house.command)
        await house.service.asked.wait()
        async with await house.connect() as late:
            assert await all_of(late) == house.word("errorserviceshutdown")
        house.service.say()
        assert await first.receive_some() == house.word("errornotauthenticated")
    assert struck == [("sessions" if limits[0] else "sessions_per_address", "127.0.0.1")]


def test_a_network_holds_a_quarter_of_all_sessions_however_many_addresses_it_has() -> None:
    struck: list[str] = []
    caps = Limits(100, 5, lambda address: address.startswith("127."), lambda name, who: struck.append(name))
    came = [caps.enter(f"192.0.2.{host}") for host in range(50)]
    assert (came.count(True), set(struck)) == (25, {"sessions of a network"})
    assert caps.enter("192.0.3.1"), "its neighbour"
    assert all(caps.enter("127.0.0.1") for _ in range(50)), "our own machines"
    caps.leave("192.0.2.1")
    assert caps.enter("192.0.2.200")


async def test_the_word_reaches_a_client_that_had_already_asked(make: Callable[..., House]) -> None:
    """Its command lies unread when we close; a plain client sends, then reads, and must find the word, no reset."""
    house = await make(RNASP, Limits(1, 0, lambda address: False)).open()

    def told() -> Any:
        with socket.create_connection(("127.0.0.1", house.clear), 10) as late:
            session = ClientSession(RNASP)
            late.sendall(session.send(COMMANDS["rnasp"]))
            session.receive_data(late.recv(1000))
            return session.next_event()

    async with await house.connect() as first:
        await first.send_all(house.command)
        await house.service.asked.wait()
        for _ in range(50):
            assert await trio.to_thread.run_sync(told) == RNASP.error("errorserviceshutdown")


async def test_over_tls_there_is_no_handshake_for_who_finds_no_room(make: Callable[..., House]) -> None:
    house = await make(RNASP, Limits(1, 0, lambda address: False)).open()
    async with await house.connect() as first:
        await first.send_all(house.command)
        await house.service.asked.wait()
        async with await trio.open_tcp_stream("127.0.0.1", house.secure) as late:
            assert await all_of(late) == b""


@PROTOCOLS
async def test_a_server_that_stops_tells_the_idle_and_whoever_is_in_the_midst_of_a_pdu(
    make: Callable[..., House], protocol: Protocol
) -> None:
    house = await make(protocol).open()
    async with await house.connect() as idle, await house.connect() as midst, await house.connect_tls() as secure:
        await midst.send_all(house.command[:6])
        await secure.do_handshake()
        with trio.fail_after(5):
            while not house.settled:
                await trio.lowlevel.checkpoint()
        house.server.drain()
        for stream in (idle, midst, secure):
            assert await all_of(stream) == house.word("errorserviceshutdown")


@PROTOCOLS
async def test_a_server_that_stops_answers_first_and_says_the_word_then(
    make: Callable[..., House], protocol: Protocol
) -> None:
    house = await make(protocol).open()
    async with await house.connect() as busy:
        await busy.send_all(house.command)
        await house.service.asked.wait()
        house.server.drain()
        house.service.say()
        assert await all_of(busy) == house.word("errornotauthenticated") + house.word("errorserviceshutdown")


@PROTOCOLS
async def test_when_the_drain_may_last_no_longer_the_word_stands_in_for_the_answer(
    make: Callable[..., House], protocol: Protocol
) -> None:
    """What is decided afterwards is said to nobody."""
    house = await make(protocol).open()
    async with await house.connect() as busy:
        await busy.send_all(house.command)
        await house.service.asked.wait()
        house.server.drain()
        house.server.give_up()
        house.service.say()
        assert await all_of(busy) == house.word("errorserviceshutdown")
    with trio.fail_after(5):
        await house.server.empty()
