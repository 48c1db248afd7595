"""Queries of strangers, and what strangers publish: records of users, of keys."""

from __future__ import annotations

import dns.message

from forwarder import signature
from forwarder.dns.answer import Answerer
from forwarder.dns.zone import Zone, ZoneFacts, user_record
from forwarder.model import Mailbox, format_user_record, user_label, user_record_line
from forwarder.net.user_record import RECORDS, parse_user_record, parse_user_records
from forwarder.wire.notification import decode_notification

from .pdus import NOTIFICATIONS
from .target import Once, Target, plain

BOB = Mailbox("bob", "isp.example")
LINES = [user_record_line(user_label("brian"), format_user_record(BOB, group=group)) for group in range(40)]
CATCH_ALL = user_record_line("*", format_user_record(BOB), 60)
WHOLE = ZoneFacts(
    domain="pobox.example",
    mode="serve",
    nameservers=("ns1.pobox.example", "ns2.elsewhere.example"),
    contact="host.master@pobox.example",
    ttl=3600,
    serial=7,
    services={"rnasp": ("mx1.pobox.example", 7101), "msraps": ("mx1.deep.pobox.example", 7112)},
    addresses={"mx1.pobox.example": ("192.0.2.2", "2001:db8::2"), "mx1.deep.pobox.example": ("192.0.2.3",)},
    records=LINES,
    keys={"s1._im2000-key.pobox.example": "v=im2k1; k=ed25519; p="},
)
DELEGATED = ZoneFacts("home.example", "delegate", ("ns1.home.example",), "a@home.example", 60, 1, records=[CATCH_ALL])
UNSEEN = ZoneFacts("new.example", "delegate", ("ns1.new.example",), "a@new.example", 60, 1, complete=False)
EDNS_OCTETS, TCP_OCTETS, UDP_OCTETS = 1232, 65535, 512  # the DNS flag day of 2020; RFC 1035 4.2.2 and 2.3.4
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def _name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def _query(name: str, rdtype: int, opt: bytes = OPT) -> bytes:
    return b"id\1\0\0\1\0\0\0\0\0" + bytes([bool(opt)]) + _name(name) + bytes([0, rdtype, 0, 1]) + opt


USER = f"{user_label('brian')}._im2000-user.pobox.example"
QUERIES = [
    _query("pobox.example", 6),
    _query("_im2000-rnasp._tcp.pobox.example", 33, b""),
    _query(USER, 16, b""),
    _query(USER.upper(), 16),
    _query(USER, 16, OPT[:3] + b"\xff\xff" + OPT[5:]),
    _query("any.thing._im2000-user.home.example", 255),
    _query("nobody._im2000-user.new.example", 16),
    _query("mx1.deep.pobox.example", 28, OPT[:3] + b"\2\0" + OPT[5:]),
]
WORDS = [OPT, b"\xc0\x0c", b"\x3f", b"\xff", *map(_name, ("pobox.example", "_im2000-user.home.example", "_tcp"))]


def packets() -> Once:
    zones = [Zone(facts) for facts in (WHOLE, DELEGATED, UNSEEN)]
    answerer, forgetful = Answerer(zones), Answerer(zones)

    def once(packet: bytes) -> None:
        """The answer is to this question, no longer than may be, remembered or not, and a library can read it."""
        answer, whole, slip = answerer.answer_udp(packet), answerer.answer_tcp(packet), answerer.truncated(packet)
        assert answer == forgetful.answer_udp(packet)
        forgetful.swap(zones)
        assert answer == answerer.answer_udp(packet)
        assert (answer is None) == (whole is None)
        if slip is not None:
            assert len(slip) <= len(packet)
        if answer is None or whole is None:
            return
        assert len(answer) <= EDNS_OCTETS
        assert len(answer) <= UDP_OCTETS or packet[10:12] != b"\0\0"
        assert len(answer) <= len(whole) <= TCP_OCTETS
        for said in (answer, whole):
            assert said[:2] == packet[:2]
            assert said[2] & 0x80
            assert said[3] & 0x80 == 0, "we recurse for nobody"
            if whole[3] & 0xF in (0, 3):
                dns.message.from_wire(said)

    return once


def user_records(octets: bytes) -> None:
    """What is read can be written, and is read again as the same; a user has no more than ten."""
    texts = [text.decode("ascii", "replace") for text in octets.split(b"\n")]
    for text in texts:
        found = parse_user_record(text)
        if found is not None and found.to is not None:
            written = format_user_record(found.to, found.rna, found.group, found.priority, found.permanent)
            assert parse_user_record(written) == found, (found, written)
            assert user_record(user_record_line(user_label(found.to.localpart), written), 60)
    assert len(parse_user_records(texts)) <= RECORDS


def keys() -> Once:
    signed = decode_notification(NOTIFICATIONS[2])
    records = [signature.key_record(bytes([n]) * 32) for n in range(2)]
    good = signature.sign(signed.raw, bytes([1]) * 32)
    assert signed.signature is not None
    true = signed._replace(signature=signed.signature._replace(value=good))

    def once(octets: bytes) -> None:
        texts = [text.decode("ascii", "replace") for text in octets.split(b"\n")]
        verdict = signature.judge(true, texts)
        assert verdict in ("good", "wrong", "unknown")
        assert verdict != "unknown" or not any(text in records for text in texts[: signature.RECORDS])
        assert verdict == "good" or records[1] not in texts[: signature.RECORDS]

    return once


def zone_lines(octets: bytes) -> None:
    """A plugin's zone line: a label and its octets, or ValueError."""
    zone = Zone(DELEGATED)
    for line in octets.decode("utf-8", "replace").split("\n"):
        try:
            label, _ = user_record(line, 60)
            zone.set_user(label, [line])
        except ValueError:
            continue
        query = _query(f"{label}._im2000-user.home.example", 16)
        answer = Answerer([zone]).answer_tcp(query)
        assert answer is not None
        assert int.from_bytes(answer[6:8], "big") == 1


TAGS = [b"v=im2k1", b";", b"; ", b"to=", b"rna=", b"g=", b"pri=", b"k=perm", b"%40", b"%00", b"@", b"=", b"\n"]
KEYS = [b"v=im2k1; k=ed25519; p=", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", b"=", b"p=", b"k=", b"\n", b";"]
USERS = [
    format_user_record(BOB, "mx.example", 3, 5, True).encode(),
    format_user_record(None).encode() + b"\n" + format_user_record(Mailbox("b ö", "isp.example")).encode(),
]
RECORD = b"\n".join(signature.key_record(bytes([n]) * 32).encode() for n in (0, 1))
ZONES = [LINES[3].encode(), CATCH_ALL.encode() + b"\n" + LINES[0].encode()]

TARGETS = [
    Target("dns", packets, QUERIES, WORDS, 600),
    Target("user_records", plain(user_records), USERS, TAGS, 1024),
    Target("keys", keys, [RECORD, b"v=im2k1; k=ed25519; p="], KEYS, 1024),
    Target("zone_lines", plain(zone_lines), ZONES, [b'"', b" ", b"TXT", b" IN ", b"*", b"._im2000-user", b"\n"], 1024),
]
