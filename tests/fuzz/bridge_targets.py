"""What Postfix, or whoever reaches its sockets, may say to the SMTP bridge: LMTP, socketmap, Dovecot's auth protocol.

The pieces a stream comes in change nothing, nothing held grows, and each answer is one that a client can read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from forwarder_smtp_bridge import dots, dovecot_auth, lmtp, socketmap
from forwarder_smtp_bridge.dovecot_auth import AuthSession, Credentials
from forwarder_smtp_bridge.events import NEED_DATA, DataBegins, DataEnds, Ended, Mail, Piece, Rcpt
from forwarder_smtp_bridge.lmtp import GO_AHEAD, OK, Session
from forwarder_smtp_bridge.outcomes import Refused, Reply
from forwarder_smtp_bridge.paths import bare_mailbox
from forwarder_smtp_bridge.socketmap import Malformed, MapSession

from .target import Choices, Target, plain, torn

RECEIVE = 4096
LIMIT = 500
NO = Reply(550, "5.1.1", "no such mailbox")
REPLY = re.compile(r"[2345][0-9][0-9][ -][ -~]{0,508}")
AUTH_LINE = re.compile(r"(VERSION|MECH|SPID|CUID|COOKIE|DONE|OK|CONT|FAIL)(\t[^\n]*)?")


def lmtp_talk(pieces: Iterable[bytes]) -> tuple[list[Any], bytes]:
    """What a session makes of a stream, pieces of a message put together; odd recipients are refused."""
    session, asked = Session("mx.example", LIMIT, recipients=5), 0
    events: list[Any] = []
    for piece in pieces:
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            if isinstance(event, Piece) and events and isinstance(events[-1], bytes):
                events[-1] += event.octets
            else:
                events.append(event.octets if isinstance(event, Piece) else event)
            if isinstance(event, Rcpt):
                asked += 1
                session.reply(NO if asked % 3 == 2 else OK)
            elif isinstance(event, Mail | DataBegins):
                session.reply(GO_AHEAD if isinstance(event, DataBegins) else OK)
            elif isinstance(event, DataEnds):
                session.replies([OK, NO, OK, OK, NO][: session.taken])
        assert session.held <= lmtp.LINE + 1
        assert not session.closed or isinstance(events[-1], Ended)
    return events, session.data_to_send()


def lmtp_session(octets: bytes) -> None:
    choices = Choices(octets[:8])
    stream = octets[8:]
    events, said = lmtp_talk(torn(stream, choices))
    again = lmtp_talk(stream[at : at + RECEIVE] for at in range(0, len(stream), RECEIVE))
    if Ended("commands behind DATA") not in again[0]:
        sizes_aside = [event for event in events if not isinstance(event, bytes)]
        assert sizes_aside == [event for event in again[0] if not isinstance(event, bytes)]
        assert said == again[1]
    for line in said.decode("ascii").split("\r\n")[:-1]:
        assert REPLY.fullmatch(line), line
    sound(events)


def sound(events: list[Any]) -> None:
    """A message is as long as it says, and its end is what it says."""
    for before, event in zip([b"", *events], events, strict=False):
        if isinstance(event, DataEnds):
            assert len(before if isinstance(before, bytes) else b"") == event.size <= LIMIT


def asked(session: MapSession | AuthSession, most: int, pieces: Iterable[bytes], answer: Callable[[Any], None]) -> Any:
    """All questions of a stream, and whether it ended badly."""
    questions: list[Any] = []
    for piece in pieces:
        for at in range(0, len(piece), RECEIVE):
            session.receive_data(piece[at : at + RECEIVE])
            try:
                while (question := session.next_question()) is not None:
                    questions.append(question)
                    answer(question)
            except Malformed:
                return questions, True
            assert session.held < most + RECEIVE
    return questions, False


def not_found(session: MapSession, question: object) -> None:
    session.answer("NOTFOUND ")


def socketmap_session(octets: bytes) -> None:
    stream, said = octets[8:], []
    for pieces in (torn(stream, Choices(octets[:8])), [stream]):
        session = MapSession()
        questions, _ = asked(session, socketmap.REQUEST, pieces, partial(not_found, session))
        assert session.data_to_send() == b"9:NOTFOUND ," * len(questions)
        said.append(questions)
    assert said[0] == said[1]
    for question in said[0]:
        try:
            mailbox = bare_mailbox(question.key)
        except Refused:
            continue
        assert bare_mailbox(str(mailbox)) == mailbox


def verified(session: AuthSession, question: Credentials) -> None:
    session.answer(question, {"bob": True, "anna": None}.get(question.login, False))


def auth_session(octets: bytes) -> None:
    stream, said = octets[8:], []
    for pieces in (torn(stream, Choices(octets[:8])), [stream]):
        session = AuthSession(1, 1, "cookie")

        questions, bad = asked(session, dovecot_auth.LINE, pieces, partial(verified, session))
        lines = session.data_to_send()
        for line in lines.decode().split("\n")[:-1]:
            assert AUTH_LINE.fullmatch(line), line
        said.append((questions, bad, lines))
    assert said[0] == said[1]


def net(octets: bytes) -> bytes:
    return b"%d:%b," % (len(octets), octets)


MESSAGE = b"MAIL FROM:<a@x.example> SIZE=9\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<c@y.example>\r\nDATA\r\n"
LMTP_SEEDS = [
    b"LHLO x\r\n" + MESSAGE + b"S: x\r\n\r\n..dot\r\n.\r\n" + MESSAGE + b".\r\nQUIT\r\n",
    b'LHLO x\r\nMAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<"a b"@y.example>\r\nRSET\r\nNOOP\r\nVRFY x\r\n',
    b"LHLO x\r\n" + MESSAGE + b"x" * LIMIT + b"\n.\r\n\r\n.\n\r\r\n.\r\n" + MESSAGE + b"\r\n.\r\n",
    b"HELO x\r\nGET /\r\nMAIL FROM:<@r.example:a@x.example>\nRCPT TO:<\xc3\xa9@y.example>\r\n" + b"y" * 2100 + b"\r\n",
]
LMTP_WORDS = [
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n",
    b"\r",
    b"\0",
    MESSAGE,
    b"LHLO x\r\n",
    b" SMTPUTF8",
    b"DATA\r\n",
    b"<>",
    b'"',
]
MAP_SEEDS = [net(b"access b@pobox.example") + net(b'logins "a b"@x.example') + net("access é@x.example".encode())]
HELLO = b"VERSION\t1\t1\nCPID\t7\n"
AUTH_SEEDS = [
    HELLO + b"AUTH\t1\tPLAIN\tservice=smtp\trip=192.0.2.1\tresp=AGJvYgByaWdodA==\n",
    HELLO + b"AUTH\t2\tPLAIN\tservice=smtp\nCONT\t2\tAGFubmEAcmlnaHQ=\nAUTH\t3\tLOGIN\n",
]


def _target(name: str, once: Callable[[bytes], None], seeds: list[bytes], words: list[bytes]) -> Target:
    return Target(name, plain(once), [bytes(range(8)) + seed for seed in seeds], words, most=3 * dots.PIECE // 32)


TARGETS = [
    _target("lmtp", lmtp_session, LMTP_SEEDS, LMTP_WORDS),
    _target("socketmap", socketmap_session, MAP_SEEDS, [b"access ", b"0:,", b",", b"@", b'"']),
    _target("dovecot_auth", auth_session, AUTH_SEEDS, [HELLO, b"\t", b"AUTH\t1\tPLAIN\t", b"resp=", b"CONT\t1\t"]),
]
