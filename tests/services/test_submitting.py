"""Mail that comes by other ways than MSOAP: what is answered when, what is taken back, what comes again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from forwarder.bridges import Failure, Submission, SubmissionRefused
from forwarder.model import Mailbox, Outcome, parse_mailbox
from forwarder.ports import Due, Verdict
from forwarder.services.submitting import QUIET, Submitting
from forwarder.storage.returns import Returns
from forwarder.store.machine import Event
from forwarder.wire.notification import decode_notification

from .store_house import DAY, RULES, StoreHouse

BRIAN, BOB = parse_mailbox("brian@pobox.example"), parse_mailbox("bob@pobox.example")
BODY = b"From: Alice <alice@out.example>\r\nSubject: x\r\n\r\nhello\r\n"
WAIT = 2.0
NOW = timedelta(0)


class Bridge:
    """Who brings mail, and who plays the sending of our store: `says` is what each target's agent answers."""

    def __init__(self, house: StoreHouse) -> None:
        self.house = house
        self.returns = Returns(house.messages)
        self.submitting = Submitting(house.messages, self.returns, house.accounts, RULES)

    async def bring(
        self, *to: Mailbox, wait: timedelta = NOW, mark: str = "x", body: bytes = BODY, **more: Any
    ) -> list[Outcome]:
        spool = self.submitting.spool()
        await spool.write(body)
        once = tuple(f"{mark} {mailbox}".encode() for mailbox in to)
        made: dict[str, Any] = {"account": "toby", "returns": "alice@out.example", "lifetime": timedelta(days=30)}
        submission = Submission(to=to, spool=spool, once=once, wait=wait, **(made | more))
        return list(await self.submitting.submit(submission))

    async def due(self) -> list[Due]:
        return list((await self.house.messages.due(9, ()))[0])

    async def answer(self, says: Mapping[Mailbox, Verdict | None]) -> None:
        """Attempts to notify end: committed, then told, as `Sending` does."""
        while True:
            news = self.house.messages.news()
            if due := await self.due():
                break
            await news.wait()
        await trio.testing.wait_all_tasks_blocked()  # the bringer waits
        for one in due:
            verdict = says.get(one.recipient)
            if verdict is not None:
                await self.house.messages.settle(one.number, verdict)
            if one.recipient in says:
                self.submitting.heard(one.identifier, verdict)

    async def failures(self) -> list[Failure]:
        self.house.now += QUIET + int(FOREVER.total_seconds())
        return list(await self.returns.due())


@pytest.fixture
async def bridge(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Bridge]:
    house = StoreHouse(tmp_path)
    await house.start(nursery)
    yield Bridge(house)
    await house.database.close()


def files(bridge: Bridge) -> int:
    return sum(path.is_file() for path in bridge.house.files.rglob("*"))


async def codes(bring: Coroutine[Any, Any, list[Outcome]], then: Callable[[], Coroutine[Any, Any, None]]) -> list[int]:
    """What the bringer is answered while something else goes on."""
    answers: list[Outcome] = []

    async def run() -> None:
        answers.extend(await bring)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await then()
    return [outcome.code for outcome in answers]


FOREVER = timedelta(hours=1)
TAKEN = Verdict(Event.taken, code=0)
UNKNOWN = Verdict(Event.nouser, code=48)


async def test_it_becomes_a_message_of_the_account_with_a_key_for_each(bridge: Bridge) -> None:
    assert [outcome.code for outcome in await bridge.bring(BRIAN, BOB)] == [32, 32]
    due = await bridge.due()
    assert [one.recipient for one in due] == [BRIAN, BOB]
    letter = decode_notification(due[0].letter)
    claimed = parse_mailbox("alice@out.example")
    assert (letter.sender, letter.claimedfrom, letter.size) == ("toby", claimed, len(BODY))
    assert letter.expires == bridge.house.now + 30 * DAY


async def test_without_a_wait_nobody_is_waited_for(bridge: Bridge) -> None:
    with trio.fail_after(5):
        assert [outcome.code for outcome in await bridge.bring(BRIAN)] == [32]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (TAKEN, 0),
        (Verdict(Event.temporary, code=33), 33),
        (Verdict(Event.temporary, code=35), 35),
        (Verdict(Event.temporary, code=34), 32),
        (Verdict(Event.noserver), 32),
        (None, 32),
        (UNKNOWN, 48),
        (Verdict(Event.refused, code=50), 50),
        (Verdict(Event.refused, code=None), 49),
        (Verdict(Event.refused, code=16), 49),
    ],
)
async def test_the_answer_is_the_outcome_that_was_known_in_time(
    bridge: Bridge, verdict: Verdict | None, code: int
) -> None:
    """None: our store went on to where the agent has pointed it."""
    answered = await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: verdict}))
    assert answered == [code]


@pytest.mark.parametrize("verdict", [UNKNOWN, Verdict(Event.refused, code=49)])
async def test_what_is_refused_in_time_is_gone_before_it_is_told_and_is_not_ours_to_report(
    bridge: Bridge, verdict: Verdict
) -> None:
    [code] = await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: verdict}))
    assert code // 16 == 3
    assert await bridge.due() == []
    assert await bridge.failures() == []


async def test_what_a_full_mailbox_did_not_take_stays_with_the_bringer_who_comes_again(bridge: Bridge) -> None:
    full = {BRIAN: Verdict(Event.temporary, code=33)}
    assert await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer(full)) == [33]
    assert await bridge.due() == []
    assert await bridge.failures() == []
    assert await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: TAKEN})) == [0]


async def test_of_several_only_the_refused_one_is_taken_back(bridge: Bridge) -> None:
    says = {BRIAN: UNKNOWN, BOB: TAKEN}
    assert await codes(bridge.bring(BRIAN, BOB, wait=FOREVER), lambda: bridge.answer(says)) == [48, 0]
    assert await codes(bridge.bring(BRIAN, BOB, wait=FOREVER), lambda: bridge.answer(says)) == [48, 1]


async def test_who_stands_twice_in_one_transaction_is_answered_twice_alike(bridge: Bridge) -> None:
    refused = codes(bridge.bring(BRIAN, BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: UNKNOWN}))
    assert await refused == [48, 48]
    assert await codes(bridge.bring(BRIAN, BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: TAKEN})) == [0, 0]


async def test_a_refusal_after_the_wait_is_reported_by_us(bridge: Bridge) -> None:
    assert [outcome.code for outcome in await bridge.bring(BRIAN, wait=timedelta(milliseconds=1))] == [32]
    await bridge.answer({BRIAN: UNKNOWN})
    assert [(failure.returns, failure.code) for failure in await bridge.failures()] == [("alice@out.example", 48)]


async def test_the_wait_is_for_all_together(bridge: Bridge) -> None:
    """BOB's agent says nothing: what BRIAN's said counts all the same."""
    wait = timedelta(milliseconds=300)
    assert await codes(bridge.bring(BRIAN, BOB, wait=wait), lambda: bridge.answer({BRIAN: UNKNOWN})) == [48, 32]


async def test_the_same_again_is_taken_and_does_nothing(bridge: Bridge) -> None:
    await bridge.bring(BRIAN)
    kept = files(bridge)
    with trio.fail_after(5):
        assert [outcome.code for outcome in await bridge.bring(BRIAN, wait=FOREVER)] == [1]
    assert (len(await bridge.due()), files(bridge)) == (1, kept)


async def test_who_was_cut_off_after_commit_finds_it_here_and_a_later_failure_is_ours(
    bridge: Bridge, nursery: trio.Nursery
) -> None:
    """His session, or we, died before the answer."""
    with trio.CancelScope() as scope:
        nursery.start_soon(bridge.bring, BRIAN)
        while not await bridge.due():
            await bridge.house.messages.news().wait()
        scope.cancel()
    assert [outcome.code for outcome in await bridge.bring(BRIAN)] == [1]
    await bridge.answer({BRIAN: UNKNOWN})
    assert len(await bridge.failures()) == 1


async def test_who_comes_again_while_the_first_still_waits_is_not_cheated_by_its_refusal(bridge: Bridge) -> None:
    """The MTA was started anew and has a yes for it: taking it back now would be a loss that nobody reports."""
    again: list[int] = []

    async def then() -> None:
        while not await bridge.due():
            await bridge.house.messages.news().wait()
        again.extend(outcome.code for outcome in await bridge.bring(BRIAN, wait=FOREVER))
        await bridge.answer({BRIAN: UNKNOWN})

    assert await codes(bridge.bring(BRIAN, wait=FOREVER), then) == [32]
    assert again == [1]
    assert [failure.code for failure in await bridge.failures()] == [48]


async def test_who_comes_again_after_the_first_was_turned_away_is_answered(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk failed for the one, and had room again for the other, who came while the one was still there."""
    submit, turned_away, there = bridge.returns.submit, trio.Event(), trio.Event()

    async def first_fails(*said: Any) -> Any:
        monkeypatch.setattr(bridge.returns, "submit", submit)
        there.set()
        await turned_away.wait()
        raise OSError("disk")

    async def first() -> None:
        with pytest.raises(OSError, match="disk"):
            await bridge.bring(BRIAN)

    async def then() -> None:
        while not await bridge.due():
            await bridge.house.messages.news().wait()
        turned_away.set()
        await bridge.answer({BRIAN: UNKNOWN})

    monkeypatch.setattr(bridge.returns, "submit", first_fails)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await there.wait()
        assert await codes(bridge.bring(BRIAN, wait=FOREVER), then) == [32]
    assert [failure.code for failure in await bridge.failures()] == [48]
    assert bridge.submitting._under_way == {}


async def test_that_it_came_twice_is_remembered_no_longer_than_it_matters(bridge: Bridge) -> None:
    await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: UNKNOWN}))
    assert await codes(bridge.bring(BRIAN, wait=FOREVER), lambda: bridge.answer({BRIAN: UNKNOWN})) == [48]
    assert bridge.submitting._under_way == {}
    assert bridge.submitting._waiting == {}


@pytest.mark.parametrize("account", ["nobody", "reader"])
async def test_an_account_that_may_not_originate_brings_nothing(bridge: Bridge, account: str) -> None:
    with pytest.raises(SubmissionRefused) as refused:
        await bridge.bring(BRIAN, account=account, body=bytes(1 << 20))
    assert refused.value.why == "account"
    assert files(bridge) == 0


async def test_over_the_quota_or_a_limit_of_the_day_nothing_is_kept(bridge: Bridge) -> None:
    await bridge.bring(BRIAN)
    kept = files(bridge)
    bridge.house.accounts.limits["toby"] = {"notifications_per_day": 1}
    with pytest.raises(SubmissionRefused) as limit:
        await bridge.bring(BRIAN, mark="y")
    bridge.submitting = Submitting(
        bridge.house.messages, bridge.returns, bridge.house.accounts, RULES._replace(quota=1)
    )
    with pytest.raises(SubmissionRefused) as quota:
        await bridge.bring(BRIAN, mark="y")
    assert (limit.value.why, quota.value.why) == ("limit", "quota")
    assert files(bridge) == kept


async def test_no_failure_is_reported_while_the_bringer_may_still_be_told(bridge: Bridge) -> None:
    await bridge.bring(BRIAN, wait=timedelta(milliseconds=1))
    await bridge.answer({BRIAN: UNKNOWN})
    bridge.house.now += QUIET - 1
    assert await bridge.returns.due() == []
    bridge.house.now += math.ceil(WAIT)
    assert len(await bridge.returns.due()) == 1
