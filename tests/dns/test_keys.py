"""Where the public keys of our stores are published (protocol 5.0), asked by dnspython."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from forwarder.dns.answer import Answerer
from forwarder.dns.published import published, zone_text
from forwarder.dns.zone import Zone, ZoneFacts

KEY = "v=im2k1; k=ed25519; p=" + "A" * 43 + "="
OWN = "20261124._im2000-key.pobox.example"
NODE = "20261124._im2000-key.mx.pobox.example"
FOREIGN = "20261124._im2000-key.store.elsewhere.example"


def facts(mode: str) -> ZoneFacts:
    keys = {OWN: KEY, NODE: KEY, FOREIGN: KEY}
    return ZoneFacts("pobox.example", mode, ("ns1.pobox.example",), "h@pobox.example", 3600, 1, keys=keys)  # type: ignore[arg-type]


def ask(name: str, rdtype: str = "TXT") -> dns.message.Message:
    answer = Answerer([Zone(facts("serve"))]).answer_udp(dns.message.make_query(name, rdtype).to_wire())
    assert answer is not None
    return dns.message.from_wire(answer)


@pytest.mark.parametrize("name", [OWN, NODE])
def test_a_served_zone_answers_with_them(name: str) -> None:
    (rrset,) = ask(name).answer
    assert (rrset.ttl, rrset[0].to_text()) == (3600, f'"{KEY}"')


def test_names_between_exist_and_others_do_not() -> None:
    assert ask("_im2000-key.pobox.example").rcode() == dns.rcode.NOERROR
    assert ask("_im2000-key.mx.pobox.example").rcode() == dns.rcode.NOERROR
    assert ask("s9._im2000-key.pobox.example").rcode() == dns.rcode.NXDOMAIN
    assert ask(OWN, "A").rcode() == dns.rcode.NOERROR


def test_a_delegated_zone_does_not_hold_them() -> None:
    zone = Zone(facts("delegate"))
    assert not any(b"im2000-key" in name for name in zone.nodes)


@pytest.mark.parametrize(
    ("mode", "serve", "title"),
    [
        ("serve", True, "served here, pobox.example"),
        ("delegate", True, "into the zone pobox.example"),
        ("delegate", False, "into the zone pobox.example"),
    ],
)
def test_dns_show_prints_them_where_they_belong(mode: str, serve: bool, title: str) -> None:
    parts = published(facts(mode), serve=serve)
    found = {part.title: [record.owner for record in part.records if record.rdtype == "TXT"] for part in parts}
    assert found[title] == [f"{OWN}.", f"{NODE}."]
    assert found["into the zone of the store that this domain's notifications name"] == [f"{FOREIGN}."]
    assert f'IN TXT "{KEY}"' in " ".join(zone_text(parts).split())
