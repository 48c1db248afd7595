"""What is answered, against an independent reading of the zone: the text of `dns show` loaded by dnspython."""

from __future__ import annotations

import itertools
from dataclasses import replace

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.dns.answer import Answerer
from forwarder.dns.published import published, zone_text
from forwarder.dns.zone import Zone, ZoneFacts
from forwarder.model import Mailbox, format_user_record, user_label, user_record_line

BRIAN, ANNA, NOBODY = user_label("brian"), user_label("anna"), user_label("nobody")
LOST = user_record_line("*", format_user_record(Mailbox("lost", "isp.example")))
TYPES = ["TXT", "SRV", "A", "AAAA", "NS", "SOA", "MX", "DS", "TYPE65280"]
NAMES = [
    "pobox.example",
    "_tcp.pobox.example",
    "_im2000-rnasp._tcp.pobox.example",
    "_im2000-msrap._tcp.pobox.example",
    "x._im2000-rnasp._tcp.pobox.example",
    "mx1.pobox.example",
    "deep.pobox.example",
    "mx1.deep.pobox.example",
    "no.deep.pobox.example",
    "_im2000-user.pobox.example",
    *(f"{label}._im2000-user.pobox.example" for label in (BRIAN, ANNA, NOBODY, f"a.{BRIAN}", "a.b.c")),
]


def ask(answerer: Answerer, name: str, rdtype: str, **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, **options)  # type: ignore[arg-type]  # its many options
    answer = answerer.answer_tcp(query.to_wire())
    assert answer is not None
    parsed = dns.message.from_wire(answer)
    assert query.is_response(parsed)
    return parsed


def oracle(facts: ZoneFacts) -> dns.zone.Zone:
    """The served zone as somebody else reads our text."""
    return dns.zone.from_text(zone_text(published(facts)[1:]), facts.apex + ".", relativize=False)


def expected(zone: dns.zone.Zone, name: dns.name.Name, rdtype: str) -> tuple[int, list[str]]:
    """rcode and answers by RFC 1034 4.3.2 and RFC 4592, without a thought for speed."""
    assert zone.origin is not None
    existing = set(zone.nodes)
    existing |= {dns.name.Name(n.labels[at:]) for n in zone.nodes for at in range(len(n) - len(zone.origin.labels))}
    source = name
    if name not in existing:
        encloser = name
        while encloser not in existing:
            encloser = encloser.parent()
        source = dns.name.Name((b"*", *encloser.labels))
        if source not in zone.nodes:
            return dns.rcode.NXDOMAIN, []
    found = zone.get_rdataset(source, rdtype) if source in zone.nodes else None
    return dns.rcode.NOERROR, sorted(str(rdata) for rdata in found or ())


@pytest.mark.parametrize("mode", ["serve", "delegate"])
@pytest.mark.parametrize("wildcard", [False, True])
def test_each_name_and_type_is_answered_as_the_zone_text_says(facts: ZoneFacts, mode: str, wildcard: bool) -> None:
    records = [*facts.records, LOST] if wildcard else facts.records
    published_facts = replace(facts, mode=mode, records=records)  # type: ignore[arg-type]  # the literal's two words
    answerer, zone = Answerer([Zone(published_facts)]), oracle(published_facts)
    for text, rdtype in itertools.product(NAMES, TYPES):
        name = dns.name.from_text(text)
        answer = ask(answerer, text, rdtype)
        if not name.is_subdomain(zone.origin or name):
            assert answer.rcode() == dns.rcode.REFUSED
            continue
        rcode, rdatas = expected(zone, name, rdtype)
        got = sorted(str(rdata) for rrset in answer.answer for rdata in rrset)
        assert (answer.rcode(), got) == (rcode, rdatas), (text, rdtype)
        assert answer.flags & dns.flags.AA
        assert [rrset.rdtype for rrset in answer.authority] == ([] if rdatas else [dns.rdatatype.SOA])
        assert all(rrset.name == zone.origin and rrset.ttl == 300 for rrset in answer.authority)


def test_the_first_example_of_the_protocol(facts: ZoneFacts) -> None:
    owner = "f3fe5a51a2be8c6dc715028858fcba82ee021be7687e4f95b45086b8._im2000-user.pobox.example."
    (rrset,) = ask(Answerer([Zone(facts)]), owner, "TXT").answer
    assert (str(rrset.name), rrset.ttl) == (owner, 3600)
    assert sorted(str(rdata) for rdata in rrset) == [
        '"v=im2k1; to=bob@isp.example; g=1"',
        '"v=im2k1; to=brian@home.example; g=2"',
    ]


@pytest.mark.parametrize("hidden", ["tags", "patterns", "others"])
def test_no_wildcard_where_it_would_capture_other_addresses(facts: ZoneFacts, hidden: str) -> None:
    tags, patterns, others = (hidden == word for word in ("tags", "patterns", "others"))
    records = [*facts.records, LOST]
    zone = Zone(replace(facts, records=records, tags=tags, patterns=patterns, others=others))
    answerer = Answerer([zone])
    assert ask(answerer, f"{NOBODY}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.NXDOMAIN
    answerer.set_records("pobox.example", "*", [LOST])
    assert ask(answerer, f"{NOBODY}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("mode", ["serve", "delegate"])
def test_until_every_address_is_seen_no_user_is_denied(facts: ZoneFacts, mode: str) -> None:
    incomplete = replace(facts, mode=mode, complete=False)  # type: ignore[arg-type]  # the literal's two words
    answerer = Answerer([Zone(incomplete)])
    assert ask(answerer, f"{BRIAN}._im2000-user.pobox.example", "TXT").answer
    assert ask(answerer, f"{NOBODY}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.SERVFAIL
    answerer.swap([Zone(replace(incomplete, complete=True))])
    assert ask(answerer, f"{NOBODY}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_other_services_are_denied_even_while_users_are_not(facts: ZoneFacts) -> None:
    answerer = Answerer([Zone(replace(facts, complete=False))])
    assert ask(answerer, "_im2000-msrap._tcp.pobox.example", "SRV").rcode() == dns.rcode.NXDOMAIN


def test_a_changed_user_is_answered_anew_and_the_serial_grows(facts: ZoneFacts) -> None:
    answerer = Answerer([Zone(facts)])
    query = dns.message.make_query(f"{ANNA}._im2000-user.pobox.example", "TXT").to_wire()
    before = answerer.answer_udp(query)
    moved = user_record_line(ANNA, format_user_record(Mailbox("anna", "new.example")))
    answerer.set_records("pobox.example", ANNA, [moved])
    after = answerer.answer_udp(query)
    assert before is not None
    assert after is not None
    assert b"to=anna@new.example" in after
    assert b"isp.example" in before
    assert ask(answerer, "pobox.example", "SOA").answer[0][0].serial == 8
    answerer.set_records("pobox.example", ANNA, [])
    assert ask(answerer, f"{ANNA}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_what_changes_while_new_zones_are_made_is_in_them_too(facts: ZoneFacts) -> None:
    answerer = Answerer([Zone(facts)])
    answerer.prepare()
    made_from_an_older_look = Zone(facts)
    answerer.set_records("pobox.example", ANNA, [])
    answerer.set_records("elsewhere.example", ANNA, [])
    answerer.swap([made_from_an_older_look])
    assert ask(answerer, f"{ANNA}._im2000-user.pobox.example", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_the_deeper_of_two_zones_answers(facts: ZoneFacts) -> None:
    inner = replace(facts, domain="sub.pobox.example", addresses={}, services={}, records=())
    answerer = Answerer([Zone(facts), Zone(inner)])
    answer = ask(answerer, "nothing.sub.pobox.example", "A")
    assert str(answer.authority[0].name) == "sub.pobox.example."


def test_any_is_answered_with_one_set(facts: ZoneFacts) -> None:
    (rrset,) = ask(Answerer([Zone(facts)]), "mx1.pobox.example", "ANY").answer
    assert rrset.rdtype == dns.rdatatype.A


def test_the_case_of_the_question_is_kept_and_does_not_matter(facts: ZoneFacts) -> None:
    answer = ask(Answerer([Zone(facts)]), "mX1.PoBoX.eXample", "A")
    assert str(answer.question[0].name) == str(answer.answer[0].name) == "mX1.PoBoX.eXample."


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR", "MAILA"])
def test_nothing_is_transferred(facts: ZoneFacts, rdtype: str) -> None:
    query = dns.message.make_query("pobox.example", rdtype)
    answer = Answerer([Zone(facts)]).answer_tcp(query.to_wire())
    assert answer is not None
    assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(("name", "rdclass"), [("pobox.example.org", "IN"), (".", "IN"), ("version.bind", "CH")])
def test_what_is_not_ours_is_refused(facts: ZoneFacts, name: str, rdclass: str) -> None:
    answer = ask(Answerer([Zone(facts)]), name, "TXT", rdclass=rdclass)
    assert (answer.rcode(), answer.flags & dns.flags.AA, answer.sections[1:]) == (dns.rcode.REFUSED, 0, [[], [], []])


def test_an_answer_is_no_longer_than_its_sender_can_take(facts: ZoneFacts) -> None:
    many = [user_record_line(ANNA, format_user_record(Mailbox("x" * 90 + str(n), "isp.example"))) for n in range(10)]
    answerer = Answerer([Zone(replace(facts, records=many))])
    name = f"{ANNA}._im2000-user.pobox.example"
    for query, limit in [
        (dns.message.make_query(name, "TXT", use_edns=False), 512),
        (dns.message.make_query(name, "TXT", payload=100), 512),
        (dns.message.make_query(name, "TXT", payload=4096), 1232),
    ]:
        answer = answerer.answer_udp(query.to_wire())
        assert answer is not None
        parsed = dns.message.from_wire(answer)
        assert parsed.flags & dns.flags.TC
        assert not parsed.answer
        assert len(answer) <= limit
    assert len(ask(answerer, name, "TXT").answer[0]) == 10
    two = [*many[:2]]
    answerer.swap([Zone(replace(facts, records=two))])
    answer = answerer.answer_udp(dns.message.make_query(name, "TXT", use_edns=False).to_wire())
    assert answer is not None
    assert not dns.message.from_wire(answer).flags & dns.flags.TC


def test_a_later_version_of_edns_is_told_so(facts: ZoneFacts) -> None:
    answer = ask(Answerer([Zone(facts)]), "pobox.example", "SOA", use_edns=1)
    assert (answer.rcode(), answer.edns, answer.answer) == (dns.rcode.BADVERS, 0, [])


def test_flags_of_the_query_come_back(facts: ZoneFacts) -> None:
    query = dns.message.make_query("pobox.example", "SOA", want_dnssec=True)
    query.flags |= dns.flags.CD
    answer = Answerer([Zone(facts)]).answer_udp(query.to_wire())
    assert answer is not None
    parsed = dns.message.from_wire(answer)
    assert parsed.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.CD
    assert (parsed.ednsflags, parsed.payload) == (dns.flags.DO, 1232)


def test_answers_kept_are_those_of_names_that_exist(facts: ZoneFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.dns.answer.READY", 3)
    answerer = Answerer([Zone(facts)])
    for n in range(10):
        answerer.answer_udp(dns.message.make_query(f"x{n}.pobox.example", "A").to_wire())
    assert not answerer._ready
    for n in range(10):
        answerer.answer_udp(dns.message.make_query("mx1.pobox.example", f"TYPE{n + 1}").to_wire())
    assert len(answerer._ready) == 3


def test_a_kept_answer_is_given_again_under_the_new_id(facts: ZoneFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer([Zone(facts)])
    query = dns.message.make_query("mx1.pobox.example", "A", id=1).to_wire()
    first = answerer.answer_udp(query)
    assert first is not None
    monkeypatch.delattr(Answerer, "_answer")
    assert answerer.answer_udp(b"\xff\xfe" + query[2:]) == b"\xff\xfe" + first[2:]


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3), st.sampled_from(["A", "TXT", "ANY"]))
def test_any_octets_may_stand_in_a_name(facts: ZoneFacts, labels: list[bytes], rdtype: str) -> None:
    apex = dns.name.from_text("_im2000-user.pobox.example")
    name = dns.name.Name((*labels, *apex.labels))
    answer = ask(Answerer([Zone(facts)]), name.to_text(), rdtype)
    assert answer.rcode() == (dns.rcode.NXDOMAIN if labels else dns.rcode.NOERROR)


@pytest.mark.parametrize(
    "line",
    [
        "brian IN TXT x",
        "a.b._im2000-user IN TXT x",
        'x._im2000-user IN A "1"',
        f'x._im2000-user IN TXT "{"a" * 256}"',
        'x._im2000-user IN TXT "a" b',
        'x._im2000-user IN TXT "é"',
        "",
    ],
)
def test_a_line_that_is_no_user_record_is_an_error(facts: ZoneFacts, line: str) -> None:
    with pytest.raises(ValueError, match=r"TXT|255"):
        Zone(replace(facts, records=[line]))


def test_a_zone_without_a_nameserver_is_an_error(facts: ZoneFacts) -> None:
    with pytest.raises(ValueError, match="nameservers"):
        Zone(replace(facts, nameservers=()))
