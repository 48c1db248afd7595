"""The codec, both directions of each protocol, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from forwarder import signature
from forwarder.model import Notification
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU
from forwarder.wire.frames import Frames, frame
from forwarder.wire.notification import decode_notification, encode_notification, hop_tlv, original_tlv, splice
from forwarder.wire.notification import recipient_tlv as recipient
from forwarder.wire.session import (
    MSOAP,
    MSRAP,
    NEED_DATA,
    RNAQP,
    RNASP,
    Bad,
    ClientSession,
    LocalError,
    Protocol,
    ServerSession,
    State,
)

from .pdus import BOB, COMMANDS, HOP, NOTIFICATIONS, RESPONSES, WORDS
from .target import Choices, Target, plain, torn

ROOMS: dict[str, tuple[Any, Protocol]] = {
    "rnasp": (rnasp, RNASP),
    "rnaqp": (rnaqp, RNAQP),
    "msrap": (msrap, MSRAP),
    "msoap": (msoap, MSOAP),
}
FRAME_LIMIT = 64


def again(decode: Any, encode: Any, octets: bytes) -> None:
    """What is read can be written, and is read again as the same."""
    try:
        value = decode(octets)
    except MalformedPDU:
        return
    read = decode(encode(value))
    assert read == value, (value, read)
    assert type(read) is type(value)


def codec(room: Any, octets: bytes) -> None:
    again(room.decode_command, room.encode_command, octets)
    again(room.decode_response, room.encode_response, octets)


def bare(octets: bytes) -> Notification:
    """Without the octets it came in: what is written anew is ours, not theirs."""
    return decode_notification(octets)._replace(raw=b"")


def notification(octets: bytes) -> None:
    again(bare, encode_notification, octets)
    try:
        came = decode_notification(octets)
    except MalformedPDU:
        return
    spliced(came)
    try:
        signature.question(came)
    except signature.WrongSignature:
        return
    if came.signature is not None:
        assert signature.judge(came, []) == "unknown"


def spliced(came: Notification) -> None:
    """A splice changes the recipient and what it adds; a signature covers after it what it covered before."""
    try:
        forwarded = splice(came, recipient(BOB), original=original_tlv(came.recipient), hop=hop_tlv(HOP))
    except MalformedPDU:
        return
    read = decode_notification(forwarded)
    changed: dict[str, Any] = {
        "recipient": BOB,
        "original": came.original or came.recipient,
        "trace": (*came.trace, HOP),
        "hops": min((len(came.trace) if came.hops is None else came.hops) + 1, 255),
        "token": None,
        "raw": forwarded,
    }
    assert read == came._replace(**changed), (came, read)
    if came.signature is not None:
        assert signature.signed_octets(forwarded) == signature.signed_octets(came.raw)


def frames(octets: bytes) -> None:
    """Torn in any way the same PDUs come out, each as it went in."""
    choices = Choices(octets[:8])
    stream = octets[8:]
    read, rest = Frames(FRAME_LIMIT), stream
    for piece in torn(stream, choices):
        read.receive_data(piece)
        try:
            while (pdu := read.next_pdu()) is not None:
                assert rest.startswith(frame(pdu))
                rest = rest[len(frame(pdu)) :]
        except MalformedPDU:
            assert not 0 < int.from_bytes(rest[:4], "big") <= FRAME_LIMIT
            return
    assert read.held == len(rest)
    assert read.inside == bool(rest)


def _server(protocol: Protocol, pieces: Iterator[bytes]) -> list[Any]:
    """What a server makes of a stream; it answers each command."""
    session, events = ServerSession(protocol), []
    for piece in pieces:
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            events.append(event)
            if not isinstance(event, Bad):
                session.send(
                    protocol.error("errornotauthenticated" if protocol is not RNASP else "errorinternalproblem")
                )
            elif event.close:
                assert session.state is State.CLOSED
                assert session.next_event() is NEED_DATA
                return events
    session.receive_eof()
    return events


def server(protocol: Protocol, octets: bytes) -> None:
    """The pieces a stream comes in change nothing; what it makes of garbage a client can read."""
    choices = Choices(octets[:8])
    events = _server(protocol, torn(octets[8:], choices))
    assert events == _server(protocol, iter([octets[8:]] if octets[8:] else []))
    for event in events:
        if isinstance(event, Bad):
            response = protocol.decode_response(event.reply[4:])
            assert response.abort
            assert event.close or response.status.name == "errorunexpectedcommand"


def client(protocol: Protocol, command: bytes, octets: bytes) -> None:
    """Whatever a server says: a response to each command or MalformedPDU, and then the session is over."""
    session, choices = ClientSession(protocol), Choices(octets[:8])
    session.send_pdu(command)
    for piece in torn(octets[8:], choices):
        session.receive_data(piece)
        try:
            event = session.next_event()
        except MalformedPDU:
            assert session.state is State.CLOSED
            break
        if event is NEED_DATA:
            assert session.state is State.BUSY
        elif session.state is State.CLOSED:
            break
        else:
            session.send_pdu(command)
    if session.state is State.CLOSED:
        try:
            session.send_pdu(command)
        except LocalError:
            pass
        else:
            raise AssertionError("a command on a closed session")
    session.receive_eof()


def session(protocol: Protocol, command: bytes, octets: bytes) -> None:
    server(protocol, octets)
    client(protocol, command, octets)


def _streams(name: str, room: Any) -> list[bytes]:
    commands = [frame(room.encode_command(command)) for command in COMMANDS[name]]
    responses = [frame(room.encode_response(response)) for response in RESPONSES[name]]
    return [bytes(8) + b"".join(commands), bytes(range(8)) + b"".join(responses), bytes(8) + commands[0]]


def _targets() -> Iterator[Target]:
    yield Target("frames", plain(frames), [bytes(range(8)) + frame(b"abc") * 3 + frame(bytes(64))], [b"\0\0\0\1", b"@"])
    yield Target("notification", plain(notification), NOTIFICATIONS, WORDS)
    for name, (room, protocol) in ROOMS.items():
        seeds = [room.encode_command(each) for each in COMMANDS[name]]
        seeds += [room.encode_response(each) for each in RESPONSES[name]]
        yield Target(name, plain(partial(codec, room)), seeds, WORDS)
        once = partial(session, protocol, room.encode_command(COMMANDS[name][-1]))
        yield Target(f"{name}_session", plain(once), _streams(name, room), WORDS)


TARGETS = list(_targets())
