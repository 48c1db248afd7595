"""The signature of protocol 5.0, against an oracle of our own: DER built by hand, `cryptography` used directly."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import ContentDigest, Endpoint, Hop, Mailbox, Notification, ServiceLocation, Signature
from forwarder.signature import WrongSignature, judge, key_record, new_private, question, sign, signed_octets
from forwarder.wire.notification import (
    decode_notification,
    encode_notification,
    hop_tlv,
    original_tlv,
    recipient_tlv,
    splice,
)

SEED = hashlib.sha256(b"a key of this test").digest()
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
RECORD = "v=im2k1; k=ed25519; p=" + base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
BRIAN = Mailbox("brian", "pobox.example")
AT = 1_800_000_000


# -- the oracle


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    count = len(content)
    if count < 128:
        return bytes([tag, count]) + content
    return bytes([tag, 0x81, count]) + content if count < 256 else bytes([tag, 0x82, count >> 8, count & 255]) + content


def der_domain(tag: int, name: str) -> bytes:
    return tlv(tag, *(tlv(0x0C, label.encode()) for label in name.split(".")))


def der_mailbox(tag: int, mailbox: Mailbox) -> bytes:
    return tlv(tag, tlv(0x80, mailbox.localpart.encode()), der_domain(0xA1, mailbox.domain))


def der_number(tag: int, value: int) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oracle(first: Mailbox, digest: bytes, key: bytes, *, size: int, expires: int, claimed: Mailbox) -> bytes:
    """What the store of a full notification signs, written out."""
    signature = tlv(
        0xB6,
        der_domain(0xA0, "store.example"),
        tlv(0x81, b"20271125"),
        der_number(0x82, 1),
        der_number(0x83, AT),
        tlv(0x84),
    )
    return b"im2000-notify-1\0" + tlv(
        0x30,
        tlv(0xA0, der_domain(0xA1, "store.example")),
        tlv(0xA1, der_domain(0xA1, "store.example")),
        der_mailbox(0xA2, first),
        tlv(0x83, key),
        tlv(0x84, b"toby"),
        der_number(0x85, size),
        tlv(0xB0, der_number(0x80, 1), tlv(0x81, digest)),
        der_number(0x95, expires),
        der_mailbox(0xB9, claimed),
        signature,
    )


def signed(**fields: Any) -> bytes:
    """A notification signed by our own code."""
    base = Notification(ServiceLocation("store.example"), None, BRIAN, bytes(range(16)), "toby")
    blank = Signature("store.example", "20271125", 1, AT, b"")
    plain = base._replace(signature=blank, **fields)
    value = sign(encode_notification(plain), SEED)
    return encode_notification(plain._replace(signature=blank._replace(value=value)))


FULL: dict[str, Any] = {
    "storessl": ServiceLocation("store.example"),
    "size": 70_000,
    "digest": ContentDigest(1, hashlib.sha256(b"x").digest()),
    "expires": AT + 86400,
    "claimedfrom": Mailbox("toby", "people.example"),
}


@pytest.mark.parametrize("original", [None, Mailbox("old", "somewhere.example")])
def test_it_is_over_exactly_the_octets_of_the_protocol(original: Mailbox | None) -> None:
    raw = signed(**FULL, original=original, trace=(Hop("one.example", None, AT),), hops=1, token=b"t")
    expected = oracle(
        original or BRIAN,
        FULL["digest"].value,
        bytes(range(16)),
        size=FULL["size"],
        expires=FULL["expires"],
        claimed=FULL["claimedfrom"],
    )
    assert signed_octets(raw) == expected
    found = decode_notification(raw).signature
    assert found is not None
    PRIVATE.public_key().verify(found.value, expected)
    assert key_record(SEED) == RECORD


def test_elements_that_are_not_there_are_not_signed() -> None:
    raw = signed()
    found = decode_notification(raw).signature
    assert found is not None
    octets = b"im2000-notify-1\0" + tlv(
        0x30,
        tlv(0xA0, der_domain(0xA1, "store.example")),
        der_mailbox(0xA2, BRIAN),
        tlv(0x83, bytes(range(16))),
        tlv(0x84, b"toby"),
        tlv(
            0xB6,
            der_domain(0xA0, "store.example"),
            tlv(0x81, b"20271125"),
            der_number(0x82, 1),
            der_number(0x83, AT),
            tlv(0x84),
        ),
    )
    PRIVATE.public_key().verify(found.value, octets)


def test_what_a_stranger_signed_with_elements_unknown_to_us_inside_verifies() -> None:
    """Inside [22] all is covered but the value; beside it unknown elements are nobody's."""
    inner = [
        *(der_domain(0xA0, "store.example"), tlv(0x81, b"s"), der_number(0x82, 1), der_number(0x83, AT)),
        *(tlv(0x84), tlv(0x9E, b"later")),
    ]
    covered = [
        tlv(0xA0, der_domain(0xA1, "store.example")),
        der_mailbox(0xA2, BRIAN),
        tlv(0x83, bytes(16)),
        tlv(0x84, b"toby"),
    ]
    value = PRIVATE.sign(b"im2000-notify-1\0" + tlv(0x30, *covered, tlv(0xB6, *inner)))
    inner[4] = tlv(0x84, value)
    came = decode_notification(tlv(0x30, *covered, tlv(0x8F, b"?"), tlv(0xB6, *inner), tlv(0xBE, b"\x04\x00")))
    assert judge(came, [RECORD]) == "good"
    inner[5] = tlv(0x9E, b"never")
    assert judge(decode_notification(tlv(0x30, *covered, tlv(0xB6, *inner))), [RECORD]) == "wrong"


# -- what survives, what does not

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
LOCALPARTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
MAILBOXES = st.builds(lambda local, label: Mailbox(local, f"{label}.example"), LOCALPARTS, LABELS)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "storessl": st.just(ServiceLocation("store.example")),
        "recipient": MAILBOXES,
        "identifier": st.binary(min_size=16, max_size=16),
        "sender": st.text(max_size=200),
        "size": st.integers(0, 2**64 - 1),
        "digest": st.builds(ContentDigest, st.just(1), st.binary(min_size=32, max_size=32)),
        "original": MAILBOXES,
        "trace": st.lists(
            st.builds(Hop, LABELS, st.none() | st.binary(max_size=8), st.just(AT), st.just(3)), max_size=3
        ).map(tuple),
        "expires": st.integers(0, 2**40),
        "token": st.binary(min_size=1, max_size=64),
        "claimedfrom": MAILBOXES,
    },
)


@given(FIELDS, st.lists(MAILBOXES, min_size=1, max_size=7))
def test_any_number_of_forwarders_leave_it_good(fields: dict[str, Any], ways: list[Mailbox]) -> None:
    raw = signed(**fields)
    for number, target in enumerate(ways):
        came = decode_notification(raw)
        hop = hop_tlv(Hop(f"fw{number}.example", b"12345678", AT + number, 3))
        raw = splice(came, recipient_tlv(target), original=original_tlv(came.recipient), hop=hop)
        assert judge(decode_notification(raw), [RECORD]) == "good"


CHANGES: dict[str, Any] = {
    "storessl": ServiceLocation("store.example", ()),
    "original": Mailbox("mallory", "evil.example"),
    "identifier": b"\xff" * 16,
    "sender": "mallory",
    "size": 1,
    "digest": ContentDigest(1, b"\xee" * 32),
    "expires": 2**41,
    "claimedfrom": Mailbox("mallory", "evil.example"),
}


@given(FIELDS, st.sampled_from(sorted(CHANGES)))
def test_any_change_of_what_it_covers_makes_it_wrong(fields: dict[str, Any], name: str) -> None:
    came = decode_notification(signed(**fields))
    if getattr(came, name) == CHANGES[name]:
        return
    changed = came._replace(**{name: CHANGES[name]})
    assert judge(decode_notification(encode_notification(changed)), [RECORD]) == "wrong"
    if getattr(came, name) is not None and name not in ("identifier", "sender", "original"):
        nothing: dict[str, Any] = {name: None}
        left_out = encode_notification(came._replace(**nothing))
        assert judge(decode_notification(left_out), [RECORD]) == "wrong"


def test_sent_to_another_mailbox_it_is_wrong_unless_it_says_where_it_was_first_for() -> None:
    came = decode_notification(signed())
    elsewhere = came._replace(recipient=Mailbox("victim", "pobox.example"))
    assert judge(decode_notification(encode_notification(elsewhere)), [RECORD]) == "wrong"
    honest = elsewhere._replace(original=BRIAN)
    assert judge(decode_notification(encode_notification(honest)), [RECORD]) == "good"


@pytest.mark.parametrize("part", ["domain", "selector", "algorithm", "at", "value"])
def test_its_own_parts_are_covered_too(part: str) -> None:
    came = decode_notification(signed())
    assert came.signature is not None
    others = {"domain": "other.example", "selector": "s9", "algorithm": 2, "at": AT + 1, "value": bytes(64)}
    other: dict[str, Any] = {part: others[part]}
    changed = came._replace(signature=came.signature._replace(**other))
    assert judge(decode_notification(encode_notification(changed)), [RECORD]) == "wrong"


# -- where its key is


def test_the_key_stands_under_the_store_s_domain() -> None:
    assert question(decode_notification(signed())) == "20271125._im2000-key.store.example"


def test_unsigned_and_unknown_algorithms_ask_nothing() -> None:
    came = decode_notification(signed())
    assert came.signature is not None
    assert question(came._replace(signature=None)) is None
    assert question(came._replace(signature=came.signature._replace(algorithm=2))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"storeclear": ServiceLocation("other.example")},
        {"storessl": ServiceLocation("other.example")},
        {"storeclear": ServiceLocation(None, (Endpoint("192.0.2.1", 7102),))},
    ],
)
def test_only_the_store_itself_can_sign(change: dict[str, Any]) -> None:
    with pytest.raises(WrongSignature):
        question(decode_notification(signed())._replace(**change))


@pytest.mark.parametrize("selector", ["", "a..b", "-", "*", "x" * 64, "a b", ".".join("a" * 60 for _ in range(9))])
def test_a_selector_that_is_no_name_is_wrong(selector: str) -> None:
    came = decode_notification(signed())
    assert came.signature is not None
    with pytest.raises(WrongSignature):
        question(came._replace(signature=came.signature._replace(selector=selector)))


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        ([], "unknown"),
        (["v=spf1 -all"], "unknown"),
        ([RECORD[:-6]], "unknown"),
        ([RECORD + "; p=" + "A" * 43 + "="], "unknown"),
        (["v=im2k1; k=rsa; p=" + RECORD[-44:]], "unknown"),
        (["k=ed25519; " + RECORD], "unknown"),
        ([""], "unknown"),
        (["v=im2k1; k=ed25519; p="], "wrong"),
        ([key_record(new_private())], "wrong"),
        ([RECORD], "good"),
        ([RECORD + "; note=of November;"], "good"),
        (["junk", key_record(new_private()), RECORD], "good"),
    ],
)
def test_what_a_record_says(records: list[str], verdict: str) -> None:
    assert judge(decode_notification(signed()), records) == verdict


@given(st.text(max_size=100))
def test_a_stranger_s_record_never_breaks_us(text: str) -> None:
    assert judge(decode_notification(signed()), [text]) in ("unknown", "wrong")


def test_the_oracle_can_fail() -> None:
    with pytest.raises(InvalidSignature):
        PRIVATE.public_key().verify(PRIVATE.sign(b"a"), b"b")


def test_a_recipient_written_in_another_way_is_passed_on_as_it_was_signed() -> None:
    """Upper case, IA5String labels, an unknown element: the forwarder's own spelling of [17] would break it."""
    labels = tlv(0x16, b"POBOX") + tlv(0x16, b"Example")
    mailbox = [tlv(0x80, b"Brian"), tlv(0xA1, labels), tlv(0x9E, b"later")]
    inner = [der_domain(0xA0, "store.example"), tlv(0x81, b"s"), der_number(0x82, 1), der_number(0x83, AT), tlv(0x84)]
    covered = [
        tlv(0xA0, der_domain(0xA1, "store.example")),
        tlv(0xA2, *mailbox),
        tlv(0x83, bytes(16)),
        tlv(0x84, b"toby"),
    ]
    value = PRIVATE.sign(b"im2000-notify-1\0" + tlv(0x30, *covered, tlv(0xB6, *inner)))
    came = decode_notification(tlv(0x30, *covered, tlv(0xB6, *inner[:4], tlv(0x84, value))))
    assert came.recipient == Mailbox("Brian", "pobox.example")
    for target in (Mailbox("bob", "isp.example"), Mailbox("anna", "club.example")):
        hop = hop_tlv(Hop("fw.example", None, AT, 3))
        raw = splice(came, recipient_tlv(target), original=original_tlv(came.recipient), hop=hop)
        came = decode_notification(raw)
        assert judge(came, [RECORD]) == "good"
