"""Whatever comes: a value that is written and read again as itself, or MalformedPDU; never another exception.

The long form is tests/fuzz/run.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.model import ContentDigest, Endpoint, Hop, Mailbox, Notification, Outcome, Redirect, ServiceLocation
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU
from forwarder.wire.notification import decode_notification, encode_notification, hop_tlv, recipient_tlv, splice

BOB = Mailbox("bob", "isp.example")
HERE = ServiceLocation(None, (Endpoint("192.0.2.1", 700), Endpoint("2001:db8::1", 7000)))
NOTIFICATION = Notification(
    ServiceLocation("store.example"),
    HERE,
    BOB,
    bytes(16),
    "toby",
    70000,
    ContentDigest(1, bytes(32)),
    trace=(Hop("a.example", b"hash", 1_700_000_000, 3),),
    hops=1,
)
SEEDS = [
    rnasp.encode_command(rnasp.Notify((NOTIFICATION,) * 2, rnasp.Capabilities(1, frozenset({"results", "trace"})))),
    rnasp.encode_response(
        rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer((Outcome(16, (Redirect(BOB, HERE),), 5, 6),)))
    ),
    msrap.encode_command(msrap.Retrieve(bytes(16), msrap.View.all, 0, 65536)),
    msoap.encode_command(msoap.SubmitEnvelope((BOB,), ("news",), 86400)),
    rnaqp.encode_command(rnaqp.Peek(b"after", 100)),
    encode_notification(NOTIFICATION),
]


@st.composite
def nearly_good(draw: st.DrawFn) -> bytes:
    """A good PDU with a few octets changed, cut or put in."""
    octets = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(octets)))
        cut = draw(st.integers(0, 2))
        octets[place : place + cut] = draw(st.binary(max_size=3))
    return bytes(octets)


def read(decode: Any, encode: Any, octets: bytes) -> None:
    try:
        value = decode(octets)
    except MalformedPDU:
        return
    again = decode(encode(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("protocol", [rnasp, rnaqp, msrap, msoap])
@settings(max_examples=300)
@given(octets=nearly_good() | st.binary(max_size=60))
def test_any_octets_are_a_pdu_or_malformed(protocol: Any, octets: bytes) -> None:
    read(protocol.decode_command, protocol.encode_command, octets)
    read(protocol.decode_response, protocol.encode_response, octets)


@settings(max_examples=500)
@given(octets=nearly_good())
def test_any_notification_that_is_read_can_be_spliced(octets: bytes) -> None:
    try:
        came = decode_notification(octets)
        forwarded = splice(came, recipient_tlv(BOB), original=b"", hop=hop_tlv(NOTIFICATION.trace[0]))
    except MalformedPDU:
        return
    spliced = decode_notification(forwarded)
    assert spliced == came._replace(recipient=BOB, trace=spliced.trace, hops=spliced.hops, token=None, raw=forwarded)
