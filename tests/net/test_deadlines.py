"""Who is slow or idle is told so once, and let go (protocol 2 "Idle"). Shortened deadlines, real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import structlog
import trio

from forwarder.model import Endpoint, Peer
from forwarder.net import server
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.wire.frames import frame
from forwarder.wire.rnasp import Notify, NotifyAnswer, Response, Status, encode_command, encode_response
from forwarder.wire.session import RNASP

PING = frame(encode_command(Notify(())))
PONG = Response(False, Status.noerror, NotifyAnswer())
TIMED_OUT = frame(encode_response(RNASP.error("errorcommandtimeout")))


class Echo:
    def receive(self, command: Notify, peer: Peer, answer: Callable[[Response], None], /) -> None:
        answer(PONG)


@pytest.fixture
async def stream(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> AsyncIterator[trio.SocketStream]:
    monkeypatch.setattr(server, "READ", 0.3)
    monkeypatch.setattr(server, "CLOCK", 0.02)
    limits = Limits(0, 0, lambda address: True)
    served = PduServer(RNASP._replace(idle=0.6), Echo(), limits, structlog.get_logger())
    listener = await listen(Endpoint("127.0.0.1", 0))
    nursery.start_soon(served.run, [listener])
    connected = await trio.open_tcp_stream("127.0.0.1", bound(listener).port)
    async with connected:
        yield connected
    nursery.cancel_scope.cancel()


async def _all(stream: trio.SocketStream) -> bytes:
    heard = b""
    with trio.fail_after(10):
        async for data in stream:
            heard += bytes(data)
    return heard


async def test_an_idle_session_is_timed_out(stream: trio.SocketStream) -> None:
    begin = trio.current_time()
    assert await _all(stream) == TIMED_OUT
    assert trio.current_time() - begin >= 0.5


async def test_a_torn_pdu_has_less_time_than_an_idle_session(stream: trio.SocketStream) -> None:
    begin = trio.current_time()
    await stream.send_all(PING[:5])
    assert await _all(stream) == TIMED_OUT
    assert trio.current_time() - begin < 0.55


async def test_a_pdu_that_drips_has_no_more_time_than_one_that_stops(stream: trio.SocketStream) -> None:
    """The deadline is the PDU's, not its octets'."""
    heard = b""

    async def drip() -> None:
        for octet in PING[:-1] * 9:
            await stream.send_all(bytes((octet,)))
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_broken, drip)
        with trio.fail_after(1.0):
            while not heard.endswith(TIMED_OUT):
                heard += bytes(await stream.receive_some())
        nursery.cancel_scope.cancel()


async def _until_broken(drip: Callable[[], object]) -> None:
    try:
        await drip()  # type: ignore[misc]
    except trio.BrokenResourceError:
        return
