"""Targets without an agent: owed durably, brought by a plugin's carrier, un-pinned when they are surely there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from forwarder.agent.carriage import OF_STORE
from forwarder.bridges import Carried, Later, Load, Never, Taken
from forwarder.model import Mailbox, Outcome, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import ByCarrier, Debt

from .conftest import MAKERS
from .test_courier import settled, turned
from .world import World, build, notification, route

BOB, EVE = parse_mailbox("bob@isp.example"), parse_mailbox("eve@isp.example")
HOUR = timedelta(hours=1)
NEXT_YEAR = datetime(2200, 1, 1, tzinfo=UTC)


class Scripted:
    """A carrier that says of each target what `says` has for it, and keeps what it was given."""

    def __init__(self) -> None:
        self.loads: list[Load] = []
        self.says: Callable[[Mailbox], Carried | Exception | None] = lambda mailbox: Taken()

    async def __call__(self, load: Load, /) -> Mapping[Mailbox, Carried]:
        self.loads.append(load)
        answers: dict[Mailbox, Carried] = {}
        for mailbox in load.to:
            said = self.says(mailbox)
            if isinstance(said, Exception):
                raise said
            if said is not None:
                answers[mailbox] = said
        return answers


@pytest.fixture
def carrier() -> Scripted:
    return Scripted()


@pytest.fixture
def outside(nursery: trio.Nursery, carrier: Scripted) -> World:
    """isp.example has no agent, and the carrier "smtp" reaches it."""
    world = build(nursery, dict(MAKERS), carriers={"smtp": carrier})
    world.where.missing["isp.example"] = ByCarrier("baddomain", "it does not exist", "smtp")
    return world


async def test_a_stateless_forward_to_it_is_owed_all_the_same_and_answered_after_its_row(
    outside: World, carrier: Scripted
) -> None:
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    assert outside.disk.debts[1].kind == "resend"
    await settled()
    [load] = carrier.loads
    assert (load.number, load.to, load.returns, load.tries) == (1, (BOB,), None, 0)
    assert not outside.wires.sent


async def test_the_second_goes_the_same_way_as_the_first(outside: World, carrier: Scripted) -> None:
    """An address whose plan is known to go straight to one target."""
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    for key in (1, 2, 3):
        assert await outside.code(notification("brian@pobox.example", key=key)) == 0
    await settled()
    assert len(carrier.loads) == 3


async def test_a_full_disk_acknowledges_nothing_and_carries_nothing(outside: World, carrier: Scripted) -> None:
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    outside.disk.full = True
    assert await outside.code(notification("brian@pobox.example")) == 32
    await settled()
    assert not carrier.loads


async def test_a_store_that_is_slow_on_purpose_holds_up_neither_other_mail_nor_other_stores(
    outside: World, carrier: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Scripted.__call__

    async def slowly(self: Scripted, load: Load, /) -> Mapping[Mailbox, Carried]:
        answers = await once(self, load)
        if load.notification.store == "slow.example":
            await trio.sleep_forever()
        return answers

    monkeypatch.setattr(Scripted, "__call__", slowly)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    for key in range(1, 200):
        assert await outside.code(notification("brian@pobox.example", key=key, store="slow.example")) == 0
    await settled()
    assert len(carrier.loads) == OF_STORE
    native, sent = notification("brian@pobox.example", key=201), notification("brian@pobox.example", key=202)
    outside.disk.senders[sent.identifier] = "alice@out.example"
    assert [await outside.code(one) for one in (native, sent)] == [0, 0]
    await settled()
    assert [load.returns for load in carrier.loads[OF_STORE:]] == [None, "alice@out.example"]


async def test_via_sends_by_a_carrier_whoever_has_an_agent(outside: World, carrier: Scripted) -> None:
    outside.book.put(route("brian@pobox.example", to="bob@has.example", via={parse_mailbox("bob@has.example"): "smtp"}))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert [load.to for load in carrier.loads] == [(parse_mailbox("bob@has.example"),)]
    assert not outside.wires.sent


async def test_one_target_by_a_carrier_that_is_not_configured_is_asked_to_come_later(nursery: trio.Nursery) -> None:
    world = build(nursery, dict(MAKERS))
    world.book.put(route("brian@pobox.example", to="bob@isp.example", via={BOB: "smtp"}))
    assert await world.code(notification("brian@pobox.example")) == 32
    assert not world.disk.debts


async def test_beside_others_it_is_owed_like_a_target_whose_agent_is_down(nursery: trio.Nursery) -> None:
    world = build(nursery, dict(MAKERS))
    to = "bob@isp.example eve@has.example"
    world.book.put(route("sales@pobox.example", to=to, kind="role", via={BOB: "smtp"}))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    [told] = [fields for event, fields in world.log.events if event in ("not carried", "carrier failed")]
    assert told["why"] == "no carrier smtp is configured"
    assert len(world.wires.sent) == 1


async def test_via_im2000_waits_for_an_agent_and_never_goes_by_a_carrier(outside: World, carrier: Scripted) -> None:
    outside.book.put(route("brian@pobox.example", to="bob@isp.example", via={BOB: "im2000"}))
    assert await outside.code(notification("brian@pobox.example")) == 32
    await settled()
    assert not carrier.loads
    assert not outside.disk.debts


async def test_what_arrived_for_a_message_of_other_mail_is_un_pinned_at_once(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    sent = notification("brian@pobox.example")
    outside.disk.senders[sent.identifier] = "alice@out.example"
    assert await outside.code(sent) == 0
    await settled()
    assert carrier.loads[0].returns == "alice@out.example"
    await turned(outside, 1)
    assert outside.disk.unpinned == [sent.identifier]
    assert {debt.kind: debt.open for debt in outside.disk.debts.values()} == {"resend": False, "unpin": False}


async def test_a_native_one_is_un_pinned_only_after_it_had_time_to_fail(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: Taken(HOUR)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert not outside.disk.unpinned
    assert outside.disk.debts[1].open
    await turned(outside, 3601)
    assert outside.disk.unpinned == [notification("brian@pobox.example").identifier]
    assert not outside.disk.debts[1].open


async def test_a_report_within_that_time_ends_the_target_and_nothing_is_un_pinned(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: Taken(HOUR)
    refused: list[int] = []
    outside.courier.failed = lambda debt, outcome: refused.append(outcome.code)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert not await outside.courier.carry_failed(1, EVE, Never(text="5.1.1"))
    assert await outside.courier.carry_failed(1, BOB, Never(text="5.1.1"))
    assert not outside.disk.on_disk[1].open  # before the bringer of the report is told that we have it
    assert not await outside.courier.carry_failed(1, BOB, Never(text="5.1.1"))
    await turned(outside, 2 * 3601)
    assert not outside.disk.unpinned
    assert refused == [49]
    await turned(outside, 86400)
    assert await outside.code(notification("brian@pobox.example")) == 49


async def test_a_report_that_overtakes_the_carriers_word_counts_too(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred targets the smarthost may bounce the first before it has taken the last."""
    word = trio.Event()
    once = Scripted.__call__

    async def slowly(self: Scripted, load: Load, /) -> Mapping[Mailbox, Carried]:
        await word.wait()
        return await once(self, load)

    monkeypatch.setattr(Scripted, "__call__", slowly)
    carrier.says = lambda mailbox: Taken(HOUR)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert await outside.courier.carry_failed(1, BOB, Never(text="5.1.1"))
    word.set()
    await settled()
    assert len(carrier.loads) == 1
    await turned(outside, 2 * 3601)
    assert not outside.disk.unpinned
    assert await outside.code(notification("brian@pobox.example")) == 49


async def test_later_is_when_the_carrier_says_and_counts_the_tries(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: Later(datetime.fromtimestamp(outside.now[0], UTC) + HOUR)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    await turned(outside, 1800)
    assert len(carrier.loads) == 1
    await turned(outside, 1801)
    await turned(outside, 3601)
    assert [load.tries for load in carrier.loads] == [0, 1, 2]


@pytest.mark.parametrize("said", [PeerError("down"), RuntimeError("a bug"), None])
async def test_a_carrier_that_fails_or_is_silent_is_asked_again(
    outside: World, carrier: Scripted, said: Exception | None, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: said
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    carrier.says = lambda mailbox: Taken()
    await turned(outside, 61)
    await turned(outside, 61)
    assert len(carrier.loads) == 2
    assert not outside.disk.debts[1].open


async def test_a_crash_before_the_carrier_answered_carries_again_and_one_after_it_un_pins(
    nursery: trio.Nursery, outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: Later(datetime.fromtimestamp(outside.now[0], UTC) + HOUR)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    carrier.says = lambda mailbox: Taken(HOUR)
    second = build(nursery, dict(MAKERS), disk=outside.disk, carriers={"smtp": carrier})
    second.where.missing.update(outside.where.missing)
    await second.courier.load()
    await settled()
    assert [load.tries for load in carrier.loads] == [0, 1]
    third = build(nursery, dict(MAKERS), disk=outside.disk, carriers={"smtp": carrier})
    await third.courier.load()
    third.now[0] += 3601
    await trio.sleep(3601)
    await settled()
    assert len(carrier.loads) == 2
    assert third.disk.unpinned == [notification("x@y.example").identifier] * len(third.disk.unpinned)
    assert third.disk.unpinned


async def test_a_role_goes_to_all_in_one_load_and_one_that_is_brought_closes_nothing_for_a_native_member(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    outside.book.put(route("sales@pobox.example", to="bob@isp.example eve@isp.example ann@has.example", kind="role"))
    outside.wires.script = lambda n: Outcome(0, retransmit=700_000)
    assert await outside.code(notification("sales@pobox.example")) == 0
    await settled()
    assert sorted(carrier.loads[0].to) == [BOB, EVE]
    assert outside.wires.recipients() == ["ann@has.example"]
    for _ in range(3):
        await turned(outside, 86400)
    assert not outside.disk.unpinned


async def test_a_role_of_such_members_is_un_pinned_when_the_last_is_brought_or_refused(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    says: dict[Mailbox, Carried] = {
        BOB: Never(text="550 5.1.1"), EVE: Later(datetime.fromtimestamp(outside.now[0], UTC) + HOUR)
    }  # fmt: skip
    carrier.says = says.__getitem__
    outside.book.put(route("sales@pobox.example", to="bob@isp.example eve@isp.example", kind="role"))
    assert await outside.code(notification("sales@pobox.example")) == 0
    await settled()
    assert not outside.disk.unpinned
    says[EVE] = Taken()
    await turned(outside, 3601)
    await turned(outside, 10)
    assert len(outside.disk.unpinned) == 1
    assert [load.to for load in carrier.loads[1:]] == [(EVE,)]


async def test_what_every_one_refused_is_told_to_our_own_store_at_once_and_to_others_at_their_repeat(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[tuple[str, int]] = []
    outside.courier.failed = lambda debt, outcome: told.append((debt.store, outcome.code))
    carrier.says = lambda mailbox: Never(text="550 5.7.1")
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert told == [("store.example", 49)]
    await turned(outside, 86400)
    assert await outside.code(notification("brian@pobox.example")) == 49


async def test_the_daily_repeat_of_what_is_brought_brings_nothing_again(
    outside: World, carrier: Scripted, autojump_clock: trio.testing.MockClock
) -> None:
    carrier.says = lambda mailbox: Taken(timedelta(days=3))
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    for _ in range(3):
        assert await outside.code(notification("brian@pobox.example")) in (0, 1)
        await turned(outside, 86400)
    assert len(carrier.loads) == 1


async def test_what_is_believed_to_have_arrived_owes_one_un_pin_however_often_it_is_looked_at(
    outside: World, carrier: Scripted, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Its store repeats it, and a report comes, while the row of the un-pin is on its way to the disk."""
    carrier.says = lambda mailbox: Taken(timedelta(days=1))
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    held: list[Callable[[], None]] = []
    accept = outside.disk.accept_soon

    def slowly(debts: Sequence[Debt], done: Callable[[Sequence[int] | Exception], None]) -> None:
        held.append(lambda: accept(debts, done))

    monkeypatch.setattr(outside.disk, "accept_soon", slowly)
    await turned(outside, 86401)
    assert await outside.code(notification("brian@pobox.example")) == 0
    assert not await outside.courier.carry_failed(1, BOB, Never(text="5.1.1"))
    await settled()
    [commit] = held
    commit()
    await settled()
    assert len(outside.disk.unpinned) == 1
    assert not outside.disk.debts[1].open


@pytest.mark.parametrize(
    ("said", "line", "event"),
    [
        (Taken(text="2 bare CR or LF replaced"), "0\tcarried: 2 bare CR or LF replaced", None),
        (Taken(), "0\tcarried", None),
        (Later(NEXT_YEAR, "450 4.2.0 grey\tlisted"), "32\tlater: 450 4.2.0 grey listed", "carried later"),
        (Never(49, "550 5.1.1 gone"), "49\tnot carried: 550 5.1.1 gone", "not carried"),
    ],
)
async def test_what_a_carrier_says_is_in_the_trace_and_what_went_wrong_in_the_log(
    outside: World, carrier: Scripted, said: Carried, line: str, event: str | None
) -> None:
    carrier.says = lambda mailbox: said
    outside.book.put(route("brian@pobox.example", to="bob@isp.example"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert any(written.endswith(f"\t-> bob@isp.example\t{line}") for written in outside.disk.lines)
    assert [name for name, _ in outside.log.events if name in ("carried later", "not carried")] == (
        [event] if event else []
    )


async def test_a_report_that_names_nobody_we_know_ends_a_target_only_if_there_is_no_other(
    outside: World, carrier: Scripted
) -> None:
    carrier.says = lambda mailbox: Taken(HOUR)
    outside.book.put(route("brian@pobox.example", to="bob@isp.example eve@isp.example", kind="role"))
    assert await outside.code(notification("brian@pobox.example")) == 0
    await settled()
    assert not await outside.courier.carry_failed(1, None, Never(text="5.1.1"))
    assert await outside.courier.carry_failed(1, BOB, Never(text="5.1.1"))
    assert outside.courier.owes(1, BOB)  # by his name he is known still, or his report's repeat would mean eve
    assert await outside.courier.carry_failed(1, None, Never(text="5.1.1"))
    assert not outside.courier.owes(1, BOB)  # nobody is left
