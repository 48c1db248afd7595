"""The sans-IO session: what it answers by itself, what it asks, and what it never does."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import forwarder_pop3_door
from forwarder_pop3_door.session import (
    CLOSED,
    LINE,
    MISTAKES,
    NEED_DATA,
    SASL_LINE,
    Credentials,
    Delete,
    Event,
    Names,
    Quit,
    Reset,
    Retrieve,
    Session,
    Sizes,
    StartTls,
    Stat,
    Top,
)


def session(*, clear: bool = True, stls: bool = False, inside: bool = False) -> Session:
    made = Session(clear=clear, stls=stls)
    if inside:
        made.receive_data(b"USER brian\r\nPASS right\r\n")
        assert made.next_event() == Credentials("brian", "right")
        made.logged_in("")
        made.data_to_send()
    return made


def said(one: Session, octets: bytes) -> tuple[Event, str]:
    one.receive_data(octets)
    event = one.next_event()
    return event, one.data_to_send().decode()


def test_a_login() -> None:
    one = session()
    assert said(one, b"USER brian\r\n") == (NEED_DATA, "+OK and the password?\r\n")
    assert said(one, b"pass a long one \r\n")[0] == Credentials("brian", "a long one ")
    one.logged_in("2 messages")
    assert one.data_to_send() == b"+OK 2 messages\r\n"


def test_a_login_by_sasl_at_once() -> None:
    token = b64encode(b"\0brian\0right").decode()
    assert said(session(), f"AUTH PLAIN {token}\r\n".encode())[0] == Credentials("brian", "right")


def test_a_login_by_sasl_when_asked() -> None:
    one = session()
    assert said(one, b"AUTH plain\r\n") == (NEED_DATA, "+ \r\n")
    assert said(one, b64encode(b"brian\0brian\0" + b"p" * 2000) + b"\r\n")[0] == Credentials("brian", "p" * 2000)


@pytest.mark.parametrize("token", [b"*", b"=", b"!!!", b"QQ==", b64encode(b"x\0brian\0right"), b64encode(b"\0\0"), b""])
def test_sasl_that_is_nothing(token: bytes) -> None:
    one = session()
    said(one, b"AUTH PLAIN\r\n")
    event, text = said(one, token + b"\r\n")
    assert event is NEED_DATA
    assert text.startswith("-ERR ")
    assert said(one, b"USER brian\r\n")[1].startswith("+OK")


def test_the_mechanisms_are_told_to_who_asks() -> None:
    assert said(session(), b"AUTH\r\n")[1] == "+OK mechanisms\r\nPLAIN\r\n.\r\n"


@pytest.mark.parametrize("line", ["USER brian", "PASS right", "AUTH PLAIN", "AUTH PLAIN AGEAYQ=="])
def test_no_password_is_taken_in_clear_where_that_is_not_allowed(line: str) -> None:
    event, text = said(session(clear=False, stls=True), f"{line}\r\n".encode())
    assert (event, text) == (NEED_DATA, "-ERR passwords only over TLS\r\n")


def test_capa_says_what_can_be_done_now() -> None:
    def can(one: Session) -> list[str]:
        return said(one, b"CAPA\r\n")[1].split("\r\n")[1:-2]

    always = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"]
    last = "IMPLEMENTATION forwarder"
    assert can(session(clear=False, stls=True)) == [*always, "STLS", last]
    assert can(session(stls=True)) == [*always, "USER", "SASL PLAIN", "STLS", last]
    assert can(session(inside=True, stls=True)) == [*always, "USER", "SASL PLAIN", last]


def test_what_came_before_tls_is_forgotten() -> None:
    one = session(clear=False, stls=True)
    event, text = said(one, b"STLS\r\nUSER mallory\r\nPASS x\r\n")
    assert isinstance(event, StartTls)
    assert text == "+OK begin TLS\r\n"
    one.receive_data(b"NOOP\r\nSTAT\r\n")
    one.secured(clear=True)
    assert one.next_event() is NEED_DATA
    assert one.data_to_send() == b""
    assert said(one, b"PASS x\r\n")[1] == "-ERR USER first\r\n"
    assert said(one, b"STLS\r\n")[1].startswith("-ERR ")


@pytest.mark.parametrize("line", ["STLS"])
def test_no_tls_where_there_is_none(line: str) -> None:
    assert said(session(), f"{line}\r\n".encode())[1].startswith("-ERR ")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("STAT", Stat()),
        ("LIST", Sizes(None)),
        ("list 2", Sizes(2)),
        ("UIDL", Names(None)),
        ("UIDL 2 ", Names(2)),
        ("RETR 0001", Retrieve(1)),
        ("TOP 1 0", Top(1, 0)),
        ("TOP 1 9999999999", Top(1, 10**9)),
        ("DELE 1", Delete(1)),
        ("RSET", Reset()),
        ("QUIT", Quit()),
    ],
)
def test_the_commands(line: str, event: Event) -> None:
    assert said(session(inside=True), f"{line}\r\n".encode()) == (event, "")
    assert said(session(inside=True), f"{line}\n".encode()) == (event, "")


def test_noop() -> None:
    assert said(session(inside=True), b"NOOP\r\n") == (NEED_DATA, "+OK\r\n")


@pytest.mark.parametrize(
    "line",
    [*("", " ", "RETR", "RETR x", "RETR -1", "RETR 1 2", "RETR 99999999999", "RETR \u0661", "TOP 1", "TOP 1 -1", "TOP"),
     *("DELE", "STAT 1", "NOOP 1", "LIST all", "UIDL 1 2", "USER brian", "PASS right", "STLS", "AUTH PLAIN"),
     *("APOP a b", "LAST", "\0\0", "EHLO x", "GET / HTTP/1.1", "RSET 1", "QUIT 1")],
)  # fmt: skip
def test_mistakes_are_told_and_go_on(line: str) -> None:
    one = session(inside=True)
    event, text = said(one, line.encode() + b"\r\n")
    assert event is NEED_DATA
    assert re.fullmatch(r"-ERR [^\r\n]+\r\n", text)
    assert said(one, b"NOOP\r\n")[1] == "+OK\r\n"


@pytest.mark.parametrize("line", ["STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1", "UIDL"])
def test_nothing_is_told_before_the_login(line: str) -> None:
    assert said(session(), f"{line}\r\n".encode())[1] == "-ERR log in first\r\n"


def test_a_line_without_end_ends_the_session() -> None:
    event, text = said(session(inside=True), b"x" * LINE)
    assert (event, text) == (CLOSED, "-ERR the line is too long\r\n")


def test_a_sasl_line_without_end_ends_the_session() -> None:
    one = session()
    said(one, b"AUTH PLAIN\r\n")
    assert said(one, b"x" * (SASL_LINE - 1))[0] is NEED_DATA
    assert said(one, b"x")[0] is CLOSED


def test_mistakes_without_end_end_the_session() -> None:
    one = session()
    event, text = said(one, b"\r\n" * (MISTAKES + 5))
    assert event is CLOSED
    assert text.count("-ERR") == MISTAKES


def test_three_wrong_passwords_end_the_session() -> None:
    one = session()
    for closed in (False, False, True):
        assert isinstance(said(one, b"USER brian\r\nPASS wrong\r\n")[0], Credentials)
        one.refused()
        assert one.data_to_send() == b"-ERR [AUTH] wrong name or password\r\n"
        assert one.closed is closed


def test_pipelined_commands_come_one_by_one_in_order() -> None:
    one = session(inside=True)
    one.receive_data(b"NOOP\r\nRETR 1\r\nDELE 1\r\nNOOP\r\nQUIT\r\nNOOP")
    assert [one.next_event(), one.next_event(), one.next_event()] == [Retrieve(1), Delete(1), Quit()]
    one.bye()
    assert one.next_event() is CLOSED


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n", b"USER x\r\n", b"PASS y\r\n", b"AUTH PLAIN\r\n"]))
    )
)
def test_garbage_is_answered_by_lines_and_held_for_less_than_one(pieces: list[bytes]) -> None:
    one = session()
    octets = b""
    for piece in pieces:
        one.receive_data(piece)
        while (event := one.next_event()) is not NEED_DATA and event is not CLOSED:
            one.err("no")
        octets += one.data_to_send()
        assert one.held < SASL_LINE or one.closed
    assert re.fullmatch(rb"((\+OK|-ERR|\+ )[^\r\n]*\r\n|[A-Z-]+[^\r\n]*\r\n|\.\r\n)*", octets)


def test_no_text_speaks_of_locks_and_waits() -> None:
    """fetchmail takes such a text for a mailbox that is locked (section 8)."""
    folder = Path(forwarder_pop3_door.__file__).parent
    source = "".join((folder / name).read_text() for name in ("session.py", "visit.py", "door.py"))
    texts = re.findall(r"""(?:err|ok|listing|bye|_MistakeError)\(\(?f?"([^"]*)\"""", source) + re.findall(
        r"-ERR[^\"\\]*", source
    )
    assert len(texts) > 20
    assert not [text for text in texts if re.search("lock|wait", text, re.IGNORECASE)]
