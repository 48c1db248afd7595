"""What is refused and what is borne (protocol 3.3, 3.6). Each malformed input differs from a good one in one thing."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.model import Endpoint, Mailbox, Outcome, ServiceLocation
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU, tlv
from forwarder.wire.notification import decode_notification

KEY = bytes(range(16))
STORE = tlv(0xA0, tlv(0xA1, b"\x0c\x05store"))
RECIPIENT = tlv(0xA2, tlv(0x80, b"brian") + tlv(0xA1, b"\x0c\x05pobox"))
IDENTIFIER = tlv(0x83, KEY)
SENDER = tlv(0x84, b"toby")
SIZE = tlv(0x85, b"\x04\xd2")


def notification(*elements: bytes) -> bytes:
    return tlv(0x30, b"".join(elements))


def command(*elements: bytes, tag: int = 0xA0) -> bytes:
    """A command PDU of the arm `tag`, of these elements."""
    return tlv(0xA1, tlv(0xA0, tlv(tag, b"".join(elements))))


def response(data: bytes, status: bytes = b"\x00", abort: bytes = b"\x00") -> bytes:
    return tlv(0xA2, tlv(0x80, abort) + tlv(0x81, status) + tlv(0xA2, data))


def retrieve(offset: bytes) -> bytes:
    return command(tlv(0x80, KEY), tlv(0x81, b"\x03"), tlv(0x82, offset), tlv(0x83, b"\x00"), tag=0xA4)


def unpin(element: bytes) -> bytes:
    return command(element, tag=0xA2)


def mailbox_text(localpart: bytes) -> bytes:
    recipient = tlv(0xA2, tlv(0x80, localpart) + tlv(0xA1, b"\x0c\x05pobox"))
    return notification(STORE, recipient, IDENTIFIER, SENDER)


GOOD = notification(STORE, RECIPIENT, IDENTIFIER, SENDER, SIZE)


def test_the_good_ones_are_good() -> None:
    assert decode_notification(GOOD).recipient == Mailbox("brian", "pobox")
    assert msrap.decode_command(unpin(tlv(0x80, KEY))) == msrap.UnPin(KEY)
    assert msrap.decode_command(retrieve(b"\x00\x80")) == msrap.Retrieve(KEY, msrap.View.all, 128, 0)


PDUS = {
    "length not minimal, long form of a short one": unpin(b"\x80\x81\x10" + KEY),
    "length not minimal, leading zero": b"\xa1\x82\x00\x16" + unpin(tlv(0x80, KEY))[2:],
    "length not minimal, leading zero of a long one": b"\xa1\x82\x00"
    + unpin(tlv(0x80, KEY) + tlv(0x8F, bytes(150)))[2:],
    "indefinite length": unpin(b"\xa2\x80" + tlv(0x80, KEY) + b"\x00\x00"),
    "length of five octets": b"\xa1\x85\x00\x00\x00\x00\x16" + unpin(tlv(0x80, KEY))[2:],
    "length past the parent": unpin(b"\x80\x11" + KEY),
    "length past the parent, into a sibling": tlv(0xA1, b"\xa0\x16\xa2\x12\x80\x11" + KEY + b"\x85\x00"),
    "constructed OCTET STRING": unpin(tlv(0xA0, tlv(0x04, KEY))),
    "truncated": unpin(tlv(0x80, KEY))[:-1],
    "octets after the PDU": unpin(tlv(0x80, KEY)) + b"\x00",
    "wrong SIZE": unpin(tlv(0x80, KEY + b"\x00")),
    "missing element": unpin(b""),
    "element twice": unpin(tlv(0x80, KEY) * 2),
    "high-tag form of a low tag": unpin(b"\x9f\x00\x10" + KEY),
    "unknown element of a high tag": unpin(tlv(0x80, KEY) + b"\x9f\x1f\x00"),
    "end-of-contents mark": unpin(tlv(0x80, KEY) + b"\x00\x00"),
    "unknown element that is torn": unpin(tlv(0x80, KEY) + b"\x8f\x05abc"),
    "wrong tag for the PDU": tlv(0x30, unpin(tlv(0x80, KEY))[2:]),
    "primitive PDU": tlv(0x81, unpin(tlv(0x80, KEY))[2:]),
    "two arms": tlv(0xA1, tlv(0xA0, tlv(0xA2, tlv(0x80, KEY)) * 2)),
    "no arm": tlv(0xA1, tlv(0xA0, b"")),
    "no commanddata": tlv(0xA1, b""),
    "empty INTEGER": retrieve(b""),
    "INTEGER not minimal": retrieve(b"\x00\x7f"),
    "INTEGER not minimal, negative": retrieve(b"\xff\x80"),
    "negative INTEGER": retrieve(b"\xff"),
    "INTEGER of 2^64": retrieve(b"\x01" + bytes(8)),
    "time of 2^64": command(tlv(0x80, b"news"), tlv(0x81, b"\x01" + bytes(8))),
    "INTEGER of ten octets": retrieve(b"\x01" + bytes(9)),
    "ENUMERATED out of the list": command(
        tlv(0x80, KEY), tlv(0x81, b"\x04"), tlv(0x82, b"\x00"), tlv(0x83, b"\x00"), tag=0xA4
    ),
    "elements out of order": command(
        tlv(0x81, b"\x03"), tlv(0x80, KEY), tlv(0x82, b"\x00"), tlv(0x83, b"\x00"), tag=0xA4
    ),
    "pieces over 1000": command(tlv(0x80, KEY), tlv(0x81, b"\x03\xe9"), tag=0xB1),
    "list name of no octets": command(tlv(0x80, b""), tlv(0x81, b"\x00")),
    "list name of 256 octets": command(tlv(0x80, b"x" * 256), tlv(0x81, b"\x00")),
    "nothing": b"",
    "one octet": b"\xa1",
    "a length cut short": b"\xa1\x84\x00",
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("pdu", PDUS.values(), ids=PDUS)
def test_a_malformed_command_is_refused(pdu: bytes) -> None:
    with pytest.raises(MalformedPDU) as refused:
        msrap.decode_command(pdu)
    assert not refused.value.unexpected


def labels(*texts: bytes, tag: int = 0x0C) -> bytes:
    """A notification whose store is the domain of these labels."""
    domain = b"".join(tlv(tag, text) for text in texts)
    return notification(tlv(0xA0, tlv(0xA1, domain)), RECIPIENT, IDENTIFIER, SENDER)


def literals(count: int) -> bytes:
    literal = tlv(0x30, tlv(0xA0, tlv(0x80, b"\x7f\x00\x00\x01")) + tlv(0x81, b"\x01"))
    return notification(tlv(0xA0, tlv(0xA0, literal * count)), RECIPIENT, IDENTIFIER, SENDER)


def literal(address: bytes, port: bytes) -> bytes:
    endpoint = tlv(0x30, tlv(0xA0, address) + tlv(0x81, port))
    return notification(tlv(0xA0, tlv(0xA0, endpoint)), RECIPIENT, IDENTIFIER, SENDER)


def trace(hops: int) -> bytes:
    hop = tlv(0x30, tlv(0xA0, b"\x0c\x01a") + tlv(0x82, b"\x00"))
    return notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0xB2, hop * hops))


NOTIFICATIONS = {
    "bad UTF-8": mailbox_text(b"\xff"),
    "overlong UTF-8": mailbox_text(b"\xc0\xaf"),
    "surrogate in UTF-8": mailbox_text(b"\xed\xa0\x80"),
    "local part of 256 octets": mailbox_text(b"x" * 256),
    "domain of no labels": labels(),
    "empty label": labels(b"store", b""),
    "dot inside one of several labels": labels(b"a.b", b"example"),
    "dots with nothing between": labels(b"a..b"),
    "label of 64 octets": labels(b"x" * 64),
    "label of 64 octets whose A-label is short": labels("\u00fc".encode() * 32, b"example"),
    "label past its domain": notification(tlv(0xA0, tlv(0xA1, b"\x0c\x06store")), RECIPIENT, IDENTIFIER, SENDER),
    "label of 64 octets among others": labels(b"x" * 64, b"example"),
    "128 labels": labels(*[b"a"] * 128),
    "domain over 255 octets": labels(*[b"x" * 62] * 5),
    "label that fails IDNA": labels("\u2764".encode(), b"example"),
    "label with a space": labels(b"a b"),
    "label of another type": labels(b"store", tag=0x04),
    "17 literals": literals(17),
    "33 hops": trace(33),
    "address of three octets": literal(tlv(0x80, b"\x7f\x00\x00"), b"\x01"),
    "address of an unknown arm": literal(tlv(0x82, b"\x7f\x00\x00\x01"), b"\x01"),
    "no address": literal(b"", b"\x01"),
    "port 65536": literal(tlv(0x80, b"\x7f\x00\x00\x01"), b"\x01\x00\x00"),
    "location of an unknown arm": notification(tlv(0xA0, tlv(0xA2, b"\x0c\x05store")), RECIPIENT, IDENTIFIER, SENDER),
    "over 8 KiB": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0x9A, bytes(8192))),
    "token of no octets": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0x97, b"")),
    "hops of 256": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0x93, b"\x01\x00")),
    "size of 2^64": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0x85, b"\x01" + bytes(8))),
    "constructed size": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0xA5, b"\x02\x01\x05")),
    "primitive trace": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, tlv(0x92, b"")),
    "no sender": notification(STORE, RECIPIENT, IDENTIFIER, SIZE),
    "order": notification(STORE, RECIPIENT, SENDER, IDENTIFIER),
    "recipient twice": notification(STORE, RECIPIENT, RECIPIENT, IDENTIFIER, SENDER),
    "size of no octets": notification(STORE, RECIPIENT, IDENTIFIER, SENDER, b"\x85\x00"),
    "last element torn": b"\x30" + bytes((len(GOOD) - 3,)) + GOOD[2:-1],
    "sender past the end": notification(STORE, RECIPIENT, IDENTIFIER, b"\x84\x06toby"),
    "SET instead of SEQUENCE": b"\x31" + GOOD[1:],
    "octets after it": GOOD + b"\x00",
}


@pytest.mark.parametrize("octets", NOTIFICATIONS.values(), ids=NOTIFICATIONS)
def test_a_malformed_notification_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedPDU):
        decode_notification(octets)
    for behind in (b"", GOOD):  # alone, and where octets of a sibling follow
        with pytest.raises(MalformedPDU):
            rnasp.decode_command(command(tlv(0xA0, octets + behind)))


def test_a_boolean_is_00_or_ff() -> None:
    assert rnasp.decode_response(response(tlv(0xA0, b""), abort=b"\xff")).abort
    for abort in (b"\x01", b"", b"\xff\xff"):
        with pytest.raises(MalformedPDU):
            rnasp.decode_response(response(tlv(0xA0, b""), abort=abort))


def test_counts_are_capped() -> None:
    assert len(rnasp.decode_command(rnasp.encode_batch([GOOD] * 1000)).notifications) == 1000
    with pytest.raises(MalformedPDU):
        rnasp.decode_command(rnasp.encode_batch([GOOD] * 1001))
    assert len(decode_notification(trace(32)).trace) == 32
    assert len(decode_notification(literals(16)).storeclear.literals) == 16
    assert decode_notification(labels(*[b"a"] * 127)).storeclear.domain == ".".join("a" * 127)


def test_the_deepest_legal_pdu_has_twelve_levels() -> None:
    rna = tlv(0xA1, tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0x80, b"\x7f\x00\x00\x01")) + tlv(0x81, b"\x01"))))
    mailbox = tlv(0xA0, tlv(0x80, b"bob") + tlv(0xA1, b"\x0c\x03isp"))
    result = tlv(0x30, tlv(0x80, b"\x10") + tlv(0xA1, tlv(0x30, mailbox + rna + tlv(0x82, b"\x00"))))
    answer = rnasp.decode_response(response(tlv(0xA1, tlv(0xB0, result)))).data
    assert isinstance(answer, rnasp.NotifyAnswer)
    assert answer.results is not None
    assert answer.results[0].redirects[0].rna == ServiceLocation(None, (Endpoint("127.0.0.1", 1),))


def test_what_is_unknown_is_never_looked_into() -> None:
    nested = b""
    for _ in range(2000):
        nested = tlv(0xBE, nested)
    assert msrap.decode_command(unpin(tlv(0x80, KEY) + nested)) == msrap.UnPin(KEY)
    assert msrap.decode_command(unpin(tlv(0x80, KEY) + tlv(0xBE, b"\x1f\xff\x00"))) == msrap.UnPin(KEY)


UNKNOWN = [tlv(0x86, b"six"), tlv(0xBE, b"\x04\x00"), tlv(0x02, b"\x05"), tlv(0x7E, b"")]


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_unknown_elements_are_skipped_in_every_place(unknown: bytes) -> None:
    known = [STORE, RECIPIENT, IDENTIFIER, SENDER, SIZE]
    for place in range(6):
        octets = notification(*known[:place], unknown, *known[place:])
        assert decode_notification(octets) == decode_notification(GOOD)._replace(raw=octets)
    result = tlv(0x30, unknown + tlv(0x80, b"\x00") + unknown)
    answer = rnasp.decode_response(tlv(0xA2, response(tlv(0xA1, unknown + tlv(0xB0, result)))[2:] + unknown))
    assert answer.data == rnasp.NotifyAnswer(results=(Outcome(0),))
    assert msrap.decode_response(response(tlv(0xA2, unknown))).data == msrap.Silenced()


# -- unexpected is not malformed: the session is kept


@pytest.mark.parametrize("protocol", [rnasp, rnaqp, msrap, msoap])
@pytest.mark.parametrize(
    "pdu",
    [
        command(tag=0xBE),
        command(b"anything", tag=0xBE),
        command(tag=0x9E),
        tlv(0xA3, b""),
        response(tlv(0xA0, b"")),
        response(tlv(0xBE, b"")),
    ],
    ids=["arm", "arm with content", "primitive arm", "side", "response", "response of an unknown arm"],
)
def test_good_der_of_another_command_is_unexpected(protocol: Any, pdu: bytes) -> None:
    with pytest.raises(MalformedPDU) as refused:
        protocol.decode_command(pdu)
    assert refused.value.unexpected


@pytest.mark.parametrize(
    "pdu",
    [
        response(tlv(0xA0, b""), status=b"\x63"),
        response(tlv(0xA0, b"")) + b"\x00",
        tlv(0xA1, tlv(0xA0, tlv(0xBE, b"")) + b"\x85\x05"),
        tlv(0xA1, tlv(0xA0, tlv(0x3E, b""))),
        tlv(0xA1, tlv(0xA0, tlv(0x80, b""))),
    ],
    ids=["bad response", "octets behind", "torn element behind", "arm of another class", "arm in a wrong form"],
)
def test_bad_der_of_another_command_is_malformed(pdu: bytes) -> None:
    with pytest.raises(MalformedPDU) as refused:
        rnasp.decode_command(pdu)
    assert not refused.value.unexpected


def test_a_command_is_no_response() -> None:
    with pytest.raises(MalformedPDU):
        msrap.decode_response(unpin(tlv(0x80, KEY)))


# -- what is borne on input


def test_labels_may_come_as_the_string_of_2004() -> None:
    assert decode_notification(labels(b"store", b"example", tag=0x16)).storeclear.domain == "store.example"


def test_one_label_may_hold_a_dotted_name() -> None:
    assert decode_notification(labels(b"store.example")).storeclear.domain == "store.example"


def test_domains_become_lower_case_a_labels() -> None:
    assert decode_notification(labels(b"STORE", "b\u00fccher".encode())).storeclear.domain == "store.xn--bcher-kva"


def test_a_second_zero_in_retrieve_is_the_size() -> None:
    twice = response(tlv(0xA4, tlv(0x80, b"abc") + tlv(0x80, b"\x03")))
    assert msrap.decode_response(twice).data == msrap.Retrieved(b"abc", 3)
    plain = response(tlv(0xA4, tlv(0x80, b"abc") + tlv(0x81, b"\x03")))
    assert msrap.decode_response(plain).data == msrap.Retrieved(b"abc", 3)
    for more in (tlv(0x80, b"\x03"), tlv(0x81, b"\x03")):
        with pytest.raises(MalformedPDU):
            msrap.decode_response(response(tlv(0xA4, tlv(0x80, b"abc") + tlv(0x80, b"\x03") + more)))


def test_list_names_may_come_as_octet_strings() -> None:
    for tag in (0x04, 0x0C, 0x16):
        envelope = command(tlv(0xA1, tlv(tag, b"news")), tlv(0x82, b"\x05"), tag=0xA1)
        assert msoap.decode_command(envelope) == msoap.SubmitEnvelope((), ("news",), 5)


def test_rnaqp_reads_seven_as_not_authenticated_and_never_sends_it() -> None:
    seven = response(tlv(0xA0, b""), status=b"\x07")
    assert rnaqp.decode_response(seven).status is rnasp.Status.errornotauthenticated
    sent = rnaqp.encode_response(rnaqp.Response(False, rnasp.Status.errornosuchmessage))
    assert sent == response(tlv(0xA0, b""), status=b"\x03")


def test_times_may_be_tai64_labels_spans_are_not() -> None:
    moment = 1_700_000_000
    label = (2**62 + moment + 37).to_bytes(8, "big")
    assert msrap.decode_command(command(tlv(0x80, b"news"), tlv(0x81, label))) == msrap.ScanList("news", moment)
    envelope = command(tlv(0x82, label), tag=0xA1)
    assert msoap.decode_command(envelope) == msoap.SubmitEnvelope((), (), 2**62 + moment + 37)
