"""What Postfix asks and is answered: by its own postmap where it is installed, and octet by octet."""

from __future__ import annotations

import base64
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.model import Mailbox
from forwarder.plugin import PeerError
from forwarder.testing import MemoryLog
from forwarder_smtp_bridge.dovecot_auth import LATER, LINE, WRONG, AuthSession, Credentials
from forwarder_smtp_bridge.outcomes import TABLE, Kind, kind_of, map_answer, reply_of
from forwarder_smtp_bridge.postfix import Door, postfix_auth, postfix_map
from forwarder_smtp_bridge.socketmap import ANSWER, REQUEST, Malformed, MapSession, Question

needs_postmap = pytest.mark.skipif(
    shutil.which("postmap") is None, reason="Postfix is not installed: nothing is known of its socketmap client"
)
HELLO_LINES = 6


# -- the table


@pytest.mark.parametrize(
    ("kind", "at_rcpt", "by_lmtp"),
    [
        ("taken", "OK DUNNO", "250 2.1.5"),
        ("off", "OK 450 4.2.1", "450 4.2.1"),
        ("broken", "TEMP", "451 4.3.0"),
        ("full", "OK DUNNO", "452 4.2.2"),
        ("busy", "OK DUNNO", "451 4.3.2"),
        ("disk low", "OK DUNNO", "452 4.3.1"),
        ("unknown", "OK 550 5.1.1", "550 5.1.1"),
        ("moved", "OK 550 5.1.6", "550 5.1.6"),
        ("moved to", "OK 551 5.1.6", "551 5.1.6"),
        ("refused", "OK 550 5.7.1", "550 5.7.1"),
        ("elsewhere", "OK DUNNO", "550 5.7.1"),
        ("loop", "OK DUNNO", "554 5.4.6"),
        ("too big", "OK DUNNO", "552 5.3.4"),
        ("malformed", "OK 550 5.1.3", "550 5.1.3"),
        ("fault", "TEMP", None),
    ],
)
def test_each_outcome_by_the_map_and_by_lmtp(kind: Kind, at_rcpt: str, by_lmtp: str | None) -> None:
    assert map_answer(kind).startswith(at_rcpt)
    reply = reply_of(kind)
    assert (None if reply is None else bytes(reply).decode()[:9]) == by_lmtp


def test_the_table_has_no_other_row() -> None:
    assert len(TABLE) == 15


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *[(0, "taken"), (1, "taken"), (2, "taken"), (3, "taken"), (15, "taken"), (16, "moved"), (32, "broken")],
        *[(33, "full"), (34, "broken"), (35, "busy"), (48, "unknown"), (49, "refused"), (50, "loop"), (51, "refused")],
        *[(52, "loop"), (53, "refused"), (63, "refused"), (64, "broken"), (10**9, "broken"), (-1, "broken")],
    ],
)
def test_codes_of_the_protocol_have_their_rows(code: int, kind: Kind) -> None:
    assert kind_of(code) == kind


def test_a_text_of_somebody_elses_stays_on_its_line() -> None:
    assert map_answer("moved to", "try <new@x.example>\r\n250 é") == "OK 551 5.1.6 try <new@x.example>??250 ?"


# -- services on unix sockets


PEOPLE: dict[str, tuple[Kind, str]] = {
    "b@pobox.example": ("taken", ""),
    "off@pobox.example": ("off", ""),
    "moved@pobox.example": ("moved to", "try <new@x.example>"),
    "broken@pobox.example": ("broken", ""),
    "a b@pobox.example": ("taken", ""),
}


async def access(mailbox: Mailbox) -> tuple[Kind, str]:
    if mailbox.localpart == "bug":
        raise ZeroDivisionError
    if mailbox.localpart == "hang":
        await trio.sleep_forever()
    if mailbox.localpart == "broken":
        raise PeerError("addresses/pobox.example/broken.toml:1: it is broken")
    return PEOPLE.get(f"{mailbox.localpart}@{mailbox.domain}", ("unknown", ""))


async def logins(mailbox: Mailbox) -> Sequence[str] | None:
    return {"b": ("bob", "anna"), "odd": ("a b", "c,d", "bob"), "unsure": None, "wide": ("x" * 1000,) * 200}.get(
        mailbox.localpart, ()
    )


@asynccontextmanager
async def on_socket(serve: Callable[[trio.SocketStream], Awaitable[None]], path: Path) -> AsyncIterator[None]:
    plain = socket.socket(socket.AF_UNIX)
    plain.bind(str(path))
    plain.listen()
    plain.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(trio.socket.from_stdlib_socket(plain))])
        yield
        nursery.cancel_scope.cancel()


async def postmap(path: Path, table: str, key: str) -> tuple[int, str, str]:
    command = ["postmap", "-q", key, f"socketmap:unix:{path}:{table}"]
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    return done.returncode, done.stdout.decode().strip(), done.stderr.decode()


@needs_postmap
async def test_postmap_reads_every_answer(tmp_path: Path) -> None:
    path = tmp_path / "map"
    async with on_socket(postfix_map(access, logins, MemoryLog()).serve, path):
        asked = {
            ("access", "b@pobox.example"): "DUNNO",
            ("access", "off@pobox.example"): "450 4.2.1 mailbox is switched off for now",
            ("access", "nobody@pobox.example"): "550 5.1.1 no such mailbox",
            ("access", "moved@pobox.example"): "551 5.1.6 try <new@x.example>",
            ("access", '"a b"@pobox.example'): "DUNNO",
            ("access", "a..b@pobox.example"): "550 5.1.3 bad address syntax",
            ("access", "x" * 3000): "550 5.1.3 bad address syntax",
            ("logins", "b@pobox.example"): "bob,anna",
            ("logins", "odd@pobox.example"): "bob",
        }
        for (table, key), answer in asked.items():
            assert await postmap(path, table, key) == (0, answer, ""), key
        for key in ("nobody@pobox.example", "x"):
            assert await postmap(path, "logins", key) == (1, "", "")


@needs_postmap
@pytest.mark.parametrize(
    ("table", "key", "why"),
    [
        ("access", "broken@pobox.example", "temporary"),
        ("access", "bug@pobox.example", "temporary"),
        ("access", "hang@pobox.example", "temporary"),
        ("logins", "unsure@pobox.example", "temporary"),
        ("logins", "wide@pobox.example", "temporary"),
        ("elsewhere", "b@pobox.example", "permanent"),
    ],
)
async def test_postmap_is_told_that_we_do_not_know(tmp_path: Path, table: str, key: str, why: str) -> None:
    path = tmp_path / "map"
    async with on_socket(postfix_map(access, logins, MemoryLog(), wait=0.05).serve, path):
        code, answer, complaint = await postmap(path, table, key)
    assert (code, answer) == (1, "")
    assert f"socketmap server {why} error" in complaint


@needs_postmap
async def test_postmap_asks_many_on_one_connection(tmp_path: Path) -> None:
    path, keys = tmp_path / "map", [f"u{n}@pobox.example" for n in range(500)] + ["b@pobox.example"]
    async with on_socket(postfix_map(access, logins, MemoryLog()).serve, path):
        command = ["postmap", "-q", "-", f"socketmap:unix:{path}:access"]
        done = await trio.run_process(command, stdin="\n".join(keys).encode(), capture_stdout=True)
    lines = done.stdout.decode().splitlines()
    assert lines == [f"{key}\t550 5.1.1 no such mailbox" for key in keys[:-1]] + ["b@pobox.example\tDUNNO"]


async def talk(door: Door[Any], octets: bytes) -> bytes:
    """What a peer gets that says this and no more."""
    ours, theirs = trio.testing.memory_stream_pair()
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, ours)
        await theirs.send_all(octets)
        await theirs.send_stream.aclose()
        async for piece in theirs.receive_stream:
            got += bytes(piece)
    return got


async def test_a_look_up_that_hangs_is_answered_in_a_second(autojump_clock: trio.testing.MockClock) -> None:
    log = MemoryLog()
    key = b"access hang@pobox.example"
    assert await talk(postfix_map(access, logins, log), b"%d:%b," % (len(key), key)) == b"20:TEMP try again later,"
    assert trio.current_time() == 1.0


async def test_the_log_says_why_we_do_not_know() -> None:
    log, key = MemoryLog(), b"access broken@pobox.example"
    assert await talk(postfix_map(access, logins, log), b"%d:%b," % (len(key), key)) == b"20:TEMP try again later,"
    [(_, fields)] = log.lines
    assert fields["error"] == "addresses/pobox.example/broken.toml:1: it is broken"


async def test_who_comes_when_all_places_are_taken_is_closed() -> None:
    assert await talk(postfix_map(access, logins, MemoryLog(), sessions=0), b"3:a b,") == b""


@pytest.mark.parametrize("peer", [b"", b"3:a"])
async def test_an_idle_peer_is_left(autojump_clock: trio.testing.MockClock, peer: bytes) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(peer)
    await postfix_map(access, logins, MemoryLog()).serve(ours)
    assert trio.current_time() == 300


# -- netstrings


def netstring(octets: bytes) -> bytes:
    return str(len(octets)).encode() + b":" + octets + b","


@settings(max_examples=200, deadline=None)
@given(
    asked=st.lists(st.tuples(st.sampled_from(["access", "logins"]), st.text(max_size=50)), max_size=5),
    size=st.integers(1, 40),
)
def test_questions_come_out_of_any_pieces(asked: list[tuple[str, str]], size: int) -> None:
    stream = b"".join(netstring(f"{table} {key}".encode()) for table, key in asked)
    session, got = MapSession(), []
    for at in range(0, len(stream), size):
        session.receive_data(stream[at : at + size])
        while (question := session.next_question()) is not None:
            got.append(question)
    assert got == [Question(*each) for each in asked]
    assert session.held == 0


@pytest.mark.parametrize(
    "octets", [b"x", b":", b"01:a,", b"-1:", b"3:abc,", b"3:a bx", b"99999", b"4097:", b"1 :", b"GET / HTTP/1.1\r\n"]
)
def test_what_is_no_question_is_an_end(octets: bytes) -> None:
    session = MapSession()
    session.receive_data(octets)
    with pytest.raises(Malformed):
        session.next_question()


def test_a_question_is_bounded_and_so_is_an_answer() -> None:
    session = MapSession()
    session.receive_data(netstring(b"access " + b"x" * (REQUEST - 7)))
    assert session.next_question() is not None
    session.answer("OK " + "x" * ANSWER)
    assert session.data_to_send() == netstring(b"TEMP the answer is too long")


# -- Dovecot's auth protocol


ACCOUNTS = {"bob": "right\u00e9", "anna@x.example": "p w"}


async def verify(login: str, password: str, address: str) -> bool | None:
    if login == "unsure":
        return None
    if login == "hang":
        await trio.sleep_forever()
    if login == "bug":
        raise RuntimeError(password)
    return ACCOUNTS.get(login) == password


def plain(login: str, password: str, given: str = "") -> str:
    return base64.b64encode(f"{given}\0{login}\0{password}".encode()).decode()


def auth(response: str, request: int = 1) -> str:
    return f"AUTH\t{request}\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=192.0.2.7\tsecured\tresp={response}\n"


HELLO = "VERSION\t1\t1\nCPID\t4711\n"


async def told(said: str, door: Door[AuthSession] | None = None) -> list[str]:
    """The lines behind the handshake."""
    answer = await talk(door or postfix_auth(verify, MemoryLog()), said.encode())
    return answer.decode().splitlines()[HELLO_LINES:]


async def test_the_handshake() -> None:
    lines = (await talk(postfix_auth(verify, MemoryLog()), b"")).decode().splitlines()
    assert lines[0] == "VERSION\t1\t1"
    assert lines[1] == "MECH\tPLAIN\tplaintext"
    assert [line.split("\t")[0] for line in lines[2:]] == ["SPID", "CUID", "COOKIE", "DONE"]
    assert len(lines) == HELLO_LINES


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (auth(plain("bob", "right\u00e9")), ["OK\t1\tuser=bob"]),
        (auth(plain("bob", "right\u00e9", given="bob")), ["OK\t1\tuser=bob"]),
        (auth(plain("anna@x.example", "p w"), 7), ["OK\t7\tuser=anna@x.example"]),
        (auth(plain("bob", "wrong")), [f"FAIL\t1\tuser=bob\treason={WRONG}"]),
        (auth(plain("nobody", "right")), [f"FAIL\t1\tuser=nobody\treason={WRONG}"]),
        (auth(plain("unsure", "x")), [f"FAIL\t1\tuser=unsure\ttemp\tcode=temp_fail\treason={LATER}"]),
        (auth(plain("bug", "x")), [f"FAIL\t1\tuser=bug\ttemp\tcode=temp_fail\treason={LATER}"]),
        (auth(plain("bob", "right\u00e9", given="anna@x.example")), [f"FAIL\t1\treason={WRONG}"]),
        (auth(plain("", "x")), [f"FAIL\t1\treason={WRONG}"]),
        (auth(plain("bob", "")), [f"FAIL\t1\treason={WRONG}"]),
        (auth(plain("bob\tuser=root", "x")), [f"FAIL\t1\treason={WRONG}"]),
        (auth(plain("bob\nOK\t1", "x")), [f"FAIL\t1\treason={WRONG}"]),
        (auth(plain("x" * 256, "x")), [f"FAIL\t1\treason={WRONG}"]),
        (auth("!!!"), [f"FAIL\t1\treason={WRONG}"]),
        (auth(base64.b64encode(b"\0\xff\0x").decode()), [f"FAIL\t1\treason={WRONG}"]),
        (auth(base64.b64encode(b"bob\0right").decode()), [f"FAIL\t1\treason={WRONG}"]),
        (auth(""), [f"FAIL\t1\treason={WRONG}"]),
        ("AUTH\t1\tCRAM-MD5\tservice=smtp\n", [f"FAIL\t1\treason={WRONG}"]),
        (f"AUTH\t5\tplain\nCONT\t5\t{plain('bob', 'x')}\n", ["CONT\t5\t", f"FAIL\t5\tuser=bob\treason={WRONG}"]),
        ("SOMETHING\tnew\n" + auth(plain("bob", "right\u00e9")), ["OK\t1\tuser=bob"]),
    ],
)
async def test_auth(said: str, answer: list[str]) -> None:
    assert await told(HELLO + said) == answer


@pytest.mark.parametrize(
    "said",
    [
        "VERSION\t2\t0\n",
        "CPID\t1\n",
        "GET / HTTP/1.1\r\n",
        HELLO + "AUTH\n",
        HELLO + "AUTH\tx\tPLAIN\n",
        HELLO + "CONT\t9\tAAAA\n",
        HELLO + "x" * LINE,
        HELLO + "".join(f"AUTH\t{n}\tPLAIN\n" for n in range(1, 18)),
    ],
)
async def test_what_is_not_the_protocol_ends_the_connection(said: str) -> None:
    log = MemoryLog()
    lines = await told(said + auth(plain("bob", "right\u00e9")), postfix_auth(verify, log))
    assert not any(line.startswith("OK") for line in lines)
    assert [event for event, _ in log.lines] == ["bad request"]


async def test_a_password_is_in_no_log_and_no_repr(autojump_clock: trio.testing.MockClock) -> None:
    log = MemoryLog()
    said = HELLO + "".join(auth(plain(name, "very secret")) for name in ("bob", "bug", "hang", "unsure", "\t"))
    assert len(await told(said, postfix_auth(verify, log))) == 5
    assert trio.current_time() == 1.0
    assert log.lines[0] == ("wrong login or password", {"login": "bob", "peer": "192.0.2.7"})
    assert "secret" not in f"{log.lines} {Credentials('1', 'bob', 'very secret')!r}"


@settings(max_examples=200, deadline=None)
@given(
    stream=st.lists(
        st.sampled_from([HELLO, auth(plain("bob", "x")), "AUTH\t1\tPLAIN\n", "CONT\t1\tAAAA\n", "\t", "\n"])
        | st.text(max_size=9),
        max_size=20,
    ).map("".join),
    size=st.integers(1, 5000),
)
def test_garbage_is_refused_or_ends_the_session_and_nothing_grows(stream: str, size: int) -> None:
    octets = stream.encode()
    for session in (AuthSession(1, 1, "cookie"), MapSession()):
        try:
            for at in range(0, len(octets), size):
                session.receive_data(octets[at : at + size])
                while session.next_question() is not None:
                    pass
                assert session.held <= LINE
        except Malformed:
            continue
