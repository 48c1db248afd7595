"""What may be said to the POP3 door by who reaches its port, and what may stand in the messages that it gives.

The pieces a stream comes in change nothing, nothing held grows, each answer is one that a client can read, and what
Python's own client takes out of an answer is the message that went in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import trio
import trio.testing

from forwarder_pop3_door.session import CLOSED, NEED_DATA, RECEIVE, SASL_LINE, Credentials, Quit, Session, StartTls
from forwarder_pop3_door.stuffing import Stuffing

from ..pop3_door.house import BUN, TEA, Mailbag, Room, Talk  # noqa: TID252  # the mailbox in memory that other tests have too
from ..pop3_door.test_stuffing import as_mail, read_by_poplib  # noqa: TID252
from .loop import Loop
from .target import Choices, Target, plain, torn

ANSWER = re.compile(rb"((\+OK|-ERR)( [ -~]{1,200})?\r\n|\+ \r\n|[A-Z0-9-]+( [A-Za-z]+)?\r\n|\.\r\n)*")
LOGIN = b"USER brian\r\nPASS right\r\n"
TALKS = [
    LOGIN + b"STAT\r\nLIST\r\nUIDL 1\r\nRETR 1\r\nTOP 2 1\r\nDELE 1\r\nRSET\r\nNOOP\r\nQUIT\r\n",
    b"CAPA\r\nSTLS\r\nAUTH PLAIN\r\nAGJyaWFuAHJpZ2h0\r\nLIST 2\r\nDELE 2\r\nQUIT\r\n",
    b"AUTH PLAIN AGJyaWFuAHJpZ2h0\r\nRETR 3\r\nDELE 4\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n",
]
WORDS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"USER ",
        b"PASS ",
        LOGIN,
        b"AUTH PLAIN",
        b"AUTH PLAIN =\r\n",
        b"*\r\n",
        b"STLS\r\n",
    ),
    *(
        b"STAT\r\n",
        b"LIST ",
        b"UIDL ",
        b"RETR ",
        b"TOP 1 ",
        b"DELE ",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"1",
        b"2",
        b"99999999999",
    ),
]
BODIES = [TEA, BUN, b"\r\n.\r\n..\r\n", b"a\n.\nb\r\r\n", b""]
DOTS = [b".", b"..", b"\r\n.\r\n", b"\n.\n", b"\r", b"\n", b"\r\r\n", b"\r\n\r\n", b"\0", b"\xff"]


def said_to(pieces: Iterable[bytes]) -> tuple[list[Any], bytes]:
    """What a session makes of a stream; "right" is everybody's password."""
    session = Session(clear=True, stls=True)
    session.greet()
    events: list[Any] = []
    for piece in pieces:
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA and event is not CLOSED:
            events.append(event)
            if isinstance(event, Credentials):
                session.logged_in("") if event.password == "right" else session.refused()
            elif isinstance(event, Quit):
                session.bye()
            elif not isinstance(event, StartTls):
                session.ok()
        assert session.closed or session.held < SASL_LINE
    return events, session.data_to_send()


def session(octets: bytes) -> None:
    choices, stream = Choices(octets[:8]), octets[8:]
    events, answers = said_to(torn(stream, choices))
    assert ANSWER.fullmatch(answers), answers
    if not any(isinstance(event, StartTls) for event in events):  # what was sent with it is dropped, so pieces matter
        assert (events, answers) == said_to(stream[at : at + RECEIVE] for at in range(0, len(stream), RECEIVE))


def body(octets: bytes) -> None:
    """Lines that poplib refuses for their length do not fit into an input."""
    choices, message = Choices(octets[:8]), octets[8:]
    lines = choices.below(4)
    for most in (None, lines):
        stuffing, whole = Stuffing(most), Stuffing(most)
        sent = b"".join(stuffing.feed(piece) for piece in torn(message, choices)) + stuffing.end()
        assert sent == whole.feed(message) + whole.end()
        found, rest = read_by_poplib(sent)
        assert not rest
        assert found == as_mail(message) if most is None else as_mail(message).startswith(found)


async def _visits(nursery: trio.Nursery, folder: Path) -> Callable[[bytes], Any]:
    async def once(octets: bytes) -> None:
        choices, stream = Choices(octets[:8]), octets[8:]
        bag = Mailbag(TEA, BUN, BUN * 10)
        bag.put(TEA, "dead.example")
        bag.down = {"dead.example"} if choices.below(2) else set()
        bag.commit = OSError("disk full") if not choices.below(8) else None
        bag.slice = 40 + choices.below(200)
        for item in bag.items:
            fate = choices.below(6)
            if fate == 1:
                bag.torn[item.notification.identifier] = choices.below(100)
            elif fate == 2:
                del bag.bodies[item.notification.identifier]
        async with trio.open_nursery() as visits:
            room = Room(visits, bag, check_wait=0.01, buffer=1 + choices.below(1000))
            await _visit(await room.come(), stream)
            await room.over.wait()
            assert room.ends[0] in ("clean", "CutOff", "BrokenResourceError"), room.ends
            faults = [fields for fields in room.events("command failed") if "disk full" not in fields["error"]]
            assert not faults, faults
            visits.cancel_scope.cancel()

    return once


async def _visit(talk: Talk, stream: bytes) -> None:
    try:
        await talk.stream.send_all(stream)
        await talk.stream.send_eof()  # type: ignore[attr-defined]
        answers = await talk.rest()
    except trio.BrokenResourceError:
        return
    assert len(answers) < 1 << 20


def _target(name: str, once: Callable[[bytes], None], seeds: list[bytes], words: list[bytes]) -> Target:
    return Target(name, plain(once), [bytes(range(8)) + seed for seed in seeds], words, 2000)


TARGETS = [
    _target("pop3_session", session, TALKS, WORDS),
    _target("pop3_body", body, BODIES, DOTS),
    Target("pop3_visit", lambda: Loop(_visits, 400), [bytes(8) + talk for talk in TALKS], WORDS, 600),
]
