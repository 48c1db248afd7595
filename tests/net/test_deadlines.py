"""Who is slow or idle is told so once, and let go (protocol 2 "Idle"). Shortened deadlines, real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import structlog
import trio

from forwarder.model import Endpoint, Notification, Outcome, Peer, ServiceLocation, parse_mailbox
from forwarder.net import server
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.wire.frames import frame
from forwarder.wire.rnasp import Notify, NotifyAnswer, Response, Status, encode_command, encode_response
from forwarder.wire.session import RNASP

NOTE = Notification(ServiceLocation("store.example"), None, parse_mailbox("x@pobox.example"), bytes(16), "toby")
PING = frame(encode_command(Notify(())))
ONE, TWO = (frame(encode_command(Notify((NOTE,) * count))) for count in (1, 2))
PONG = Response(False, Status.noerror, NotifyAnswer())
LONG = Response(False, Status.noerror, NotifyAnswer((Outcome(0, text="x" * 200),) * 200))
TIMED_OUT = frame(encode_response(RNASP.error("errorcommandtimeout")))


AHEAD = 4096  # in place of 128 KiB


class Echo:
    """Answers at once; with a batch of one never, with a batch of two by a long one."""

    def receive(self, command: Notify, peer: Peer, answer: Callable[[Response], None], /) -> None:
        if len(command.notifications) != 1:
            answer(LONG if command.notifications else PONG)


@pytest.fixture
def struck() -> list[str]:
    """The names of limits that struck."""
    return []


@pytest.fixture
async def stream(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, struck: list[str]
) -> AsyncIterator[trio.SocketStream]:
    monkeypatch.setattr(server, "READ", 0.3)
    monkeypatch.setattr(server, "CLOCK", 0.02)
    monkeypatch.setattr(server, "SENT_AHEAD", AHEAD)
    limits = Limits(0, 0, lambda address: True, lambda name, who: struck.append(name))
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


async def test_an_idle_session_is_timed_out(stream: trio.SocketStream, struck: list[str]) -> None:
    begin = trio.current_time()
    assert await _all(stream) == TIMED_OUT
    assert trio.current_time() - begin >= 0.5
    assert struck == ["idle time"]


async def test_a_torn_pdu_has_less_time_than_an_idle_session(stream: trio.SocketStream, struck: list[str]) -> None:
    begin = trio.current_time()
    await stream.send_all(PING[:5])
    assert await _all(stream) == TIMED_OUT
    assert trio.current_time() - begin < 0.55
    assert struck == ["time for a PDU"]


async def test_who_sends_on_while_he_is_not_answered_is_cut_off(stream: trio.SocketStream, struck: list[str]) -> None:
    """No pipelining: a little more is left unread, a flood is not kept for him."""
    await stream.send_all(ONE)
    with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
        await _for_ever(stream, bytes(RNASP.command_limit // 100))
    assert struck == ["octets ahead"]


async def test_who_reads_no_answer_and_asks_on_is_cut_off(stream: trio.SocketStream, struck: list[str]) -> None:
    """Answers that he leaves unread are not heaped up for him."""
    with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
        await _for_ever(stream, TWO)
    assert struck == ["octets ahead"]


async def test_who_does_not_take_the_last_word_is_not_waited_for(
    stream: trio.SocketStream, struck: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An oversize frame ends the session; behind answers that he has not read the word cannot leave."""
    monkeypatch.setattr(server, "SENT_AHEAD", 1 << 30)
    for _ in range(400):
        await stream.send_all(TWO)
    await stream.send_all(b"\xff\xff\xff\xff")
    with trio.fail_after(10):
        while len(struck) < 2:
            await trio.lowlevel.checkpoint()
    assert struck == ["PDU size", "time for an answer"]


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


async def _for_ever(stream: trio.SocketStream, octets: bytes) -> None:
    while True:
        await stream.send_all(octets)


async def _until_broken(drip: Callable[[], object]) -> None:
    try:
        await drip()  # type: ignore[misc]
    except trio.BrokenResourceError:
        return
