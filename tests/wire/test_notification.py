"""One notification's octets: the quick way and the table agree; a splice keeps all it should (protocol 5.3, 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import ContentDigest, Hop, Mailbox, Notification, ServiceLocation, Signature
from forwarder.wire.der import MalformedPDU, tlv
from forwarder.wire.notification import (
    decode_notification,
    encode_notification,
    hop_tlv,
    original_tlv,
    recipient_tlv,
    splice,
)

KEY = bytes(range(16))
BRIAN, BOB = Mailbox("brian", "pobox.example"), Mailbox("bob", "isp.example")
HOP = Hop("forwarder.example", b"12345678", 1_700_000_000, 3)
BASE = Notification(ServiceLocation("store.example"), None, BRIAN, KEY, "toby", 1234)
EARLIER = Hop("first.example", None, 1_600_000_000)
SIGNATURE = Signature("store.example", "s1", 1, 1_600_000_000, bytes(64))

FIELDS = {
    "digest": ContentDigest(1, bytes(32)),
    "original": Mailbox("old", "old.example"),
    "trace": (EARLIER,),
    "hops": 4,
    "expires": 1_800_000_000,
    "signature": SIGNATURE,
    "token": b"secret",
    "claimedfrom": Mailbox("toby", "store.example"),
    "storessl": ServiceLocation("store.example"),
    "size": None,
}


def forward(octets: bytes) -> bytes:
    came = decode_notification(octets)
    return splice(came, recipient_tlv(BOB), original=original_tlv(came.recipient), hop=hop_tlv(HOP))


def elements(octets: bytes) -> list[bytes]:
    """The elements of a SEQUENCE, by a reader of our own for this test."""
    found = []
    pos = 2 if octets[1] < 128 else 2 + (octets[1] & 0x7F)
    while pos < len(octets):
        size, body = octets[pos + 1], pos + 2
        if size > 127:
            size, body = int.from_bytes(octets[body : body + (size & 0x7F)], "big"), body + (size & 0x7F)
        found.append(octets[pos : body + size])
        pos = body + size
    return found


@given(st.data())
def test_a_splice_is_the_notification_with_just_these_changes(data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(FIELDS))))
    came = BASE._replace(**{name: FIELDS[name] for name in chosen})  # type: ignore[arg-type]
    hops = came.hops if came.hops is not None else len(came.trace)
    wanted = came._replace(
        recipient=BOB,
        original=came.original or BRIAN,
        trace=(*came.trace, HOP),
        hops=hops + 1,
        token=None,
    )
    assert forward(encode_notification(came)) == encode_notification(wanted)


@given(st.data())
def test_unknown_elements_stay_in_their_places(data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(sorted(FIELDS))))
    known = elements(encode_notification(BASE._replace(**{name: FIELDS[name] for name in chosen})))  # type: ignore[arg-type]
    unknown = data.draw(st.lists(st.sampled_from([0x86, 0x9A, 0xBE, 0x02, 0x8F, 0x5E]), min_size=1, max_size=5))
    mixed = list(known)
    for number, tag in enumerate(unknown):
        mixed.insert(data.draw(st.integers(0, len(mixed))), tlv(tag, b"unknown %d" % number))
    octets = tlv(0x30, b"".join(mixed))
    plain = decode_notification(tlv(0x30, b"".join(known)))
    came = decode_notification(octets)
    assert came == plain._replace(raw=octets)
    forwarded = forward(octets)
    assert decode_notification(forwarded) == decode_notification(forward(plain.raw))._replace(raw=forwarded)
    changed = {0xA2, 0xB1, 0xB2, 0x93, 0x97}
    kept = [element for element in mixed if element[0] not in changed]
    assert [element for element in elements(forwarded) if element[0] not in changed] == kept


def test_what_is_put_in_stands_before_the_first_higher_tag() -> None:
    known = elements(encode_notification(BASE))
    octets = tlv(0x30, b"".join([*known, tlv(0x8F, b""), tlv(0x9A, b""), tlv(0x86, b"")]))
    tags = [element[0] for element in elements(forward(octets))]
    assert tags == [0xA0, 0xA2, 0x83, 0x84, 0x85, 0x8F, 0xB1, 0xB2, 0x93, 0x9A, 0x86]


def test_what_stands_inside_known_extensions_is_kept() -> None:
    inside = tlv(0x9E, b"new")
    hop = tlv(0x30, tlv(0xA0, b"\x0c\x01a") + tlv(0x82, b"\x00") + inside)
    octets = tlv(0x30, b"".join([*elements(encode_notification(BASE)), tlv(0xB2, hop)]))
    assert tlv(0xB2, hop + hop_tlv(HOP)) in elements(forward(octets))


def test_the_recipient_that_was_signed_stays_octet_for_octet() -> None:
    """A signature covers [17], else [2]: so the [17] put in is the [2] that came, in its own spelling."""
    known = elements(encode_notification(BASE._replace(signature=SIGNATURE)))
    came = tlv(0xA2, tlv(0x80, b"brian") + tlv(0xA1, tlv(0x16, b"POBOX") + tlv(0x0C, b"example")) + tlv(0x9E, b"x"))
    octets = tlv(0x30, b"".join([known[0], came, *known[2:]]))
    assert b"\xb1" + came[1:] in elements(forward(octets))


def test_hops_are_counted_from_the_trace_where_nobody_counted() -> None:
    assert decode_notification(forward(encode_notification(BASE._replace(trace=(EARLIER,) * 3)))).hops == 4


def test_lengths_of_every_size_splice() -> None:
    for length in [0, 1, 100, 126, 127, 128, 129, 200, 255]:
        for sender in [0, 100, 127, 128, 300]:
            came = BASE._replace(recipient=Mailbox("x" * length, "pobox.example"), sender="y" * sender)
            wanted = came._replace(recipient=BOB, original=came.recipient, trace=(HOP,), hops=1)
            assert forward(encode_notification(came)) == encode_notification(wanted)


def test_too_many_unknown_octets_are_refused() -> None:
    known = elements(encode_notification(BASE))
    for count, kept in [(4092, True), (4093, False)]:
        octets = tlv(0x30, b"".join([*known, tlv(0x9E, bytes(count))]))
        assert len(decode_notification(octets).raw) > count
        if kept:
            assert tlv(0x9E, bytes(count)) in elements(forward(octets))
        else:
            with pytest.raises(MalformedPDU):
                forward(octets)


def test_a_text_that_looks_like_the_end_of_the_notification_deceives_nobody() -> None:
    """Read as a short length, 81 leads to the octet 85 inside this sender, and from there exactly to the end."""
    sender = "a" * 127 + "\u0145I" + "a" * 70
    came = BASE._replace(sender=sender, size=None, hops=4)
    octets = encode_notification(came)
    assert octets.endswith(b"I" + b"a" * 70 + b"\x93\x01\x04")
    wanted = came._replace(recipient=BOB, original=BRIAN, trace=(HOP,), hops=5)
    assert forward(octets) == encode_notification(wanted)


@pytest.mark.parametrize("digest", [None, ContentDigest(1, bytes(32))], ids=["base elements", "extended"])
def test_a_splice_never_passes_the_limit(digest: ContentDigest | None) -> None:
    came = BASE._replace(sender="y" * 7000, digest=digest)
    room = 8192 - len(forward(encode_notification(came)))
    came = came._replace(sender=came.sender + "y" * room)
    assert len(forward(encode_notification(came))) == 8192
    with pytest.raises(MalformedPDU):
        forward(encode_notification(came._replace(sender=came.sender + "y")))


def test_what_is_put_in_may_not_pass_the_limit_either() -> None:
    came = decode_notification(encode_notification(BASE))
    with pytest.raises(MalformedPDU):
        splice(came, recipient_tlv(BOB), original=tlv(0xB1, bytes(8192)), hop=hop_tlv(HOP))


def test_we_write_nothing_over_the_limit() -> None:
    came = BASE._replace(sender="y" * 7000)
    came = came._replace(sender=came.sender + "y" * (8192 - len(encode_notification(came))))
    assert decode_notification(encode_notification(came)).sender == came.sender
    with pytest.raises(ValueError, match="8 KiB"):
        encode_notification(came._replace(sender=came.sender + "y"))


def test_a_trace_that_is_full_is_refused() -> None:
    with pytest.raises(MalformedPDU):
        forward(encode_notification(BASE._replace(trace=(EARLIER,) * 32)))


def test_a_notification_of_our_own_splices_too() -> None:
    spliced = splice(BASE, recipient_tlv(BOB), original=original_tlv(BRIAN), hop=hop_tlv(HOP))
    assert spliced == forward(encode_notification(BASE))
