"""The fields in front of a native message."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email import policy

from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Mailbox
from forwarder_smtp_bridge.front import native_front

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def front(address: Mailbox, store: str = "store.example", account: str = "ann", handle: str = "0123456789ab") -> bytes:
    return native_front(address, store=store, account=account, node="node.example", handle=handle, now=NOW)


def test_two_fields() -> None:
    assert front(Mailbox("sales", "pobox.example")) == (
        b"Delivered-To: sales@pobox.example\r\n"
        b"Received: from store.example (im2000 ann)\r\n"
        b" by node.example with IM2000 id 0123456789ab;\r\n"
        b" Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    )


def test_an_address_is_written_as_it_is() -> None:
    assert front(Mailbox("a b", "pobox.example")).startswith(b'Delivered-To: "a b"@pobox.example\r\n')
    assert front(Mailbox("é", "pobox.example")).startswith("Delivered-To: é@pobox.example\r\n".encode())


@given(st.text(), st.text(max_size=300), st.text(max_size=300))
def test_whatever_a_peer_calls_itself_there_are_two_fields(local: str, store: str, account: str) -> None:
    octets = front(Mailbox(local, "pobox.example"), store, account) + b"Subject: x\r\n\r\nbody\r\n"
    message = email.message_from_bytes(octets, policy=policy.compat32)
    assert message.keys() == ["Delivered-To", "Received", "Subject"]
    assert message["Received"].endswith(";\r\n Tue, 24 Nov 2026 12:00:00 +0000") and message["Received"].count(")") == 1
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
