"""Out by the smarthost: under which sender, with what in front, and what each of its answers comes to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forwarder.bridges import Carried, Gone, Later, Load, Never, Taken
from forwarder.model import Mailbox, handle, parse_mailbox
from forwarder.plugin import PeerError, Ports
from forwarder.testing import KEY, NOON, TurnedClock, make_load, make_notification, make_ports
from forwarder_smtp_bridge.carrier import Carrier, later
from forwarder_smtp_bridge.options import SmtpOut
from forwarder_smtp_bridge.returns import Forward, ReturnPaths, Row

from .scripted_smarthost import DROP, OFFERS, Script, smarthost_of

BOB, EVE = parse_mailbox("bob@isp.example"), parse_mailbox("eve@isp.example")
SRS = "srs.pobox.example"
HOUR = timedelta(hours=1)
MOST = 8 << 20
OPTIONS = {"smarthost": "127.0.0.1:10025", "settle": "1h", "retry": "5d"}


class Road:
    """A carrier and where it goes."""

    def __init__(self, script: Script, carrier: Carrier, clock: TurnedClock, paths: ReturnPaths, scratch: Path) -> None:
        self.script, self.carry, self.clock, self.paths, self.scratch = script, carrier, clock, paths, scratch

    async def brought(self, load: Load) -> tuple[str, bytes]:
        """The envelope sender and the octets of a message that the smarthost took."""
        answers = await self.carry(load)
        assert all(isinstance(answer, Taken) for answer in answers.values()), answers
        return self.mail().partition("<")[2].partition(">")[0], self.script.messages[-1]

    def mail(self) -> str:
        """The last MAIL."""
        return [line for line in self.script.heard if line.startswith("MAIL")][-1]


Open = Callable[..., AbstractAsyncContextManager[Road]]


@pytest.fixture
def road(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(account: str = "") -> AsyncIterator[Road]:
        script, clock = Script(), TurnedClock()
        paths = ReturnPaths(SRS, [b"a secret of ours, long"], now=clock)
        async with smarthost_of(script) as smarthost:
            ports: Ports = replace(make_ports(now=clock), node="node.example", scratch=tmp_path)
            options = SmtpOut.model_validate(OPTIONS)
            yield Road(script, Carrier(options, paths, smarthost, ports, MOST, account), clock, paths, tmp_path)
        assert not os.listdir(tmp_path)

    return opened


# -- envelope senders (bridges.md 6)


async def test_a_native_message_goes_under_the_row_that_owes_it(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(number=77))
        assert out.paths.reverse(sender) == Row(77)


async def test_null_stays_null(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(returns=""))
    assert sender == ""


async def test_a_sender_hosted_here_stays(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(returns="anna@pobox.example", local=True))
    assert sender == "anna@pobox.example"


async def test_a_foreign_sender_is_rewritten_and_comes_back(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(returns="ann@x.example"))
        assert sender.startswith("SRS0=")
        assert out.paths.reverse(sender) == Forward("ann@x.example")


async def test_srs_of_others_becomes_srs1(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(returns="SRS0=abcd=zz=x.example=ann@other.example"))
        assert sender.startswith("SRS1=")
        assert out.paths.reverse(sender) == Forward("SRS0=abcd=zz=x.example=ann@other.example")


async def test_a_sender_too_long_for_srs_goes_under_the_row(road: Open) -> None:
    async with road() as out:
        sender, _ = await out.brought(make_load(returns=f"{'a' * 60}@x.example", number=78))
        assert out.paths.reverse(sender) == Row(78)


async def test_what_one_fixed_account_submitted_keeps_its_sender(road: Open) -> None:
    async with road("smtpout") as out:
        by = make_notification(sender="smtpout")
        assert (await out.brought(make_load(returns="me@x.example", notification=by)))[0] == "me@x.example"
        gateway = make_notification(sender="smtpgateway")
        assert (await out.brought(make_load(returns="me@x.example", notification=gateway)))[0].startswith("SRS0=")
        assert (await out.brought(make_load(notification=by)))[0].startswith("b=")


# -- octets


BODY = b"Subject: tea\r\n\r\n.\r\n..\r\nAt four. \xff\x00\r\n\r\n\r\n"


async def test_a_native_message_has_two_fields_in_front_and_all_its_octets(road: Open) -> None:
    async with road() as out:
        _, octets = await out.brought(make_load(body=BODY, notification=make_notification(sender="toby")))
        assert "BODY=8BITMIME" in out.mail()
    assert octets == (
        b"Delivered-To: brian@pobox.example\r\n"
        b"Received: from store.example (im2000 toby)\r\n"
        b" by node.example with IM2000 id " + handle(KEY).encode() + b";\r\n"
        b" Thu, 01 Jan 2026 12:00:00 +0000\r\n" + BODY
    )


async def test_in_front_stands_the_address_that_passed_it_on_not_where_it_was_sent_first(road: Open) -> None:
    n = make_notification("sales@pobox.example", original=parse_mailbox("brian@elsewhere.example"))
    async with road() as out:
        _, octets = await out.brought(make_load(notification=n))
    assert octets.startswith(b"Delivered-To: sales@pobox.example\r\n")


async def test_what_our_own_store_sends_was_delivered_nowhere_before(road: Open) -> None:
    """Its recipient is the target: in a Delivered-To, the far side would take it for a loop."""
    load = make_load("Bob@isp.example", body=BODY, notification=make_notification("bob@isp.example", sender="brian"))
    async with road() as out:
        _, octets = await out.brought(load)
    assert octets.startswith(b"Received: from store.example (im2000 brian)\r\n")
    assert b"Delivered-To" not in octets


async def test_what_came_by_smtp_has_nothing_in_front_and_loses_its_return_path(road: Open) -> None:
    async with road() as out:
        body = b"Return-Path: <ann@x.example>\r\n" + BODY
        _, octets = await out.brought(make_load(body=body, returns="ann@x.example"))
    assert octets == BODY


async def test_odd_addresses_of_ours_are_written_in_front_as_they_are(road: Open) -> None:
    async with road() as out:
        for address, written in (('"a b"@pobox.example', '"a b"'), ("\u00e9ric@pobox.example", "\u00e9ric")):
            _, octets = await out.brought(make_load(notification=make_notification(address)))
            assert octets.startswith(f"Delivered-To: {written}@pobox.example\r\n".encode())
            assert ("SMTPUTF8" in out.mail()) is not written.isascii()


async def test_bare_ends_of_lines_are_replaced_and_that_is_told(road: Open) -> None:
    async with road() as out:
        answers = await out.carry(make_load(body=b"Subject: x\r\n\r\na\n.\nb\rc\r\n"))
        assert answers == {BOB: Taken(HOUR, "3 bare CR or LF replaced")}
    assert out.script.messages[0].endswith(b"\r\n\r\na\r\n.\r\nb c\r\n")


async def test_a_large_message_goes_whole(road: Open) -> None:
    body = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 100_000
    async with road() as out:
        _, octets = await out.brought(make_load(body=body, returns=""))
    assert octets == body


UTF8 = "Subject: th\u00e9\r\n".encode()
BY_UTF8 = b"Received: from a (b [192.0.2.1])\r\n\tby mx (Postfix) with UTF8SMTPS id 1\r\n\tfor <x@y>; now\r\n"
BY_ESMTP = BY_UTF8.replace(b"UTF8SMTPS", b"ESMTPS")


@pytest.mark.parametrize(
    ("returns", "head", "asked"),
    [
        ("", BY_UTF8 + UTF8, True),
        ("", b"Return-Path: <>\r\nDelivered-To: x@y\r\n" + BY_UTF8, True),
        ("", BY_ESMTP + UTF8, False),  # as it came: the next MTA may know no SMTPUTF8
        ("", BY_ESMTP + BY_UTF8, False),
        ("", b"Subject: with UTF8SMTP id\r\n", False),
        ("\u00e9ric@pobox.example", BY_ESMTP, True),
        (None, UTF8, True),
        (None, b"Subject: tea\r\n", False),
        (None, b"Subject: \xe9\r\n", False),  # no UTF-8: nothing that SMTPUTF8 speaks of
        (None, b"Subject: tea\r\n\r\n" + UTF8, False),
    ],
)
async def test_smtputf8_is_asked_for_as_it_was_on_the_way_in(
    road: Open, returns: str | None, head: bytes, asked: bool
) -> None:
    async with road() as out:
        await out.brought(make_load(body=head + b"\r\nx\r\n", returns=returns, local=True))
        assert ("SMTPUTF8" in out.mail()) is asked


# -- loops


async def test_a_mail_is_not_brought_to_where_it_was_before(road: Open) -> None:
    body = b"Delivered-To: BOB@isp.example\r\nReceived: from a by b; now\r\nSubject: x\r\n\r\n"
    async with road() as out:
        answers = await out.carry(make_load("bob@isp.example", "eve@isp.example", body=body, returns="ann@x.example"))
        assert answers == {BOB: Never(50, "it was delivered there before"), EVE: Taken()}
        assert await out.carry(make_load(body=body, returns="")) == {BOB: Never(50, "it was delivered there before")}
        assert len(out.script.messages) == 1


async def test_case_makes_no_other_address(road: Open) -> None:
    async with road() as out:
        load = make_load("Bob@isp.example", body=b"Delivered-To: bob@ISP.example\r\n\r\n", returns="")
        assert [type(answer) for answer in (await out.carry(load)).values()] == [Never]


async def test_a_native_message_may_say_what_it_likes_of_delivery(road: Open) -> None:
    async with road() as out:
        await out.brought(make_load(body=b"Delivered-To: bob@isp.example\r\n\r\n"))


# -- what the smarthost's answers come to (bridges.md 5)


async def asked(out: Road, load: Load | None = None) -> Carried:
    answers = await out.carry(load or make_load())
    assert set(answers) == {BOB}
    return answers[BOB]


async def test_only_a_native_message_settles(road: Open) -> None:
    async with road() as out:
        assert await asked(out) == Taken(HOUR)
        assert await asked(out, make_load(returns="ann@x.example")) == Taken()
        assert await asked(out, make_load(returns="")) == Taken()


@pytest.mark.parametrize(
    ("stage", "answer", "said"),
    [
        ("connect", b"554 5.7.1 go away", "554 5.7.1 go away"),
        ("EHLO", b"501 5.5.4 no", "501 5.5.4 no"),
        ("MAIL", b"451 4.3.0 busy", "451 4.3.0 busy"),
        ("MAIL", b"530 5.7.0 log in", "530 5.7.0 log in"),
        ("RCPT", b"450 4.2.0 greylisted", "450 4.2.0 greylisted"),
        ("DATA", b"451 4.3.0 busy", "451 4.3.0 busy"),
        ("dot", b"421 4.3.2 down", "421 4.3.2 down"),
        ("dot", DROP, "closed by the smarthost"),
    ],
)
async def test_a_temporary_no_is_later(road: Open, stage: str, answer: bytes, said: str) -> None:
    async with road() as out:
        out.script.then(stage, answer)
        assert await asked(out) == Later(NOON + timedelta(minutes=5), said)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
async def test_a_permanent_no_is_never(road: Open, stage: str) -> None:
    async with road() as out:
        out.script.then(stage, b"550 5.1.1 no such user")
        assert await asked(out) == Never(49, "550 5.1.1 no such user")


async def test_each_target_has_its_own_answer(road: Open) -> None:
    async with road() as out:
        out.script.then("RCPT TO:<eve@isp.example>", b"550 5.1.1 gone")
        out.script.then("RCPT TO:<joe@isp.example>", b"450 4.2.0 later")
        answers: Mapping[Mailbox, Any] = await out.carry(
            make_load("bob@isp.example", "eve@isp.example", "joe@isp.example", returns="")
        )
    assert [type(answer) for answer in answers.values()].count(Taken) == 1
    assert answers[BOB] == Taken()
    assert answers[EVE] == Never(49, "550 5.1.1 gone")
    assert isinstance(answers[parse_mailbox("joe@isp.example")], Later)


def test_later_is_five_minutes_doubling_to_four_hours() -> None:
    waits = [(later(NOON, tries) - NOON).total_seconds() / 60 for tries in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 240, 240, 240]
    assert later(NOON, 10_000) == NOON + timedelta(hours=4)


async def test_after_all_its_time_it_is_tried_once_more_and_later_is_never(road: Open) -> None:
    """So that a node that was down for a week loses nothing unasked."""
    old = make_load(since=NOON - timedelta(days=5, seconds=1), tries=30)
    async with road() as out:
        assert await asked(out, old) == Taken(HOUR)
        out.script.then("RCPT", b"450 4.2.0 greylisted")
        assert await asked(out, old) == Never(49, "given up: 450 4.2.0 greylisted")
        out.script.then("RCPT", b"450 4.2.0 greylisted")
        in_time = make_load(since=NOON - timedelta(days=5), tries=30)
        assert await asked(out, in_time) == Later(NOON + timedelta(hours=4), "450 4.2.0 greylisted")


# -- where there is nothing to bring


async def test_what_is_gone_at_its_store_is_never(road: Open) -> None:
    async with road() as out:
        answer = await asked(out, make_load(body=Gone()))
        assert isinstance(answer, Never)
        assert answer.code == 53
        assert not out.script.sessions


async def test_what_the_mta_would_not_take_is_never_fetched(road: Open) -> None:
    """A store may say that it has any number of octets for us."""
    load = make_load("bob@isp.example", body=PeerError("asked"), notification=make_notification(size=MOST + 1))
    async with road() as out:
        [answer] = (await out.carry(load)).values()
    assert answer == Never(49, f"it is too big: {MOST + 1} octets, {MOST} go")


async def test_a_store_that_is_down_is_the_core_s_to_wait_for(road: Open) -> None:
    async with road() as out:
        with pytest.raises(PeerError):
            await out.carry(make_load(body=PeerError("down")))
        assert not out.script.sessions


async def test_a_smarthost_without_8bitmime_is_waited_for(road: Open) -> None:
    async with road() as out:
        out.script.then("EHLO", OFFERS.replace(b"250-8BITMIME\r\n", b""))
        assert isinstance(await asked(out, make_load(body=BODY)), Later)
