"""A Session driven by hand: what goes in, what was asked, what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from forwarder_smtp_bridge.events import NEED_DATA, DataBegins, DataEnds, Event, Mail, Piece, Rcpt
from forwarder_smtp_bridge.lmtp import GO_AHEAD, OK, Session
from forwarder_smtp_bridge.outcomes import Reply

HOST = "mx.pobox.example"
MAX_SIZE = 1 << 20
TAKEN = Reply(250, "2.1.5", "taken")

Decide = Callable[[Event], Reply]


def session(max_size: int = MAX_SIZE) -> Session:
    """One that has greeted and was greeted."""
    fresh = Session(HOST, max_size)
    said(fresh, b"LHLO client.example\r\n")
    fresh.data_to_send()
    return fresh


def yes(event: Event) -> Reply:
    return GO_AHEAD if isinstance(event, DataBegins) else OK


def settled(session: Session, decide: Decide = yes, after: Decide = lambda event: TAKEN) -> list[Event]:
    """All that happens with what is there; every question is answered."""
    events: list[Event] = []
    while (event := session.next_event()) is not NEED_DATA:
        events.append(event)
        if isinstance(event, Mail | Rcpt | DataBegins):
            session.reply(decide(event))
        elif isinstance(event, DataEnds):
            session.replies([after(event)] * session.taken)
    return events


def said(session: Session, octets: bytes, decide: Decide = yes) -> list[Event]:
    """What happens when these come."""
    session.receive_data(octets)
    return settled(session, decide)


def answers(session: Session) -> list[str]:
    """The lines that the peer got since the last call."""
    return session.data_to_send().decode("ascii").splitlines()


def body(events: Iterable[Event]) -> bytes:
    return b"".join(event.octets for event in events if isinstance(event, Piece))


def in_data(max_size: int = MAX_SIZE) -> Session:
    """A session whose peer was told to send its message to one recipient."""
    open_ = session(max_size)
    said(open_, b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@pobox.example>\r\nDATA\r\n")
    assert answers(open_)[-1].startswith("354")
    return open_
