"""Which redirects are remembered, of whom and how long (protocol 5.2, 8.4)."""

from __future__ import annotations

import pytest

from forwarder.model import Redirect, RedirectKind, parse_mailbox
from forwarder.store.machine import WEEK
from forwarder.store.redirects import Redirects

BRIAN, VERA = parse_mailbox("brian@pobox.example"), parse_mailbox("vera@pobox.example")
FOR_GOOD = Redirect(parse_mailbox("bob@isp.example"), None, RedirectKind.permanent, 3600)
FOR_NOW = Redirect(parse_mailbox("freda@isp.example"), None, RedirectKind.temporary, 3600)
A_COPY = Redirect(parse_mailbox("freda@isp.example"), None, RedirectKind.copy, 3600)


@pytest.fixture
def known() -> Redirects:
    return Redirects()


def test_a_permanent_one_counts_until_its_time_is_over(known: Redirects) -> None:
    known.learn(BRIAN, None, [FOR_GOOD], 1000.0)
    assert known.find(BRIAN, None, 4599.0) == (FOR_GOOD,)
    assert known.find(BRIAN, None, 4600.0) == ()


def test_none_counts_for_more_than_a_week(known: Redirects) -> None:
    known.learn(BRIAN, None, [FOR_GOOD._replace(ttl=52 * WEEK)], 0.0)
    assert known.find(BRIAN, None, WEEK - 1.0)
    assert not known.find(BRIAN, None, float(WEEK))


@pytest.mark.parametrize(
    "redirects", [[FOR_NOW], [FOR_GOOD, FOR_NOW], [A_COPY], [FOR_GOOD, A_COPY], [FOR_GOOD._replace(ttl=None)], []]
)
def test_where_one_of_them_is_not_permanent_nothing_is_remembered(known: Redirects, redirects: list[Redirect]) -> None:
    known.learn(BRIAN, None, redirects, 0.0)
    assert len(known) == 0


def test_of_several_the_shortest_time_counts(known: Redirects) -> None:
    known.learn(BRIAN, None, [FOR_GOOD, FOR_GOOD._replace(ttl=60)], 0.0)
    assert known.find(BRIAN, None, 59.0)
    assert not known.find(BRIAN, None, 60.0)


def test_it_is_of_one_mailbox_as_it_was_asked_for(known: Redirects) -> None:
    known.learn(BRIAN, None, [FOR_GOOD], 0.0)
    assert known.find(parse_mailbox("Brian@pobox.example"), None, 1.0)
    assert not known.find(VERA, None, 1.0)
    assert not known.find(BRIAN, "mx.elsewhere.example", 1.0)


def test_a_target_that_refused_is_asked_for_anew(known: Redirects) -> None:
    known.learn(BRIAN, None, [FOR_GOOD], 0.0)
    known.learn(VERA, None, [FOR_GOOD._replace(mailbox=VERA)], 0.0)
    known.revoke(FOR_GOOD.mailbox)
    assert not known.find(BRIAN, None, 1.0)
    assert known.find(VERA, None, 1.0)
