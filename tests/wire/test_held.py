"""What a peer sends ahead of its turn can be counted, so a server can cut it off."""

from __future__ import annotations

from forwarder.wire.frames import frame
from forwarder.wire.rnasp import Notify, encode_command
from forwarder.wire.session import RNASP, ServerSession

PING = frame(encode_command(Notify(())))


def test_what_was_handed_out_is_held_no_more() -> None:
    session = ServerSession(RNASP)
    session.receive_data(PING[:5])
    assert session.held == 5
    session.receive_data(PING[5:])
    assert session.next_event() == Notify(())
    assert session.held == 0


def test_what_is_sent_ahead_is_held_until_its_turn() -> None:
    session = ServerSession(RNASP)
    session.receive_data(PING + PING + PING)
    session.next_event()
    assert session.held == 2 * len(PING)
