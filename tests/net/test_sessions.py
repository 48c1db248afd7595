"""The pool: what goes wrong with one session ends as "lost" for its own batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from forwarder.model import Endpoint
from forwarder.net.sessions import Pool
from forwarder.ports import Agent, Heard, Lost, Status2004
from forwarder.wire.frames import frame
from forwarder.wire.rnasp import NotifyAnswer, Response, Status, decode_command, encode_response

AGENT = Agent((Endpoint("127.0.0.1", 7101),), "isp.example")
RECEIVED = frame(encode_response(Response(False, Status.noerror, NotifyAnswer())))
STOPS = frame(encode_response(Response(True, Status.errorserviceshutdown)))
Dial = Callable[[Endpoint], Awaitable[trio.SocketStream]]


async def heard(pool: Pool) -> Heard:
    """What a batch of none, the ping, is answered."""
    done, said = trio.Event(), list[Heard]()

    def tell(answer: Heard) -> None:
        said.append(answer)
        done.set()

    pool.send(AGENT, "main", [], tell, redirect=False)
    with trio.fail_after(5):
        await done.wait()
    return said[0]


async def agent(nursery: trio.Nursery, answers: list[bytes], heard: list[bytes] | None = None) -> Dial:
    """Answers each command on a session with the next of `answers`; b"" closes. heard: the commands."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while answers and (octets := await stream.receive_some(4096)):
                if heard is not None:
                    heard.append(bytes(octets[4:]))
                octets = answers.pop(0)
                if not octets:
                    return
                await stream.send_all(octets)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    port = listener.socket.getsockname()[1]

    async def dial(endpoint: Endpoint) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port)

    return dial


async def test_a_session_is_kept_and_used_again(nursery: trio.Nursery) -> None:
    pool = Pool(await agent(nursery, [RECEIVED, RECEIVED]), nursery, name="mx.example")
    assert await heard(pool) == Status2004(received=True)
    assert (pool.idle(AGENT, "main"), pool.count(AGENT, "main")) == (1, 1)
    assert await heard(pool) == Status2004(received=True)
    assert pool.count(AGENT, "main") == 1


async def test_a_batch_lost_on_a_session_that_had_served_is_sent_once_more(nursery: trio.Nursery) -> None:
    pool = Pool(await agent(nursery, [RECEIVED, b"", RECEIVED]), nursery, name="mx.example")
    assert await heard(pool) == Status2004(received=True)
    assert await heard(pool) == Status2004(received=True)


async def test_a_server_that_stops_has_decided_nothing(nursery: trio.Nursery) -> None:
    """On a session that had served the batch goes to another, once; a new one was told "not now", which is no word
    about the batch (5.0: an error status would have each item sent again, singly)."""
    pool = Pool(await agent(nursery, [RECEIVED, STOPS, RECEIVED]), nursery, name="mx.example")
    assert await heard(pool) == Status2004(received=True)
    assert await heard(pool) == Status2004(received=True)
    pool = Pool(await agent(nursery, [STOPS, RECEIVED]), nursery, name="mx.example")
    assert await heard(pool) == Lost("the agent takes nothing now: errorserviceshutdown")
    pool = Pool(await agent(nursery, [RECEIVED, STOPS, STOPS]), nursery, name="mx.example")
    assert await heard(pool) == Status2004(received=True)
    assert isinstance(await heard(pool), Lost)


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\4junk", b"\0\0\0\0"])
async def test_a_first_answer_that_is_none_is_lost(nursery: trio.Nursery, answer: bytes) -> None:
    pool = Pool(await agent(nursery, [answer]), nursery, name="mx.example")
    assert isinstance(await heard(pool), Lost)
    assert pool.count(AGENT, "main") == 0


async def test_a_fault_while_connecting_is_lost_and_the_pool_goes_on(nursery: trio.Nursery) -> None:
    good = await agent(nursery, [RECEIVED])
    bugs = [ValueError("a bug")]

    async def dial(endpoint: Endpoint) -> trio.SocketStream:
        if bugs:
            raise bugs.pop()
        return await good(endpoint)

    pool = Pool(dial, nursery, name="mx.example")
    lost = await heard(pool)
    assert isinstance(lost, Lost)
    assert not lost.connected
    assert await heard(pool) == Status2004(received=True)


async def test_a_fault_of_who_hears_the_answer_does_not_end_the_session(nursery: trio.Nursery) -> None:
    pool = Pool(await agent(nursery, [RECEIVED, RECEIVED]), nursery, name="mx.example")

    def broken(answer: Heard) -> None:
        raise ValueError("a bug")

    pool.send(AGENT, "main", [], broken, redirect=False)
    with trio.fail_after(5):
        while not pool.idle(AGENT, "main"):  # the pool tells nobody else
            await trio.lowlevel.checkpoint()
    assert await heard(pool) == Status2004(received=True)


@pytest.mark.parametrize("redirect", [True, False])
async def test_every_command_carries_our_capabilities_the_second_on_a_session_too(
    nursery: trio.Nursery, redirect: bool
) -> None:
    """They speak for their own PDU (5.0). To follow redirects is offered only where it is meant."""
    commands: list[bytes] = []

    pool = Pool(await agent(nursery, [RECEIVED, RECEIVED], commands), nursery, name="mx.example")
    for _ in range(2):
        done = trio.Event()
        pool.send(AGENT, "main", [], lambda heard, done=done: done.set(), redirect=redirect)  # type: ignore[misc]
        with trio.fail_after(5):
            await done.wait()
    assert pool.count(AGENT, "main") == 1
    for command in commands:
        capabilities = decode_command(command).capabilities
        assert capabilities is not None
        assert capabilities.notifier == "mx.example"
        assert {"results", "moved", "trace"} <= capabilities.features
        assert ("redirect" in capabilities.features) is redirect
    assert len(commands) == 2
