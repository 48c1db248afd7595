"""A user's record that names an agent of his own (protocol 5.0, user-level DNS)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forwarder.model import Endpoint, Mailbox, parse_mailbox, user_label
from forwarder.net.user_record import parse_user_record, parse_user_records
from forwarder.ports import NoService

from .test_locate import locator

BRIAN = Mailbox("brian", "pobox.example")
OWNER = f"{user_label('brian')}._im2000-user.pobox"


async def test_the_record_itself_may_hold_the_service_of_its_agent(
    nameserver: Callable[[str], Awaitable[Any]],
) -> None:
    """For a user at a port of his own, where SRV and TXT cannot be paired otherwise."""
    server = await nameserver(
        f'{OWNER} 300 IN TXT "v=im2k1; to=bob@isp.example; " "rna={OWNER}.example"\n'
        f"_im2000-rnasp._tcp.{OWNER} 300 IN SRV 0 0 7105 near\n"
        "near 300 IN A 93.184.216.1\n"
    )
    where = locator(server)
    [record] = await where.records(BRIAN)
    assert (record.to, record.rna) == (parse_mailbox("bob@isp.example"), f"{OWNER}.example")
    agent = await where.find(record.rna, "rnasp")
    assert agent.endpoints == (Endpoint("93.184.216.1", 7105),)


@pytest.mark.parametrize(
    "text",
    [
        "v=im2k1; to=bob@isp.example",
        "v=im2k1; to=bob@isp.example; g=0; pri=10; k=temp",
        "v=im2k1; to=%62ob@isp.example;k=temp;",
        "v=im2k1; to=bob@isp.example; colour=blue; g=0",
    ],
)
def test_what_is_not_said_is_the_default_and_what_is_not_known_is_passed_over(text: str) -> None:
    record = parse_user_record(text)
    assert record is not None
    assert (str(record.to), record.rna) == ("bob@isp.example", "isp.example")
    assert (record.group, record.priority, record.permanent) == (0, 10, False)


def test_of_many_the_first_ten_by_group_priority_and_target_count() -> None:
    texts = [f"v=im2k1; to=u{n}@isp.example; g={n % 3}; pri={n % 2}" for n in range(20)]
    records = parse_user_records(reversed(texts))
    every = [(n % 3, n % 2, f"u{n}@isp.example") for n in range(20)]
    assert [(r.group, r.priority, str(r.to)) for r in records] == sorted(every)[:10]


def test_a_mistake_voids_its_own_record_and_no_other() -> None:
    good = "v=im2k1; to=bob@isp.example"
    bad = [
        "v=im2k1; to=b&b@isp.example",
        f"{good}; g=x",
        f"{good}; to=vera@isp.example",
        "to=bob@isp.example; v=im2k1",
        "v=im2k1",
        "v=im2k1; to=bob",
    ]
    assert [str(record.to) for record in parse_user_records([*bad, good])] == ["bob@isp.example"]
    assert parse_user_records(bad) == ()


def test_spellings_of_one_local_part_have_one_label() -> None:
    """Composed or not, in capitals or not; and the tag is part of it."""
    composed, apart = "j\u00fcrgen", "ju\u0308rgen"
    assert {user_label(spelling) for spelling in (composed, apart, composed.upper(), apart.upper())} == {
        hashlib.sha256(composed.encode()).hexdigest()[:56]
    }
    assert user_label("jurgen") != user_label(composed) != user_label(f"{composed}+lists")


async def test_a_look_up_that_there_is_no_room_for_leaves_the_domains_agent(
    nameserver: Callable[[str], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = locator(await nameserver(""))

    async def full(name: object, look_up: object) -> None:
        raise NoService("noserver", "too many look-ups")

    monkeypatch.setattr(where._users, "get", full)
    assert await where.records(BRIAN) == ()
