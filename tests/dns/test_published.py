"""What `dns show` prints can be pasted: each part is a zone file that others read."""

from __future__ import annotations

from dataclasses import replace

import dns.zone

from forwarder.dns.published import published, zone_text
from forwarder.dns.zone import ZoneFacts


def test_a_delegated_domain_needs_services_and_a_delegation_at_its_hoster(delegated: ZoneFacts) -> None:
    hoster, here = published(delegated)
    assert hoster.title == "into the zone pobox.example"
    assert [(record.owner, record.rdtype, record.rdata) for record in hoster.records] == [
        ("_im2000-rnasp._tcp.pobox.example.", "SRV", "0 0 7101 mx1.pobox.example."),
        ("_im2000-msraps._tcp.pobox.example.", "SRV", "0 0 7112 mx1.deep.pobox.example."),
        ("_im2000-user.pobox.example.", "NS", "ns1.pobox.example."),
        ("_im2000-user.pobox.example.", "NS", "ns2.elsewhere.example."),
    ]
    assert here.title == "served here, _im2000-user.pobox.example"
    assert [record.rdtype for record in here.records] == ["SOA", "NS", "NS", "TXT", "TXT", "TXT", "TXT"]
    assert here.records[-1][:2] == ("*._im2000-user.pobox.example.", 60)


def test_a_whole_zone_needs_glue_above_it(facts: ZoneFacts) -> None:
    above, _here = published(facts)
    assert above.title == "into the zone example"
    assert [(record.owner, record.rdtype) for record in above.records] == [
        ("pobox.example.", "NS"),
        ("pobox.example.", "NS"),
        ("ns1.pobox.example.", "A"),
    ]


def test_a_domain_whose_dns_is_elsewhere_gets_all_to_paste(delegated: ZoneFacts) -> None:
    (everything,) = published(delegated, serve=False)
    assert [record.rdtype for record in everything.records] == ["SRV", "SRV", "TXT", "TXT", "TXT", "TXT"]


def test_the_text_is_aligned_and_a_zone_file(facts: ZoneFacts) -> None:
    text = zone_text(published(facts))
    lines = [line for line in text.splitlines() if not line.startswith(";")]
    assert len({line.index(" IN ") for line in lines}) == 1
    zone = dns.zone.from_text(zone_text(published(facts)[1:]), "pobox.example.", relativize=False)
    assert len(zone.nodes) == 8


def test_a_wildcard_that_would_capture_others_is_not_shown(delegated: ZoneFacts) -> None:
    assert "*" not in zone_text(published(replace(delegated, tags=True)))
