"""Reports on what failed after we had taken it: to whom, what they say, and what becomes of those put off."""

from __future__ import annotations

import email
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from forwarder.bridges import Failure
from forwarder.model import Mailbox, parse_mailbox
from forwarder.testing import NOON, MemoryFailures, MemoryLog, TurnedClock, make_service_ports
from forwarder_smtp_bridge import smtp_session
from forwarder_smtp_bridge.fates import Deferred, Fate, Sent
from forwarder_smtp_bridge.reporting import ALL_AT_ONCE, PUT_OFF, Reporting
from forwarder_smtp_bridge.reports import Report, read_report
from forwarder_smtp_bridge.smarthost import Smarthost

from .scripted_smarthost import HANG, Script, smarthost_of

SALES = parse_mailbox("sales@pobox.example")
HEAD = b"From: ann@x.example\r\nSubject: tea\r\n"


def failure(number: int, returns: str = "ann@x.example", code: int = 49, text: str = "refused") -> Failure:
    return Failure(number, returns, SALES, code, text, NOON, HEAD)


class Failing(MemoryFailures):
    """Says when it is waited on, and when something is done."""

    def __init__(self, *failures: Failure) -> None:
        super().__init__(*failures)
        self.waited = trio.lowlevel.ParkingLot()
        self.waiting = False
        self.done_with = trio.Event()

    async def done(self, number: int, /) -> None:
        await super().done(number)
        self.done_with.set()

    async def wait(self) -> None:
        self.waiting = True
        self.waited.unpark_all()
        try:
            await super().wait()
        finally:
            self.waiting = False

    async def quiet(self) -> None:
        """Until all that can be done is done."""
        while not self.waiting:
            await self.waited.park()


class Desk:
    def __init__(self, script: Script, failures: Failing, log: MemoryLog, clock: TurnedClock) -> None:
        self.script, self.failures, self.log, self.clock = script, failures, log, clock

    def logged(self) -> list[str]:
        return [event for event, _ in self.log.lines]


Open = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture
def desk(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(*failures: Failure, script: Script | None = None, out: bool = True) -> AsyncIterator[Desk]:
        script, due, log, clock = script or Script(), Failing(*failures), MemoryLog(), TurnedClock()
        ports = make_service_ports(failures=due, log=log, now=clock, scratch=tmp_path)
        async with smarthost_of(script) as smarthost, trio.open_nursery() as nursery:
            reporting = Reporting(ports, smarthost if out else None)
            nursery.start_soon(reporting.run, lambda: None)
            yield Desk(script, due, log, clock)
            reporting.drain()
        assert not os.listdir(tmp_path)

    return opened


async def test_a_report_says_what_failed_to_whom_it_was_sent(desk: Open) -> None:
    async with desk(failure(5, code=53, text="expired")) as at:
        [octets] = await at.script.received(1)
        await at.failures.quiet()
        assert at.failures.reported == [5]
    assert [line for line in at.script.heard if line[:4] in ("MAIL", "RCPT")] == [
        next(line for line in at.script.heard if line.startswith("MAIL FROM:<> ")),
        "RCPT TO:<ann@x.example>",
    ]
    message = email.message_from_bytes(octets)
    assert message["To"] == "<ann@x.example>"
    assert message["Message-ID"] == f"<5.{int(NOON.timestamp())}.report@node.example>"
    report = read_report(octets)
    assert isinstance(report, Report)
    [reported] = report.recipients
    assert (reported.final, reported.action, reported.status) == ("sales@pobox.example", "failed", "5.4.7")
    assert b"nobody has read it in all the time it had" in octets
    assert b"Subject: tea" in octets.partition(b"text/rfc822-headers")[2]


async def test_nobody_but_the_address_that_was_written_to_is_named(desk: Open) -> None:
    """The core gives its own generic text; what an agent or a smarthost said of a member stays in the log."""
    async with desk(failure(5)) as at:
        [octets] = await at.script.received(1)
    assert set(octets.replace(b"<", b" ").replace(b">", b" ").split()) & {b"sales@pobox.example"}
    names = {word for word in octets.decode().split() if "@" in word and "report@" not in word}
    assert {name.strip("<>:,;") for name in names} == {
        "MAILER-DAEMON@node.example",
        "ann@x.example",
        "sales@pobox.example",
    }


@pytest.mark.parametrize("returns", ["", "no address", "x@[192.0.2.1]"])
async def test_to_nobody_nothing_is_reported_and_that_is_logged(desk: Open, returns: str) -> None:
    async with desk(failure(5, returns)) as at:
        await at.failures.quiet()
        assert at.failures.reported == [5]
    assert at.script.sessions == 0
    told = {"recipient": str(SALES), "code": 49, "why": "no address to report to"}
    assert at.log.lines == [("failure not reported", told)]


async def test_without_a_way_out_nothing_is_reported_and_that_is_logged(desk: Open) -> None:
    async with desk(failure(5), out=False) as at:
        await at.failures.quiet()
        assert at.failures.reported == [5]
    assert at.log.lines[0][1]["why"] == "no [bridge.smtp_out]"


async def test_a_header_section_that_is_gone_is_no_hindrance(desk: Open) -> None:
    async with desk(replace(failure(5), head=b"")) as at:
        [octets] = await at.script.received(1)
        await at.failures.quiet()
        assert at.failures.reported == [5]
    assert isinstance(read_report(octets), Report)


async def test_what_the_smarthost_refuses_for_good_is_done(desk: Open) -> None:
    script = Script()
    script.then("RCPT", b"550 5.1.1 no such user")
    async with desk(failure(5), script=script) as at:
        await at.failures.quiet()
        assert at.failures.reported == [5]
    assert ("failure not reported", {"recipient": str(SALES), "code": 49, "why": "550 5.1.1 no such user"}) in (
        at.log.lines
    )


async def test_what_failed_later_is_reported_when_it_does(desk: Open) -> None:
    async with desk() as at:
        await at.failures.quiet()
        at.failures.add(failure(6))
        await at.script.received(1)


class Greylisting(Smarthost):
    """Takes a report when it comes for the third time; no thread, so that a clock may jump."""

    def __init__(self) -> None:
        super().__init__("192.0.2.1", 25, name="node.example", log=MemoryLog())
        self.asked: list[float] = []

    async def carry(self, sender: str, to: Sequence[Mailbox], *_: Any, **__: Any) -> Mapping[Mailbox, Fate]:
        self.asked.append(trio.current_time())
        return dict.fromkeys(to, Sent() if len(self.asked) == 3 else Deferred(450, "4.2.0", "later"))


async def test_one_that_is_put_off_is_tried_again_by_itself(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Nothing else has to happen: the node says nothing new."""
    smarthost, failures = Greylisting(), Failing(failure(5))
    now = lambda: NOON + timedelta(seconds=trio.current_time())  # noqa: E731
    reporting = Reporting(make_service_ports(failures=failures, now=now, scratch=tmp_path), smarthost)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporting.run, lambda: None)
        await failures.done_with.wait()
        await trio.sleep(86400)  # at rest, or this clock would never jump
        reporting.drain()
    assert [second - smarthost.asked[0] for second in smarthost.asked] == pytest.approx([0, 300, 900])
    assert failures.reported == [5]


async def test_one_that_is_not_due_any_more_keeps_nobody_busy(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    smarthost, failures = Greylisting(), Failing(failure(5))
    now = lambda: NOON + timedelta(seconds=trio.current_time())  # noqa: E731
    reporting = Reporting(make_service_ports(failures=failures, now=now, scratch=tmp_path), smarthost)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporting.run, lambda: None)
        await failures.quiet()
        failures.open.clear()
        await trio.sleep(86400)
        reporting.drain()
    assert len(smarthost.asked) == 1


async def test_those_put_off_hide_none_that_came_later(desk: Open) -> None:
    script = Script()
    script.then("RCPT", *[b"450 4.2.0 later"] * 130)
    async with desk(*map(failure, range(130)), script=script) as at:
        await at.failures.quiet()
        assert at.failures.reported == []
        at.failures.add(failure(500))
        await at.script.received(1)
        while at.failures.reported != [500]:
            await trio.lowlevel.checkpoint()
        assert at.script.most_at_once <= 4
    assert ALL_AT_ONCE < 130


async def test_after_five_days_it_is_given_up(desk: Open) -> None:
    script = Script()
    script.then("RCPT", b"450 4.2.0 later", b"450 4.2.0 later")
    async with desk(script=script) as at:
        await at.failures.quiet()
        at.clock.turn(timedelta(days=5) - timedelta(seconds=1))
        at.failures.add(failure(5))
        while "report put off" not in at.logged():
            await trio.lowlevel.checkpoint()
        await at.failures.quiet()
        assert at.failures.reported == []
        at.clock.turn(timedelta(hours=1))
        at.failures.add(failure(6))
        await at.script.received(1)
        while len(at.failures.reported) < 2:
            await trio.lowlevel.checkpoint()
    assert at.logged().count("failure not reported") == 1
    assert at.logged().count("failure reported") == 1


async def test_a_drain_ends_it_at_once_and_what_is_due_stays_due(desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_session, "LAST_WORD", 0.05)
    script = Script()
    script.then("dot", HANG)
    async with desk(failure(5), script=script) as at:
        await script.received(1)
    assert at.failures.reported == []


class Asked(Failing):
    """How many were asked for at most, and how often; news come all the time."""

    most = rounds = 0

    async def due(self, limit: int = 100, /) -> Sequence[Failure]:
        self.most, self.rounds = max(self.most, limit), self.rounds + 1
        return await super().due(limit)

    async def wait(self) -> None:
        await trio.sleep(0.001)


class Down:
    """A smarthost that is not there."""

    async def carry(self, sender: str, to: Sequence[Mailbox], *message: Any, **how: Any) -> Mapping[Mailbox, Fate]:
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(to, Deferred(0, "", "no connection"))

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_smarthost_that_is_down_for_long_costs_neither_memory_nor_the_disk(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Each of what is due brings its head from the disk: thousands of them, at each piece of news, were too much."""
    due = Asked(*map(failure, range(2 * PUT_OFF)))
    ports = make_service_ports(failures=due, now=TurnedClock(), scratch=tmp_path)
    reporting = Reporting(ports, Down())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporting.run, lambda: None)
        await trio.sleep(PUT_OFF)  # seconds enough for all
        assert due.most <= PUT_OFF + ALL_AT_ONCE
        before = due.rounds
        await trio.sleep(60)
        assert due.rounds - before <= 61
        reporting.drain()
