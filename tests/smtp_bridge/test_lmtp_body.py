"""The octets of a message come out as they went in, however they are cut, and only CR LF . CR LF ends them."""

from __future__ import annotations

import random
import smtplib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder_smtp_bridge.dots import PIECE
from forwarder_smtp_bridge.events import NEED_DATA, DataEnds, Event, Piece, TooBig
from forwarder_smtp_bridge.lmtp import Session

from .lmtp_talk import answers, body, in_data, said

END = b".\r\n"
TROUBLE = [
    b"\r\n",
    b".",
    b"\r",
    b"\n",
    b"..",
    b"\r\n.",
    b"\n.\n",
    b"\r.\r",
    b"\0",
    b"a",
    b"\xff",
    b"\r\n.\n",
    b"\n.\r\n",
]
BODIES = st.lists(st.sampled_from(TROUBLE) | st.binary(max_size=8), max_size=30).map(b"".join)


def whole(content: bytes) -> bytes:
    """As a client must end it: the last line has its CR LF."""
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """RFC 5321 4.5.2 as it is written: a line that begins with a dot gets another; lines are parted by CR LF alone."""
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in content.split(b"\r\n"))


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(octets[at : at + size])
        at += size
    return [piece for piece in [*pieces, octets[at:]] if piece]


def sent(session: Session, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in said(session, piece)]


@settings(max_examples=500, deadline=None)
@given(content=BODIES, sizes=st.lists(st.integers(1, 9), max_size=60))
def test_what_a_dot_stuffer_sends_comes_out_unchanged(content: bytes, sizes: list[int]) -> None:
    session, content = in_data(), whole(content)
    events = sent(session, cut(stuffed(content) + END, sizes))
    assert body(events) == content
    assert events[-1] == DataEnds(len(content))
    assert answers(session) == ["250 2.1.5 taken"]


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b"")), max_size=9))
def test_what_smtplib_stuffs_comes_out_unchanged(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    session = in_data()
    events = said(session, smtplib._quote_periods(content) + END)  # type: ignore[attr-defined]
    assert body(events) == content


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\n", b"\n.\r", b"\r\r\n.\0"]
)
def test_a_smuggled_end_of_data_ends_nothing(end: bytes) -> None:
    session = in_data()
    smuggled = b"x" + end + b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<b@pobox.example>\r\nDATA\r\nevil\r\n"
    events = said(session, smuggled + END)
    assert [type(event) for event in events] == [Piece, DataEnds]
    assert body(events) == smuggled.replace(b"\r\n.", b"\r\n")
    assert answers(session) == ["250 2.1.5 taken"]


@pytest.mark.parametrize("octets", [b"\0", b"a\rb\nc", b"\r\r\n", b"\n\r", b"\x80\xff", b"\n.\nx", b"\r\n\r\n\r\n"])
def test_bare_cr_and_lf_and_nul_pass_unchanged(octets: bytes) -> None:
    events = said(in_data(), octets + b"\r\n" + END)
    assert body(events) == octets + b"\r\n"


def test_an_empty_message_is_one() -> None:
    assert said(in_data(), END) == [DataEnds(0)]


def test_behind_the_end_the_session_goes_on() -> None:
    session = in_data()
    said(session, b"one\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert answers(session) == ["250 2.1.5 taken", "250 2.0.0 ok", "221 2.0.0 bye"]


def test_a_line_of_70000_octets_comes_in_bounded_pieces() -> None:
    line = random.Random(1).randbytes(70_000).replace(b"\r", b"r").replace(b"\n", b"n") + b"\r\n"
    events = said(in_data(), line + END)
    pieces = [event.octets for event in events if isinstance(event, Piece)]
    assert b"".join(pieces) == line
    assert len(pieces) == 2
    assert max(map(len, pieces)) <= PIECE


def test_25_mib_stream_through_a_session_that_holds_less_than_two_pieces() -> None:
    block, count = (b".dots and text, sixty-two octets to the end of this very line.\r\n" * 1000), 400
    session = in_data(max_size=30 << 20)
    wire = stuffed(block)
    size = 0
    tracemalloc.start()
    for _ in range(count):
        session.receive_data(wire)
        while isinstance(event := session.next_event(), Piece):
            size += len(event.octets)
        assert event is NEED_DATA
        assert session.held < 5
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    last = said(session, END)
    assert last[-1] == DataEnds(size + len(body(last)))
    assert last[-1] == DataEnds(len(block) * count)
    assert held < 5 * PIECE


def test_over_the_limit_each_recipient_gets_its_552_and_the_rest_is_forgotten() -> None:
    session = in_data(max_size=1000)
    said(session, b"x" * 1000)
    assert said(session, b"y") == [TooBig()]
    for _ in range(100):
        assert said(session, b"z" * 10_000) == []
        assert session.held == 0
    assert answers(session) == []
    assert said(session, b"\r\n" + END) == []
    assert answers(session) == ["552 5.3.4 message is too big"]
    assert said(session, b"MAIL FROM:<>\r\n") != []


def test_a_message_of_exactly_the_limit_is_taken() -> None:
    assert said(in_data(max_size=1000), b"x" * 998 + b"\r\n" + END)[-1] == DataEnds(1000)
    assert TooBig() in said(in_data(max_size=1000), b"x" * 999 + b"\r\n" + END)
