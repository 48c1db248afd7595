"""Whose turn it is, for both sides of every protocol (protocol 2)."""

from __future__ import annotations

import pytest

from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU
from forwarder.wire.frames import Frames, frame
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

PING = rnasp.Notify(())
PONG = rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer())
KEY = bytes(16)

EXAMPLES = [
    (RNASP, PING, PONG),
    (
        RNAQP,
        rnaqp.Authenticate("brian", "secret"),
        rnaqp.Response(False, rnasp.Status.noerror, rnaqp.Authenticated()),
    ),
    (MSRAP, msrap.UnPin(KEY), msrap.Response(False, rnasp.Status.noerror, msrap.UnPinned())),
    (MSOAP, msoap.Cancel(KEY), msoap.Response(False, msoap.Status.noerror, msoap.Cancelled())),
]


@pytest.mark.parametrize(("protocol", "command", "response"), EXAMPLES)
def test_a_transaction(protocol: Protocol, command: object, response: object) -> None:
    server, client = ServerSession(protocol), ClientSession(protocol)
    for _ in range(2):
        server.receive_data(client.send(command))
        assert server.next_event() == command
        assert client.next_event() is NEED_DATA
        client.receive_data(server.send(response))
        assert client.next_event() == response
        assert server.next_event() is NEED_DATA
    assert server.receive_eof()
    assert client.receive_eof()
    assert server.state is client.state is State.CLOSED


def ready() -> bytes:
    return frame(rnasp.encode_command(PING))


def test_a_client_that_sends_ahead_is_not_read_before_its_answer_is_out() -> None:
    server = ServerSession(RNASP)
    server.receive_data(ready() * 2)
    assert server.next_event() == PING
    assert server.next_event() is NEED_DATA
    server.send(PONG)
    assert server.next_event() == PING


def reply(bad: object) -> rnasp.Response:
    assert isinstance(bad, Bad)
    frames = Frames(1000)
    frames.receive_data(bad.reply)
    pdu = frames.next_pdu()
    assert pdu is not None
    return rnasp.decode_response(pdu)


@pytest.mark.parametrize("octets", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2\x30\x00", b"GET / HTTP/1.1\r\n"])
def test_garbage_is_answered_once_and_ends_the_session(octets: bytes) -> None:
    server = ServerSession(RNASP)
    server.receive_data(octets)
    bad = server.next_event()
    assert reply(bad) == rnasp.Response(True, rnasp.Status.errormalformedpdu)
    assert isinstance(bad, Bad)
    assert bad.close
    server.receive_data(ready())
    assert server.next_event() is NEED_DATA
    with pytest.raises(LocalError):
        server.send(PONG)


def test_an_unexpected_command_keeps_the_session() -> None:
    server = ServerSession(RNASP)
    server.receive_data(frame(rnaqp.encode_command(rnaqp.Clear(()))) + ready())
    bad = server.next_event()
    assert reply(bad) == rnasp.Response(True, rnasp.Status.errorunexpectedcommand)
    assert isinstance(bad, Bad)
    assert not bad.close
    assert server.next_event() == PING


def test_a_server_speaks_unasked_only_to_end_the_session() -> None:
    server = ServerSession(RNASP)
    with pytest.raises(LocalError):
        server.send(PONG)
    server.send(RNASP.error("errorcommandtimeout"))
    assert server.state is State.CLOSED


def test_a_session_ends_cleanly_only_between_transactions() -> None:
    server = ServerSession(RNASP)
    server.receive_data(ready()[:3])
    assert server.inside
    assert not server.receive_eof()
    server = ServerSession(RNASP)
    server.receive_data(ready())
    server.next_event()
    assert not server.receive_eof()
    assert server.next_event() is NEED_DATA
    with pytest.raises(LocalError):
        server.send(PONG)


def test_a_client_has_one_command_out() -> None:
    client = ClientSession(RNASP)
    client.send(PING)
    with pytest.raises(LocalError):
        client.send(PING)
    assert not client.receive_eof()
    with pytest.raises(LocalError):
        client.send(PING)


def test_a_bad_response_ends_the_session() -> None:
    client = ClientSession(RNASP)
    client.send(PING)
    client.receive_data(frame(b"\x30\x00"))
    with pytest.raises(MalformedPDU):
        client.next_event()
    assert client.state is State.CLOSED


def test_what_comes_unasked_is_never_the_next_answer() -> None:
    late = frame(RNASP.encode_response(RNASP.error("errorcommandtimeout")))
    client = ClientSession(RNASP)
    client.receive_data(late)
    with pytest.raises(LocalError):
        client.send(PING)
    with pytest.raises(MalformedPDU):
        client.next_event()
    assert client.state is State.CLOSED
    client = ClientSession(RNASP)
    client.send(PING)
    client.receive_data(frame(RNASP.encode_response(PONG)) + late)
    assert client.next_event() == PONG
    assert client.state is State.CLOSED


def test_a_client_closes_after_a_last_word() -> None:
    client = ClientSession(RNASP)
    client.send_pdu(rnasp.encode_batch([]))
    client.receive_data(frame(RNASP.encode_response(RNASP.error("errorserviceshutdown"))))
    assert client.next_event() == RNASP.error("errorserviceshutdown")
    assert client.state is State.CLOSED


ABORTS = {
    "errormalformedpdu": True,
    "errorcommandtimeout": True,
    "errorserviceshutdown": True,
    "errorunexpectedcommand": False,
    "errorinternalproblem": False,
}


def closed_by(protocol: Protocol, response: object) -> bool:
    """Whether a client gives the session up when he hears this in answer to his command."""
    client = ClientSession(protocol)
    client.state = State.BUSY
    client.receive_data(frame(protocol.encode_response(response)))
    assert client.next_event() == response
    return client.state is State.CLOSED


@pytest.mark.parametrize("protocol", [RNASP, RNAQP, MSRAP, MSOAP], ids=lambda protocol: protocol.name)
def test_the_form_of_errors(protocol: Protocol) -> None:
    for name, closes in ABORTS.items():
        error = protocol.error(name)
        assert (error.abort, error.status.name, error.data) == (True, name, rnasp.Null())
        assert closed_by(protocol, error) is closes
    assert not protocol.error("errornotauthenticated").abort
    assert protocol.decode_response(protocol.encode_response(protocol.error("errornotauthenticated"))).status.name == (
        "errornotauthenticated"
    )


def test_errors_without_abort() -> None:
    assert MSRAP.error("errornosuchmessage") == msrap.Response(False, rnasp.Status.errornosuchmessage)
    for number in (7, 8, 9, 10):
        assert not MSOAP.error(msoap.Status(number).name).abort
