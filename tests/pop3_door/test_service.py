"""The service on real sockets: caps, deadlines, TLS, garbage, and the drain."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forwarder.bridges import Item
from forwarder.model import Peer
from forwarder.testing import MemoryLog, MemoryReader
from forwarder_pop3_door.door import Caps, Door, Pop3Options
from forwarder_pop3_door.visit import IDLE, WRITE, Visit

from .conftest import Certified, OpenDoor
from .house import BUN, TEA, Mailbag, Room, Talk

# -- caps


async def test_who_is_one_too_many_is_told_so(open_door: OpenDoor) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA), sessions=2) as opened:
            first, _ = await opened.enter(), await opened.enter()
            third = await opened.knock()
            assert await third.line() == "-ERR [SYS/TEMP] too many sessions, try again later"
            assert await third.line() == ""
            assert ("too many sessions", {"peer": "127.0.0.1"}) in opened.log.lines
            assert await first.ask("QUIT") == "+OK bye"
            assert await first.line() == ""
            await trio.testing.wait_all_tasks_blocked()
            assert opened.door.sessions == 1
            await opened.enter()


def test_one_address_may_not_take_all_but_our_own_machine_may() -> None:
    caps = Caps(most=6, per_address=2)
    assert [caps.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert caps.enter("192.0.2.2")
    assert [caps.enter("127.0.0.1") for _ in range(3)] == [True, True, True]
    assert not caps.enter("192.0.2.2"), "six are here"
    caps.leave("192.0.2.1")
    assert caps.enter("192.0.2.1")


def test_a_network_of_ipv6_that_one_client_commands_is_one_address() -> None:
    caps = Caps(most=6, per_address=2)
    assert [caps.enter(f"2001:db8::{n}") for n in range(1, 4)] == [True, True, False]
    assert caps.enter("2001:db8:0:1::1")
    caps.leave("2001:db8::2")
    assert caps.enter("2001:db8::4")
    assert [caps.enter("::1") for _ in range(3)] == [True, True, True], "our own machine"


def test_addresses_of_ipv4_that_come_as_ipv6_are_each_their_own_and_a_zone_is_no_address() -> None:
    caps = Caps(most=9, per_address=2)
    assert [caps.enter("::ffff:192.0.2.1") for _ in range(3)] == [True, True, False]
    assert caps.enter("::ffff:192.0.2.2")
    assert [caps.enter(f"fe80::{n}%eth0") for n in range(1, 4)] == [True, True, False]
    caps.leave("fe80::1%eth0")
    assert caps.enter("fe80::9%eth0")


async def test_who_comes_by_a_unix_socket_is_on_this_machine(nursery: trio.Nursery, tmp_path: Path) -> None:
    made = trio.socket.socket(trio.socket.AF_UNIX)
    await made.bind(str(tmp_path / "pop3"))
    made.listen()
    log = MemoryLog()
    door = Door(Pop3Options(), Mailbag(TEA), [trio.SocketListener(made)], log=log)
    nursery.start_soon(door.run, lambda: None)
    with trio.fail_after(10):
        async with await trio.open_unix_socket(str(tmp_path / "pop3")) as stream:
            talk = Talk(stream)
            await talk.line()
            await talk.ask("USER brian")
            assert await talk.ask("PASS right") == "+OK 1 messages"
            assert log.lines[0][1]["peer"] == "127.0.0.1"


@pytest.mark.parametrize("wrong", [{"check_wait": "31s"}, {"buffer": "65MiB"}, {"wait": "5s"}, {"check_wait": 5}])
def test_options_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Pop3Options.model_validate(wrong)


# -- deadlines


async def test_who_sleeps_ten_minutes_is_seen_off_and_nothing_is_removed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(TEA)
    room = Room(nursery, bag)
    talk = await room.enter()
    await talk.ask("DELE 1")
    started = trio.current_time()
    assert await talk.line() == ""
    assert trio.current_time() - started == pytest.approx(IDLE)
    assert bag.done == []


async def test_who_does_not_read_is_cut_off(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    room = Room(nursery, Mailbag(TEA))
    _, theirs = trio.testing.lockstep_stream_pair()
    started = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await Visit(room.house, theirs, Peer("192.0.2.1")).run()
    assert trio.current_time() - started == pytest.approx(WRITE)


async def test_who_shakes_no_hands_is_cut_off(open_door: OpenDoor, certified: Certified) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA), tls=certified.server, secure=True) as opened:
            talk = await opened.knock()
            await talk.stream.send_all(b"USER brian\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                await talk.rest()
            await trio.testing.wait_all_tasks_blocked()
            assert opened.log.lines == [("session ended", {"peer": "127.0.0.1", "why": "BrokenResourceError"})]


# -- TLS


async def secured(talk: Talk, context: ssl.SSLContext) -> Talk:
    stream = trio.SSLStream(talk.stream, context, server_hostname="localhost", https_compatible=True)
    await stream.do_handshake()
    return Talk(stream)


async def test_tls_from_the_first_octet(open_door: OpenDoor, certified: Certified) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA), tls=certified.server, secure=True, clear=False) as opened:
            talk = await secured(await opened.knock(), certified.client)
            assert await talk.line() == "+OK POP3 ready"
            assert "STLS" not in await talk.many("CAPA")
            await talk.ask("USER brian")
            assert (await talk.ask("PASS right")).startswith("+OK")
            assert "\r\n".join([*await talk.many("RETR 1"), ""]).encode() == TEA
            assert await talk.ask("QUIT") == "+OK bye"


async def test_stls_and_only_then_a_password(open_door: OpenDoor, certified: Certified) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA), tls=certified.server, clear=False) as opened:
            talk = await opened.knock()
            await talk.line()
            assert (await talk.ask("USER brian")).startswith("-ERR")
            assert "STLS" in await talk.many("CAPA")
            assert await talk.ask("STLS") == "+OK begin TLS"
            talk = await secured(talk, certified.client)
            can = await talk.many("CAPA")
            assert "STLS" not in can
            assert "SASL PLAIN" in can
            await talk.ask("USER brian")
            assert (await talk.ask("PASS right")).startswith("+OK")


async def test_what_was_slipped_in_before_the_handshake_is_dropped(open_door: OpenDoor, certified: Certified) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA), tls=certified.server) as opened:
            talk = await opened.knock()
            await talk.line()
            await talk.stream.send_all(b"STLS\r\nUSER mallory\r\n")
            assert await talk.line() == "+OK begin TLS"
            talk = await secured(talk, certified.client)
            assert await talk.ask("PASS right") == "-ERR USER first"


# -- the drain


async def test_a_drain_ends_who_is_idle_and_lets_nobody_in(open_door: OpenDoor) -> None:
    with trio.fail_after(10):
        async with open_door(Mailbag(TEA)) as opened:
            talk = await opened.enter()
            opened.door.drain()
            assert await talk.line() == ""
            with pytest.raises(OSError, match="connect"):
                await opened.knock()


async def test_a_drain_lets_an_answer_end(open_door: OpenDoor) -> None:
    bag = Mailbag(TEA)
    begun, on = trio.Event(), trio.Event()
    reach = bag.reach

    async def slowly(item: object) -> bytes:
        begun.set()
        await on.wait()
        return await reach(item)  # type: ignore[arg-type]

    with trio.fail_after(10):
        async with open_door(bag) as opened:
            talk = await opened.enter()
            bag.reach = slowly  # type: ignore[method-assign]
            await talk.say("RETR 1")
            await begun.wait()
            opened.door.drain()
            on.set()
            assert (await talk.line()).startswith("+OK")
            assert "\r\n".join([*await talk.lines(), ""]).encode() == TEA
            assert await talk.line() == ""


async def test_a_drain_lets_a_quit_commit(open_door: OpenDoor) -> None:
    bag = Mailbag(TEA)
    begun, on = trio.Event(), trio.Event()
    room = bag.items[:]

    class Slow(MemoryReader):
        async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
            begun.set()
            await on.wait()
            await super().done(items, gone)

    bag.reader = lambda account: Slow(bag, account)  # type: ignore[method-assign,misc,assignment]
    with trio.fail_after(10):
        async with open_door(bag) as opened:
            talk = await opened.enter()
            await talk.ask("DELE 1")
            await talk.say("QUIT")
            await begun.wait()
            opened.door.drain()
            on.set()
            assert await talk.line() == "+OK bye"
            assert bag.done == [(room, [])]


# -- garbage


WORDS = [
    *(b"USER brian\r\n", b"PASS right\r\n", b"RETR 1\r\n", b"TOP 1 1\r\n", b"DELE 1\r\n", b"RSET\r\n", b"LIST\r\n"),
    *(
        b"UIDL 1\r\n",
        b"STAT\r\n",
        b"CAPA\r\n",
        b"AUTH PLAIN\r\n",
        b"AGJyaWFuAHJpZ2h0\r\n",
        b"*\r\n",
        b"STLS\r\n",
        b"\r",
    ),
    *(b"\n", b"\0", b"RETR 99999999999999999999\r\n", b"TOP 2 0\r\n", b"x" * 600, b"\xff\xfe\r\n", b"QUIT\r\n"),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=30))
def test_garbage_is_answered_or_ended_and_never_a_fault(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            room = Room(nursery, Mailbag(TEA, BUN))
            talk = await room.come()
            for piece in pieces:
                with contextlib.suppress(trio.BrokenResourceError):
                    await talk.stream.send_all(piece)
            await talk.stream.send_eof()  # type: ignore[attr-defined]
            await talk.rest()
            await trio.testing.wait_all_tasks_blocked()
            assert room.ends == ["clean"]
            assert not room.events("command failed")
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_stream_of_garbage_harms_no_other_session(open_door: OpenDoor) -> None:
    with trio.fail_after(20):
        async with open_door(Mailbag(TEA)) as opened:
            good = await opened.enter()
            for octets in (b"\0" * 100_000, b"\r\n" * 50_000, bytes(range(256)) * 100, b"\x16\x03\x01\x02\0\x01\0\x01"):
                talk = await opened.knock()
                with contextlib.suppress(trio.BrokenResourceError):
                    await talk.stream.send_all(octets)
                    await talk.stream.send_eof()  # type: ignore[attr-defined]
                    await talk.rest()
                await trio.aclose_forcefully(talk.stream)
            assert await good.ask("STAT") == f"+OK 1 {len(TEA)}"
            while opened.door.sessions > 1:
                await trio.testing.wait_all_tasks_blocked()
