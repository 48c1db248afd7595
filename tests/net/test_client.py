"""A session as a client: what is asked, what is heard, and what becomes of a session that is lost (protocol 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from forwarder.model import Endpoint
from forwarder.net.client import Client
from forwarder.plugin import PeerError
from forwarder.ports import Agent
from forwarder.wire import msrap
from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.rnasp import Status
from forwarder.wire.session import MSRAP, NEED_DATA, Bad, ServerSession

ONE, TWO = Endpoint("192.0.2.1", 7102), Endpoint("192.0.2.2", 7102)
AGENT = Agent((ONE, TWO), "store.example")
ASK = msrap.QuerySize(bytes(16))
SIZE = msrap.Response(False, Status.noerror, msrap.Size(7))
STOPS = msrap.Response(True, Status.errorserviceshutdown)

Step = Callable[[trio.abc.Stream, Any], Any]


class Server:
    """Each session is served by the next list of answers: a response, octets, or "close", "hang", "late"."""

    def __init__(self, nursery: trio.Nursery, *sessions: list[Any]) -> None:
        self._nursery = nursery
        self._sessions = list(sessions)
        self.dialled: list[Endpoint] = []
        self.asked: list[Any] = []
        self.down: set[Endpoint] = set()
        self.dead: set[Endpoint] = set()

    async def dial(self, endpoint: Endpoint) -> trio.abc.Stream:
        self.dialled.append(endpoint)
        if endpoint in self.dead:
            await trio.sleep_forever()
        if endpoint in self.down:
            raise OSError("connection refused")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs, self._sessions.pop(0))
        return ours

    async def _serve(self, stream: trio.abc.Stream, answers: list[Any]) -> None:
        session = ServerSession(MSRAP)
        async with stream:
            for answer in answers:
                if answer == "late":  # the server gives an idle session up
                    await stream.send_all(session.send(MSRAP.error("errorcommandtimeout")))
                    return
                while (command := session.next_event()) is NEED_DATA:
                    data = await stream.receive_some()
                    if not data:
                        return
                    session.receive_data(bytes(data))
                assert not isinstance(command, Bad)
                self.asked.append(command)
                if answer == "close":
                    return
                if answer == "hang":
                    await trio.sleep_forever()
                await stream.send_all(answer if isinstance(answer, bytes) else session.send(answer))
            await stream.receive_some()


async def test_endpoints_are_tried_in_order(nursery: trio.Nursery) -> None:
    server = Server(nursery, [SIZE])
    server.down = {ONE}
    client = await Client.connect(server.dial, AGENT, MSRAP)
    assert await client.ask(ASK) == SIZE
    assert server.dialled == [ONE, TWO]
    await client.aclose()


async def test_where_none_answers_it_says_so(nursery: trio.Nursery) -> None:
    server = Server(nursery)
    server.down = {ONE, TWO}
    with pytest.raises(PeerError, match="connection refused"):
        await Client.connect(server.dial, AGENT, MSRAP)


async def test_connecting_has_15_seconds_each_and_an_answer_60(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(nursery, ["hang"])
    server.dead = {ONE}
    client = await Client.connect(server.dial, AGENT, MSRAP)
    assert trio.current_time() == pytest.approx(15)
    with pytest.raises(PeerError, match="60 s"):
        await client.ask(ASK)
    assert trio.current_time() == pytest.approx(75)
    assert not client.open


async def test_an_error_status_is_an_answer_and_the_session_goes_on(nursery: trio.Nursery) -> None:
    server = Server(nursery, [MSRAP.error("errornosuchmessage"), SIZE])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    assert (await client.ask(ASK)).status is Status.errornosuchmessage
    assert await client.ask(ASK) == SIZE
    assert len(server.dialled) == 1
    await client.aclose()


@pytest.mark.parametrize("octets", [b"\x00\x00\x00\x02\x30\x00", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_bad_response_ends_the_session(nursery: trio.Nursery, octets: bytes) -> None:
    server = Server(nursery, [octets])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    with pytest.raises(PeerError, match="bad response"):
        await client.ask(ASK)
    assert not client.open


@pytest.mark.parametrize("end", ["close", "late", STOPS])
async def test_a_session_that_served_before_and_is_lost_is_replaced_once(nursery: trio.Nursery, end: Any) -> None:
    server = Server(nursery, [SIZE, end], [SIZE])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    assert await client.ask(ASK) == SIZE
    await trio.testing.wait_all_tasks_blocked()
    assert await client.ask(ASK) == SIZE
    assert len(server.dialled) == 2
    await client.aclose()


async def test_it_is_not_replaced_twice_and_a_new_one_not_at_all(nursery: trio.Nursery) -> None:
    server = Server(nursery, ["close"], [SIZE, "close"], ["close"])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    with pytest.raises(PeerError):
        await client.ask(ASK)
    assert await client.ask(ASK) == SIZE
    with pytest.raises(PeerError):
        await client.ask(ASK)
    assert len(server.dialled) == 3


async def test_a_session_that_somebody_logged_in_on_is_not_replaced(nursery: trio.Nursery) -> None:
    server = Server(nursery, [msrap.Response(False, Status.noerror, Authenticated()), "close"], [SIZE])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    await client.ask(Authenticate("bob", "secret"))
    for _ in range(2):
        with pytest.raises(PeerError):
            await client.ask(ASK)
    assert len(server.dialled) == 1


async def test_a_caller_who_gives_up_leaves_no_half_session(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(nursery, ["hang"], [SIZE])
    client = await Client.connect(server.dial, AGENT, MSRAP)
    with trio.move_on_after(1):
        await client.ask(ASK)
    assert not client.open
    assert await client.ask(ASK) == SIZE
    await client.aclose()
