"""What came by other mail, on real files: once for six days, taken back, its failures due until they are reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from forwarder.bridges import Failure
from forwarder.model import Mailbox
from forwarder.ports import Child, Due, Verdict
from forwarder.storage.message_rows import Envelope, OverLimit, OverQuota
from forwarder.storage.returns import LOOK_EVERY, Arriving, Returns
from forwarder.store.letters import letter
from forwarder.store.machine import Event, Read
from forwarder.wire.outcome import EXPIRED

from .test_messages import BOB, BODY, BRIAN, DAY, FREDA, House

ALICE = "alice@out.example"
QUIET = 62
HEAD = BODY[: BODY.index(b"\r\n\r\n") + 4]
TAKEN = Verdict(Event.taken, code=0)
NO_USER = Verdict(Event.nouser, code=48)


class Mail:
    """A house that mail of today comes to."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.returns = Returns(house.messages)

    async def restart(self) -> None:
        await self.house.restart()
        self.returns = Returns(self.house.messages)

    async def bring(
        self,
        *recipients: Mailbox,
        mark: str = "first",
        sender: str = ALICE,
        body: bytes = BODY,
        lifetime: int = 30 * DAY,
        redirects: bool = False,
        quota: int = 10_000,
        per_day: int = 0,
    ) -> list[bytes | None]:
        upload, expires = self.house.messages.upload(), self.house.now + lifetime
        await upload.write(body)
        made = letter("gateway", upload.size, upload.sha256, upload.claimed, expires)
        envelope = Envelope("gateway", recipients, (), made, expires, b"", quota, per_day)
        once = tuple(f"{mark} {recipient}".encode() for recipient in recipients)
        return list(await self.returns.submit(upload, envelope, Arriving(sender, once, QUIET, redirects)))

    async def settle(self, verdict: Verdict, *recipients: Mailbox) -> None:
        """What the agents of these (all) said of what is due."""
        for due in await self.due():
            if due.recipient in (recipients or (due.recipient,)):
                await self.house.messages.settle(due.number, verdict)

    async def due(self) -> list[Due]:
        return list((await self.house.messages.due(100, ()))[0])

    async def failures(self) -> list[tuple[str, str, int]]:
        return [(f.returns, str(f.recipient), f.code) for f in await self.returns.due()]

    async def only(self) -> Failure:
        [failure] = await self.returns.due()
        return failure

    async def rows(self) -> int:
        def count(c: apsw.Connection) -> int:
            return len(c.execute("SELECT key FROM returned").fetchall())

        return await self.house.database.read(count)


@pytest.fixture
async def mail(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Mail]:
    house = House(tmp_path, nursery)
    await house.start()
    yield Mail(house)
    await house.database.close()


# -- once


async def test_the_same_delivery_makes_nothing_for_six_days_restart_or_not(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN)
    assert key is not None
    assert await mail.house.read(key) == BODY
    files = mail.house.bodies
    for days in (0, 2, 5):
        mail.house.now += days * DAY - 1 if days == 5 else 0
        assert await mail.bring(BRIAN) == [None]
        await mail.restart()
    assert mail.house.bodies == files
    assert [due.identifier for due in await mail.due()] == [key]
    mail.house.now += 2 * DAY
    assert await mail.bring(BRIAN) != [None]


async def test_it_is_the_same_whatever_became_of_the_message(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN)
    assert key is not None
    assert await mail.house.messages.unpin(key, None)
    assert await mail.bring(BRIAN) == [None]


async def test_of_several_recipients_only_those_that_are_new_get_keys(mail: Mail) -> None:
    """Postfix lost the answer for one of them, or two came together that came apart before."""
    [brian] = await mail.bring(BRIAN)
    again, bob, freda = await mail.bring(BRIAN, BOB, FREDA)
    assert again is None
    assert {bob, freda}.isdisjoint({None, brian})
    assert sorted(str(due.recipient) for due in await mail.due()) == sorted(map(str, (BRIAN, BOB, FREDA)))
    assert await mail.bring(BOB, BRIAN, FREDA) == [None] * 3


async def test_who_stands_twice_in_one_transaction_gets_it_once(mail: Mail) -> None:
    first, brian, second = await mail.bring(BOB, BRIAN, BOB)
    assert second is None
    assert [due.identifier for due in await mail.due()] == [first, brian]
    assert first is not None
    assert await mail.returns.sender(first) == ALICE


async def test_a_repeat_is_known_before_the_quota_is_asked(mail: Mail) -> None:
    """It takes no room, and a 452 would let it come again and again."""
    await mail.bring(BRIAN, quota=len(BODY))
    assert await mail.bring(BRIAN, quota=len(BODY)) == [None]
    with pytest.raises(OverQuota):
        await mail.bring(BRIAN, mark="second", quota=len(BODY))


async def test_over_a_limit_of_the_day_nothing_is_kept_and_nothing_remembered(mail: Mail) -> None:
    await mail.bring(BRIAN, per_day=1)
    files = mail.house.bodies
    with pytest.raises(OverLimit):
        await mail.bring(BOB, per_day=1)
    assert mail.house.bodies == files
    mail.house.now += DAY + 1
    assert await mail.bring(BOB, per_day=1) != [None]


# -- taken back


async def test_what_was_taken_back_was_never_here(mail: Mail) -> None:
    brian, bob = await mail.bring(BRIAN, BOB)
    assert brian is not None and bob is not None
    await mail.settle(NO_USER, BRIAN)
    await mail.returns.take_back(brian)
    mail.house.now += QUIET
    assert not await mail.house.opens(brian)
    assert await mail.house.opens(bob)
    assert await mail.failures() == []
    fresh = await mail.bring(BRIAN, BOB)
    assert fresh[0] is not None and fresh[1] is None


# -- failures


async def test_a_failure_is_due_when_the_bringer_has_surely_had_his_answer(mail: Mail) -> None:
    await mail.bring(BRIAN)
    await mail.settle(NO_USER)
    mail.house.now += QUIET - 1
    assert await mail.failures() == []
    mail.house.now += 1
    await mail.restart()
    failure = await mail.only()
    assert (failure.returns, failure.recipient, failure.code, failure.head) == (ALICE, BRIAN, 48, HEAD)
    assert failure.at.timestamp() == mail.house.now - QUIET


async def test_the_refusal_and_the_debt_of_a_report_are_one_transaction(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails leaves neither: nobody can have been refused and not be reported."""
    await mail.bring(BRIAN)
    commits: list[str] = []
    commit = mail.house.database.commit

    async def counted(job, *, point=""):  # type: ignore[no-untyped-def]
        commits.append(point)
        return await commit(job, point=point)

    monkeypatch.setattr(mail.house.database, "commit", counted)
    await mail.settle(NO_USER)
    assert commits == ["notified"]
    mail.house.now += QUIET
    assert len(await mail.failures()) == 1


async def test_a_target_that_fails_behind_its_agent_is_due_with_its_code(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN)
    assert key is not None
    await mail.settle(TAKEN)
    mail.house.now += QUIET
    assert await mail.failures() == []
    await mail.returns.refused(key, 49)
    assert await mail.failures() == [(ALICE, str(BRIAN), 49)]


async def test_unread_at_the_end_of_its_time_is_due_and_its_head_is_kept_until_reported(mail: Mail) -> None:
    await mail.bring(BRIAN, lifetime=DAY)
    await mail.settle(TAKEN)
    mail.house.now += DAY
    await mail.house.sweeping.sweep()
    for _ in range(2):  # whatever the grace is, the report needs it
        mail.house.now += DAY
        await mail.house.sweeping.sweep()
        await mail.restart()
    failure = await mail.only()
    assert failure.head == HEAD
    assert mail.house.bodies
    await mail.returns.done(failure.number)
    await mail.house.sweeping.sweep()
    assert mail.house.bodies == []
    assert await mail.failures() == []


@pytest.mark.parametrize("ended", ["read", "unpinned"])
async def test_what_somebody_read_or_un_pinned_is_no_failure(mail: Mail, ended: str) -> None:
    [key] = await mail.bring(BRIAN, lifetime=DAY)
    assert key is not None
    await mail.settle(TAKEN)
    held = await mail.house.messages.find(key)
    assert held is not None
    if ended == "read":
        await mail.house.messages.served(held, Read.readall)
    else:
        await mail.house.messages.unpin(key, None)
    mail.house.now += DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == []


async def test_of_two_only_the_one_who_did_not_un_pin_it_is_due(mail: Mail) -> None:
    """An un-pin unread: who carried it further, or put it away."""
    brian, _ = await mail.bring(BRIAN, BOB, lifetime=DAY)
    assert brian is not None
    await mail.house.messages.unpin(brian, None)
    mail.house.now += DAY
    await mail.house.sweeping.sweep()
    assert [recipient for _, recipient, _ in await mail.failures()] == [str(BOB)]


async def test_who_saw_its_head_only_has_not_read_it(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN, lifetime=DAY)
    assert key is not None
    held = await mail.house.messages.find(key)
    assert held is not None
    await mail.house.messages.served(held, Read.readheaders)
    mail.house.now += DAY
    await mail.house.sweeping.sweep()
    [(_, _, code)] = await mail.failures()
    assert code == EXPIRED


async def test_a_null_sender_is_told_of_nothing(mail: Mail) -> None:
    await mail.bring(BRIAN, mark="refused", sender="", lifetime=DAY)
    await mail.bring(BOB, mark="unread", sender="", lifetime=DAY)
    await mail.settle(NO_USER, BRIAN)
    mail.house.now += 2 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == []
    assert await mail.bring(BRIAN, mark="refused", sender="") == [None]


async def test_a_native_message_that_fails_owes_no_mail(mail: Mail) -> None:
    await mail.house.submit(BRIAN)
    await mail.settle(NO_USER)
    mail.house.now += QUIET
    assert await mail.failures() == []


async def handed_on(mail: Mail, *to: Mailbox) -> None:
    [due] = await mail.due()
    assert await mail.house.messages.hand_on(due.number, [Child(mailbox, BRIAN, None, None) for mailbox in to], 16)


async def test_a_family_has_failed_when_its_last_has_and_the_report_names_the_first_address(mail: Mail) -> None:
    await mail.bring(BRIAN, redirects=True)
    await handed_on(mail, BOB, FREDA)
    await mail.settle(NO_USER, BOB)
    mail.house.now += QUIET
    assert await mail.failures() == []
    await mail.settle(Verdict(Event.refused, code=49), FREDA)
    assert await mail.failures() == [(ALICE, str(BRIAN), 49)]


async def test_a_family_of_which_one_reads_has_not_failed(mail: Mail) -> None:
    await mail.bring(BRIAN, redirects=True, lifetime=DAY)
    await handed_on(mail, BOB, FREDA)
    bob, _ = await mail.due()
    await mail.settle(NO_USER, FREDA)
    held = await mail.house.messages.find(bob.identifier)
    assert held is not None
    await mail.house.messages.served(held, Read.readall)
    mail.house.now += 2 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == []


@pytest.mark.parametrize("redirects", [False, True])
async def test_whether_our_store_follows_by_itself_is_the_bringers_choice(mail: Mail, redirects: bool) -> None:
    await mail.bring(BRIAN, redirects=redirects)
    assert [due.follow for due in await mail.due()] == [redirects]


async def test_reported_is_reported_once_and_its_keys_end(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN)
    assert key is not None
    await mail.settle(NO_USER)
    mail.house.now += QUIET
    await mail.returns.done((await mail.only()).number)
    await mail.restart()
    assert await mail.failures() == []
    assert not await mail.house.opens(key)
    await mail.returns.refused(key, 49)
    mail.house.now += 40 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == []


# -- whose it is, and when it is forgotten


async def test_the_sender_is_known_by_any_key_of_it_and_by_no_other(mail: Mail) -> None:
    [key] = await mail.bring(BRIAN, redirects=True)
    assert key is not None
    await handed_on(mail, BOB)
    [child] = await mail.due()
    native = (await mail.house.submit(BRIAN)).keys[0]
    wanted = [await mail.returns.sender(k) for k in (key, child.identifier, native, bytes(16))]
    assert wanted == [ALICE, ALICE, None, None]


async def test_a_row_stays_while_it_may_be_asked_for(mail: Mail) -> None:
    made = [(await mail.bring(who, mark=who.localpart, lifetime=50 * DAY))[0] for who in (BRIAN, BOB, FREDA)]
    read, waits, owed = made
    assert read is not None and waits is not None and owed is not None
    await mail.house.messages.unpin(read, None)
    await mail.settle(NO_USER, FREDA)
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 3
    mail.house.now += 21 * DAY  # so long a return path is good
    await mail.house.sweeping.sweep()
    assert await mail.returns.sender(read) == ALICE
    mail.house.now += 9 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 2
    await mail.returns.done((await mail.only()).number)
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 1
    mail.house.now += 20 * DAY  # bob never read it
    await mail.house.sweeping.sweep()
    await mail.returns.done((await mail.only()).number)
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 0


async def test_a_null_sender_is_known_as_long_as_somebody_may_carry_it_further(mail: Mail) -> None:
    """Taken for a native message it would get a return path, and a report would have its report."""
    [key] = await mail.bring(BRIAN, sender="", lifetime=50 * DAY)
    assert key is not None
    mail.house.now += 31 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.returns.sender(key) == ""
    await mail.house.messages.unpin(key, None)
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 0


# -- copies that an address made of what came by other mail


async def test_a_copy_that_all_refused_is_due_under_the_name_of_its_address(mail: Mail) -> None:
    await mail.house.copy(returns=ALICE)
    await mail.settle(NO_USER, BOB)
    assert await mail.failures() == []
    await mail.settle(NO_USER, FREDA)
    assert await mail.failures() == [(ALICE, str(BRIAN), 48)]
    await mail.returns.done((await mail.only()).number)
    assert (await mail.failures(), await mail.due()) == ([], [])


async def test_a_copy_that_one_has_dealt_with_has_not_failed(mail: Mail) -> None:
    _, second = await mail.house.copy(returns=ALICE)
    await mail.house.messages.unpin(second, None)
    await mail.settle(NO_USER, BOB)
    mail.house.now += 31 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == []


@pytest.mark.parametrize("to", [{}, {"to": (), "readers": ("bob", "freda")}])
async def test_a_copy_that_nobody_has_read_is_due_once(mail: Mail, to: dict[str, Any]) -> None:
    await mail.house.copy(returns=ALICE, **to)
    mail.house.now += 31 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.failures() == [(ALICE, str(BRIAN), EXPIRED)]


async def test_the_sender_is_known_by_any_key_of_a_copy_while_one_is_open(mail: Mail) -> None:
    first, second = await mail.house.copy(returns=ALICE)
    await mail.house.messages.unpin(first, None)
    mail.house.now += 7 * DAY
    await mail.house.sweeping.sweep()
    assert [await mail.returns.sender(key) for key in (first, second)] == [ALICE, ALICE]
    await mail.house.messages.unpin(second, None)
    await mail.house.sweeping.sweep()
    assert await mail.returns.sender(first) == ALICE, "a report may come late"
    mail.house.now += 23 * DAY
    await mail.house.sweeping.sweep()
    assert await mail.rows() == 0


@pytest.mark.parametrize("returns", [None, ""])
async def test_of_a_copy_of_a_native_message_or_one_from_null_nobody_is_told(mail: Mail, returns: str | None) -> None:
    first, _ = await mail.house.copy(returns=returns)
    await mail.settle(NO_USER)
    assert await mail.failures() == []
    assert await mail.returns.sender(first) == returns


# -- waiting


async def test_who_waits_for_failures_looks_again_by_himself(
    mail: Mail, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    await mail.returns.wait()
    assert trio.current_time() - begun == LOOK_EVERY


async def test_who_waits_for_failures_is_woken_by_one(mail: Mail, nursery: trio.Nursery) -> None:
    [key] = await mail.bring(BRIAN)
    assert key is not None
    woken = trio.Event()

    async def wait() -> None:
        await mail.returns.wait()
        woken.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    await mail.returns.refused(key, 49)
    with trio.fail_after(LOOK_EVERY / 3):
        await woken.wait()


async def test_mail_that_comes_wakes_who_notifies_and_nobody_who_reports(mail: Mail) -> None:
    due, owed = mail.house.messages.news(), mail.house.messages.debts()
    await mail.bring(BRIAN)
    assert (due.is_set(), owed.is_set()) == (True, False)


@pytest.mark.parametrize("event", [Event.temporary, Event.baddomain, Event.noservice, Event.noserver, Event.badanswer])
async def test_what_nobody_takes_in_a_week_has_failed(mail: Mail, event: Event) -> None:
    await mail.bring(BRIAN)
    for _ in range(7):
        await mail.settle(Verdict(event, code=32))
        assert await mail.failures() == []
        mail.house.now += DAY
    mail.house.now += DAY
    await mail.settle(Verdict(event, code=32))
    assert await mail.failures() == [(ALICE, str(BRIAN), 32)]
    assert await mail.due() == []


async def test_what_was_taken_once_may_be_put_off_for_as_long_as_it_lives(mail: Mail) -> None:
    await mail.bring(BRIAN)
    await mail.settle(TAKEN)
    mail.house.now += 9 * DAY
    await mail.settle(Verdict(Event.temporary, code=32))
    assert await mail.failures() == []


async def test_a_refusal_wakes_whoever_reports(mail: Mail) -> None:
    await mail.bring(BRIAN)
    news = mail.house.messages.debts()
    await mail.settle(NO_USER)
    assert news.is_set()
