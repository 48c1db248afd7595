"""A small domain that the tests of this folder publish, and a server of it on loopback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import trio

from forwarder.dns.answer import Answerer
from forwarder.dns.rate import AnswerRate
from forwarder.dns.serve import Limits, open_listeners, serve
from forwarder.dns.zone import ZoneFacts
from forwarder.model import Endpoint, Mailbox, format_user_record, user_label, user_record_line


@pytest.fixture(scope="session")
def facts() -> ZoneFacts:
    """The whole zone: services, hosts, one of them deep, two users, the first of whom has two targets."""
    users = [("brian", Mailbox("bob", "isp.example"), 1), ("brian", Mailbox("brian", "home.example"), 2)]
    users += [("anna", Mailbox("anna", "isp.example"), 0)]
    return ZoneFacts(
        domain="pobox.example",
        mode="serve",
        nameservers=("ns1.pobox.example", "ns2.elsewhere.example"),
        contact="host.master@pobox.example",
        ttl=3600,
        serial=7,
        services={"rnasp": ("mx1.pobox.example", 7101), "msraps": ("mx1.deep.pobox.example", 7112)},
        addresses={
            "ns1.pobox.example": ("192.0.2.1",),
            "mx1.pobox.example": ("192.0.2.2", "2001:db8::2"),
            "mx1.deep.pobox.example": ("192.0.2.3",),
        },
        records=[user_record_line(user_label(name), format_user_record(to, group=g)) for name, to, g in users],
    )


@pytest.fixture(scope="session")
def delegated(facts: ZoneFacts) -> ZoneFacts:
    """Only `_im2000-user.pobox.example`, with a catch-all."""
    catch_all = user_record_line("*", format_user_record(Mailbox("lost", "isp.example")), 60)
    return replace(facts, mode="delegate", records=[*facts.records, catch_all])


@pytest.fixture
async def start(nursery: trio.Nursery) -> Callable[..., object]:
    """Starts a server of an Answerer; gives its endpoint. Connection limits and rate as asked, else generous."""

    async def begin(answerer: Answerer, limits: Limits | None = None, per_second: int = 0) -> Endpoint:
        listeners = await open_listeners([Endpoint("127.0.0.1", 0)])
        run = partial(serve, answerer, listeners, limits=limits, rate=AnswerRate(per_second))
        endpoints = await nursery.start(run)
        return Endpoint(*endpoints[0])

    return begin
