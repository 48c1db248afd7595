"""What an LMTP peer says and is told, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.model import Mailbox
from forwarder_smtp_bridge.events import (
    NEED_DATA,
    DataBegins,
    DataEnds,
    Ended,
    Event,
    LocalError,
    Mail,
    Piece,
    Rcpt,
    Reset,
)
from forwarder_smtp_bridge.lmtp import ERRORS, GO_AHEAD, LINE, OK, RECIPIENTS, Session
from forwarder_smtp_bridge.outcomes import Reply

from .lmtp_talk import HOST, MAX_SIZE, TAKEN, answers, in_data, said, session, settled

MAIL = b"MAIL FROM:<a@x.example>\r\n"
RCPT = b"RCPT TO:<b@pobox.example>\r\n"
B = Mailbox("b", "pobox.example")
NO = Reply(550, "5.1.1", "no such mailbox")


def test_a_session_of_two_messages() -> None:
    talk = Session(HOST, MAX_SIZE)
    assert answers(talk) == [f"220 {HOST} LMTP"]
    assert said(talk, b"lhlo client\r\n") == []
    assert answers(talk) == [
        f"250-{HOST}",
        "250-PIPELINING",
        f"250-SIZE {MAX_SIZE}",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250 ENHANCEDSTATUSCODES",
    ]
    for _ in range(2):
        events = said(talk, b"Mail From:<a@x.example> SIZE=9 BODY=8BITMIME\r\n" + RCPT + b"DATA\r\nhello\r\n.\r\n")
        whole = [Mail("a@x.example", 9, True), Rcpt(B), DataBegins((B,)), Piece(b"hello\r\n"), DataEnds(7)]
        assert events == whole
        assert answers(talk) == ["250 2.0.0 ok"] * 2 + ["354 end data with CR LF . CR LF", "250 2.1.5 taken"]
    assert said(talk, b"QUIT\r\n") == [Ended("quit")]
    assert answers(talk) == ["221 2.0.0 bye"]
    assert talk.closed
    assert said(talk, MAIL) == []


def test_one_line_after_the_dot_for_each_recipient_that_was_taken_in_order() -> None:
    talk = session()
    names = [f"u{n}" for n in range(5)]
    talk.receive_data(MAIL + b"".join(b"RCPT TO:<%s@pobox.example>\r\n" % name.encode() for name in names))
    settled(talk, lambda event: NO if event == Rcpt(Mailbox("u2", "pobox.example")) else OK)
    talk.receive_data(b"DATA\r\n.\r\n")
    assert talk.next_event() == DataBegins(tuple(Mailbox(n, "pobox.example") for n in names if n != "u2"))
    talk.reply(GO_AHEAD)
    assert talk.next_event() == DataEnds(0)
    answers(talk)
    four = [TAKEN, Reply(452, "4.2.2", "full"), NO, TAKEN]
    for wrong in (four[:3], [*four, TAKEN], [*four[:3], GO_AHEAD]):
        with pytest.raises(LocalError):
            talk.replies(wrong)
        assert answers(talk) == []
    talk.replies(four)
    assert [line[:3] for line in answers(talk)] == ["250", "452", "550", "250"]


def test_or_no_line_at_all_and_the_end() -> None:
    talk = in_data()
    talk.receive_data(b"x\r\n.\r\nNOOP\r\n")
    assert [talk.next_event() for _ in range(2)] == [Piece(b"x\r\n"), DataEnds(3)]
    talk.close(Reply(421, "4.3.2", "shutting down"))
    assert answers(talk) == []
    assert settled(talk) == [Ended("closed")]


def test_in_the_midst_of_a_message_no_last_word_is_said() -> None:
    talk = in_data()
    talk.close(Reply(421, "4.4.2", "timeout"))
    assert answers(talk) == []


def test_what_is_sent_ahead_waits_for_the_decision() -> None:
    talk = session()
    talk.receive_data(MAIL + RCPT + b"NOOP\r\nRSET\r\n")
    assert talk.next_event() == Mail("a@x.example")
    assert talk.next_event() is NEED_DATA
    assert answers(talk) == []
    talk.reply(OK)
    assert talk.next_event() == Rcpt(B)
    assert talk.next_event() is NEED_DATA
    talk.reply(NO)
    assert talk.next_event() == Reset()
    assert [line[:3] for line in answers(talk)] == ["250", "550", "250", "250"]


def test_pipelined_behind_a_refused_mail_all_is_refused() -> None:
    talk = session()
    said(talk, MAIL + RCPT + RCPT + b"DATA\r\n", lambda event: Reply(452, "4.3.1", "no room"))
    assert [line[:9] for line in answers(talk)] == ["452 4.3.1", "503 5.5.1", "503 5.5.1", "503 5.5.1"]


def test_data_without_a_valid_recipient_is_refused() -> None:
    talk = session()
    said(talk, MAIL + RCPT + b"DATA\r\n", lambda event: NO if isinstance(event, Rcpt) else OK)
    assert answers(talk)[-1] == "503 5.5.1 no valid recipients"


def test_a_message_behind_a_refused_data_is_never_taken_for_commands() -> None:
    talk = session()
    evil = MAIL + b"RCPT TO:<evil@pobox.example>\r\n"
    events = said(
        talk,
        MAIL + RCPT + b"DATA\r\n" + evil + b".\r\n",
        lambda event: Reply(451, "4.3.0", "later") if isinstance(event, DataBegins) else OK,
    )
    assert events[-1] == Ended("commands behind DATA")
    assert answers(talk)[-1].startswith("421 4.5.0")


def test_a_421_by_decision_is_the_last_word() -> None:
    talk = session()
    assert said(talk, MAIL + RCPT, lambda event: Reply(421, "4.3.2", "down")) == [Mail("a@x.example"), Ended("told to")]
    assert answers(talk) == ["421 4.3.2 down"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", "500 5.5.1"),
        (b"HELO x", "500 5.5.1"),
        (b"EHLO x", "500 5.5.1"),
        (b"GET / HTTP/1.1", "500 5.5.1"),
        (b"\x16\x03\x01\x02", "500 5.5.2"),
        (b"LHLO", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example>", "503 5.5.1"),
        (b"RCPT TO:<a@x.example>", "503 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"NOOP", "250 2.0.0"),
        (b"RSET", "250 2.0.0"),
        (b"VRFY b", "252 2.5.0"),
    ],
)
def test_garbage_before_lhlo(line: bytes, answer: str) -> None:
    talk = Session(HOST, MAX_SIZE)
    answers(talk)
    assert said(talk, line + b"\r\n") == []
    assert [said_[:9] for said_ in answers(talk)] == [answer]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"MAIL FROM:<a@x.example> SIZE=1048577", "552 5.3.4"),
        (b"MAIL FROM:<a@x.example> SIZE=x", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> SIZE", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> SIZE=" + b"9" * 21, "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> SIZE=1 SIZE=1", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> BODY=BINARYMIME", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> SMTPUTF8=1", "501 5.5.4"),
        (b"MAIL FROM:<a@x.example> RET=FULL", "555 5.5.4"),
        (b"MAIL FROM:<a@x.example>SIZE=1", "501 5.5.4"),
        (b"MAIL FROM: <a@x.example>", "553 5.1.3"),
        (b"MAIL TO:<a@x.example>", "501 5.5.4"),
        ("MAIL FROM:<é@x.example>".encode(), "553 5.6.7"),
        (b"MAIL FROM:<\xe9@x.example>", "500 5.5.2"),
        (b"MAIL FROM:<a\0@x.example>", "500 5.5.2"),
        (b"MAIL FROM:<a@x.example>\rRSET", "500 5.5.2"),
        (b"LHLO" + b" " * LINE, "500 5.5.2"),
        (b"x" * 70_000, "500 5.5.2"),
        (b"DATA now", "501 5.5.4"),
        (b"RSET now", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
    ],
)
def test_bad_commands(line: bytes, answer: str) -> None:
    talk = session()
    for at in range(0, len(line), 999):
        assert said(talk, line[at : at + 999]) == []
        assert talk.held <= LINE + 999
    said(talk, b"\r\n")
    assert [said_[:9] for said_ in answers(talk)] == [answer]
    said(talk, b"NOOP\r\n")
    assert answers(talk) == ["250 2.0.0 ok"]


def test_a_line_that_ends_with_lf_alone_is_refused_and_hides_nothing() -> None:
    talk = session()
    assert said(talk, b"NOOP\nMAIL FROM:<a@x.example>\nRSET\r\n") == []
    assert [line[:9] for line in answers(talk)] == ["500 5.5.2", "500 5.5.2", "250 2.0.0"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"RCPT TO:<>", "553 5.1.3"),
        (b"RCPT TO:<postmaster>", "553 5.1.3"),
        (b"RCPT TO:<a@[192.0.2.1]>", "550 5.1.2"),
        (b"RCPT TO:<b@pobox.example> NOTIFY=NEVER", "555 5.5.4"),
        (b"RCPT TO:<b@pobox.example>x", "501 5.5.4"),
        (b"RCPT FROM:<b@pobox.example>", "501 5.5.4"),
        ("RCPT TO:<ü@pobox.example>".encode(), "553 5.6.7"),
        (b"MAIL FROM:<a@x.example>", "503 5.5.1"),
    ],
)
def test_bad_recipients_do_not_end_the_transaction(line: bytes, answer: str) -> None:
    talk = session()
    said(talk, MAIL)
    answers(talk)
    assert said(talk, line + b"\r\n") == []
    assert [said_[:9] for said_ in answers(talk)] == [answer]
    assert said(talk, RCPT) == [Rcpt(B)]


def test_non_ascii_with_smtputf8_is_taken() -> None:
    talk = session()
    events = said(talk, "MAIL FROM:<é@bücher.example> SMTPUTF8\r\nRCPT TO:<ü@pobox.example>\r\n".encode())
    assert events == [Mail("é@xn--bcher-kva.example", smtputf8=True), Rcpt(Mailbox("ü", "pobox.example"))]


def test_a_thousand_recipients_and_one_more_later() -> None:
    talk = session()
    said(talk, MAIL)
    for n in range(RECIPIENTS):
        said(talk, b"RCPT TO:<u%d@pobox.example>\r\n" % n)
    assert answers(talk) == ["250 2.0.0 ok"] * (RECIPIENTS + 1)
    assert said(talk, RCPT) == []
    assert answers(talk) == ["452 4.5.3 too many recipients, send the others later"]
    events = said(talk, b"DATA\r\nx\r\n.\r\n")
    assert len(events[0].recipients) == RECIPIENTS if isinstance(events[0], DataBegins) else False
    assert answers(talk)[1:] == ["250 2.1.5 taken"] * RECIPIENTS
    assert said(talk, MAIL + RCPT)[-1] == Rcpt(B)


def test_too_many_errors_end_the_session() -> None:
    talk = session()
    assert said(talk, b"X\r\n" * ERRORS) == []
    assert said(talk, b"X\r\nNOOP\r\n") == [Ended("too many errors")]
    assert answers(talk) == ["500 5.5.1 no such command, this is LMTP"] * ERRORS + ["421 4.7.0 too many errors"]


def test_a_taken_message_forgives_errors() -> None:
    talk = session()
    for _ in range(3):
        said(talk, b"X\r\n" * (ERRORS - 1) + MAIL + RCPT + b"DATA\r\n.\r\n")
    assert not talk.closed


def test_lhlo_and_rset_drop_the_transaction() -> None:
    talk = session()
    for command in (b"RSET\r\n", b"LHLO again\r\n"):
        assert said(talk, MAIL + RCPT + command)[-1] == Reset()
        assert talk.taken == 0
        assert said(talk, b"RSET\r\n") == []


def test_out_of_turn_is_a_bug_of_ours() -> None:
    talk = session()
    with pytest.raises(LocalError):
        talk.reply(OK)
    with pytest.raises(LocalError):
        talk.replies([])
    talk.receive_data(MAIL)
    talk.next_event()
    with pytest.raises(LocalError):
        talk.reply(GO_AHEAD)


def test_no_text_of_ours_breaks_a_line() -> None:
    talk = session()
    said(talk, MAIL, lambda event: Reply(550, "5.7.1", "no\r\n250 ok é" + "x" * 1000))
    [line] = answers(talk)
    assert line.startswith("550 5.7.1 no??250 ok ?xxx")
    assert len(line) < 510


def _as_asked(event: Event) -> Reply:
    return GO_AHEAD if isinstance(event, DataBegins) else OK


WORDS = [
    b"LHLO x\r\n",
    MAIL,
    RCPT,
    b"DATA\r\n",
    b".\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"MAIL FROM:<",
    b"x" * 3000,
    b'RCPT TO:<"a\\"b"@x.example>\r\n',
]


@settings(max_examples=300, deadline=None)
@given(
    stream=st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=40).map(b"".join),
    size=st.integers(1, 4000),
)
def test_garbage_is_answered_or_ends_the_session_and_nothing_grows(stream: bytes, size: int) -> None:
    talk = Session(HOST, MAX_SIZE)
    for at in range(0, len(stream), size):
        talk.receive_data(stream[at : at + size])
        settled(talk, _as_asked)
        assert talk.held <= LINE + 1
    for line in answers(talk):
        assert line[:3].isdigit()
        assert line[3] in " -"
