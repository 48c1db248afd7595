"""What is added on the way is not covered, each by itself (protocol 5.0, signature)."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.model import (
    ClientLocation,
    ContentDigest,
    Hop,
    Notification,
    Origin,
    Report,
    ServiceLocation,
    Signature,
    parse_mailbox,
)
from forwarder.signature import ED25519, judge, key_record, new_private, sign
from forwarder.wire.notification import decode_notification, encode_notification

PRIVATE = new_private()
STORE = ServiceLocation("store.example")
BRIAN = parse_mailbox("brian@pobox.example")


def signed() -> Notification:
    """By store.example, with nothing yet that others add."""
    blank = Notification(
        *(STORE, STORE, BRIAN, bytes(range(16)), "toby", 1234),
        digest=ContentDigest(1, bytes(32)),
        original=BRIAN,
        expires=1_802_592_000,
        signature=Signature("store.example", "s1", ED25519, 1_800_000_000, b""),
        claimedfrom=parse_mailbox("toby@isp.example"),
    )
    value = sign(encode_notification(blank), PRIVATE)
    assert blank.signature is not None
    return blank._replace(signature=blank.signature._replace(value=value))


def verdict(notification: Notification) -> str:
    return judge(decode_notification(encode_notification(notification)), [key_record(PRIVATE)])


@pytest.mark.parametrize(
    "added",
    [
        {},
        {"recipient": parse_mailbox("bob@isp.example")},
        {"trace": (Hop("mx.pobox.example", b"12345678", 1_800_000_001, 3),)},
        {"hops": 4},
        {"origin": Origin(ServiceLocation("other.example"), "vera", b"handle")},
        {"token": b"issued by the target"},
        {"report": Report(1, ClientLocation("192.0.2.7", 7001), 1_800_000_000)},
    ],
)
def test_what_a_forwarder_or_an_agency_adds_leaves_it_good(added: dict[str, Any]) -> None:
    assert verdict(signed()._replace(**added)) == "good"


@pytest.mark.parametrize(
    "changed",
    [
        {"storeclear": ServiceLocation("other.example")},
        {"storessl": None},
        {"identifier": bytes(16)},
        {"sender": "vera"},
        {"size": None},
        {"digest": ContentDigest(1, b"x" * 32)},
        {"original": parse_mailbox("bob@isp.example")},
        {"expires": 1_802_592_001},
        {"claimedfrom": None},
    ],
)
def test_any_other_change_makes_it_wrong(changed: dict[str, Any]) -> None:
    assert verdict(signed()._replace(**changed)) == "wrong"
