"""A plugin's Work, what it leads to, and what an address remembers: nothing is done for another, nothing forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import trio
import trio.testing

from forwarder.model import Outcome, Route, parse_mailbox
from forwarder.plugin import Again, Case, Decline, Deposit, PeerError, Plan, Resend, Strategy, Work
from forwarder.ports import Arrival, Full

from .conftest import MAKERS
from .test_courier import settled, turned
from .world import Disk, World, build, notification, route

DAY = 86400
Makers = dict[str, Callable[[Route], Strategy]]
BOSSES = (parse_mailbox("boss@one.example"), parse_mailbox("chief@two.example"))


class Escalating:
    """Two timers, each for another boss."""

    def plan(self, case: Case, /) -> Plan:
        hours = (1, 2)
        works = tuple(
            Work(f"{place}", at=case.now + timedelta(hours=hour), may=(Resend((BOSSES[place],), sticky=True),))
            for place, hour in enumerate(hours)
        )
        return Plan(works)

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        return Plan((Resend((BOSSES[int(work.name)],), sticky=True),))


class Noting:
    """A Work beside a Deposit."""

    done = 0

    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("note"), Deposit(("brian",))))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        Noting.done += 1
        return None


class Counting:
    """Remembers how many there were."""

    def plan(self, case: Case, /) -> Plan:
        return Plan((Deposit(("brian",)),), remember={"count": b"%d" % (int(case.memory.get("count", b"0")) + 1)})


class Declining:
    def plan(self, case: Case, /) -> Plan:
        return Plan((Decline("not by me"),))


class Asking:
    """Asks for another try two days later, once; then fails for as long as `fails` says."""

    times: list[float]
    fails = False

    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("ask", at=case.now + timedelta(days=10)),))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        assert work.at is not None
        assert case.now >= work.at
        Asking.times.append(case.now.timestamp())
        if Asking.fails:
            raise PeerError("not now")
        return Again(case.now + timedelta(days=2), "once more") if len(Asking.times) == 1 else None


class OverQuota(Disk):
    """The inbox has no room, until it has."""

    no_room = True

    def deposit_soon(self, arrivals, done):  # type: ignore[no-untyped-def]
        if self.no_room:
            self.tick.soon(lambda: done([Outcome(33) for _ in arrivals]))
        else:
            super().deposit_soon(arrivals, done)


def kept(world: World) -> list[Arrival]:
    return world.disk.arrivals


async def test_two_works_of_one_notification_both_lead_to_their_targets(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = build(nursery, {"escalating": lambda route: Escalating()})
    world.book.put(route("desk@pobox.example", "escalating"))
    assert await world.code(notification("desk@pobox.example")) == 0
    for _ in BOSSES:
        await turned(world, 3700)
    assert world.wires.recipients() == [str(boss) for boss in BOSSES]


async def test_a_deposit_that_failed_is_not_done_because_the_work_beside_it_was(nursery: trio.Nursery) -> None:
    disk = OverQuota(None)  # type: ignore[arg-type]  # build gives it the world's tick
    world = build(nursery, {"noting": lambda route: Noting()}, disk=disk)
    world.book.put(route("desk@pobox.example", "noting", readers=("brian",)))
    Noting.done = 0
    assert await world.code(notification("desk@pobox.example")) == 33
    disk.no_room = False
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    assert (len(kept(world)), Noting.done) == (1, 1)


async def test_a_role_beside_a_deposit_is_repeated_to_its_targets_too(world: World, nursery: trio.Nursery) -> None:
    class Both:
        def plan(self, case: Case, /) -> Plan:
            return Plan((Resend(BOSSES), Deposit(("brian",))))

    world = build(nursery, {"both": lambda route: Both()})
    world.book.put(route("desk@pobox.example", "both", readers=("brian",)))
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    world.now[0] += 13 * 3600
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    assert world.wires.recipients().count("boss@one.example") == 2
    assert len(kept(world)) == 2


async def test_an_address_that_becomes_a_role_passes_on_what_it_had_kept(world: World) -> None:
    world.book.put(route("desk@pobox.example", "subscribe", readers=("brian",)))
    assert await world.code(notification("desk@pobox.example")) == 0
    world.book.put(route("desk@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.book.warm.clear()
    world.now[0] += DAY
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    assert sorted(world.wires.recipients()) == ["a@one.example", "b@two.example"]


async def test_a_fallback_does_its_own_work(nursery: trio.Nursery) -> None:
    world = build(nursery, {"declining": lambda route: Declining(), "noting": lambda route: Noting()})
    world.book.put(route("desk@pobox.example", "declining", readers=("brian",), fallback="noting"))
    Noting.done = 0
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    assert Noting.done == 1


async def test_mailboxes_of_one_entry_share_its_memory(nursery: trio.Nursery) -> None:
    """However it is spelt, and though two files were read at the same time."""
    world = build(nursery, {"counting": lambda route: Counting()})
    world.book.put(route("desk@pobox.example", "counting", readers=("brian",)))
    async with trio.open_nursery() as senders:
        for key, spelt in enumerate(("desk", "Desk", "DESK", "desk", "Desk")):
            senders.start_soon(world.code, notification(f"{spelt}@pobox.example", key))
    assert world.disk.memories["desk@pobox.example", "counting"] == {"count": b"5"}


class Remembering:
    """Declines, and notes what it was told that it remembers."""

    seen: list[bytes]

    def plan(self, case: Case, /) -> Plan:
        Remembering.seen.append(case.memory["count"])
        return Plan((Decline("not by me"),))


class LaterCounting:
    """Counts what its Work did: the plan that a Work leads to remembers for the strategy that ordered it."""

    def plan(self, case: Case, /) -> Plan:
        return Plan((Work("count", may=(Deposit(("brian",)),)),))

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        return Plan((Deposit(("brian",)),), remember={"count": b"%d" % (int(case.memory.get("count", b"0")) + 1)})


async def test_a_fallback_remembers_for_itself(nursery: trio.Nursery) -> None:
    """Memory is of an address and a strategy: two that use the same name do not turn each other's wheel."""
    world = build(nursery, {"declining": lambda route: Remembering(), "counting": lambda route: Counting()})
    Remembering.seen = []
    world.disk.memories["desk@pobox.example", "declining"] = {"count": b"70"}
    world.book.put(route("desk@pobox.example", "declining", readers=("brian",), fallback="counting"))
    for key in range(3):
        assert await world.code(notification("desk@pobox.example", key)) == 0
    assert world.disk.memories["desk@pobox.example", "counting"] == {"count": b"3"}
    assert world.disk.memories["desk@pobox.example", "declining"] == {"count": b"70"}
    assert set(Remembering.seen) == {b"70"}


async def test_the_work_of_a_fallback_remembers_for_the_fallback(nursery: trio.Nursery) -> None:
    world = build(nursery, {"declining": lambda route: Declining(), "later": lambda route: LaterCounting()})
    world.disk.memories["desk@pobox.example", "declining"] = {"count": b"70"}
    world.book.put(route("desk@pobox.example", "declining", readers=("brian",), fallback="later"))
    for key in range(3):
        assert await world.code(notification("desk@pobox.example", key)) == 0
        await settled()
    assert world.disk.memories["desk@pobox.example", "later"] == {"count": b"3"}
    assert world.disk.memories["desk@pobox.example", "declining"] == {"count": b"70"}


async def test_another_try_that_a_work_asks_for_is_a_timer_that_survives(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    makers: Makers = {"asking": lambda route: Asking()}
    world = build(nursery, makers)
    world.book.put(route("desk@pobox.example", "asking"))
    Asking.times, Asking.fails = [], False
    assert await world.code(notification("desk@pobox.example")) == 0
    await turned(world, 10 * DAY)
    assert len(Asking.times) == 1
    again = build(nursery, makers, disk=world.disk)
    again.book.put(route("desk@pobox.example", "asking"))
    again.now[0] = world.now[0]
    await again.courier.load()
    await turned(again, DAY)
    assert len(Asking.times) == 1, "a restart does not make it due"
    await turned(again, DAY)
    assert len(Asking.times) == 2
    assert not again.disk.debts[1].open


async def test_a_timer_far_away_is_given_up_after_its_time_not_before(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = build(nursery, {"asking": lambda route: Asking()})
    world.book.put(route("desk@pobox.example", "asking"))
    Asking.times, Asking.fails = [], True
    assert await world.code(notification("desk@pobox.example")) == 0
    await turned(world, 10 * DAY)
    assert len(Asking.times) == 1
    assert world.disk.debts[1].open, "one failure on its first day is no reason"
    for _ in range(9):
        await turned(world, DAY)
    assert not world.disk.debts[1].open


async def test_a_pull_that_was_refused_is_refused_to_the_repeat_after_a_restart_too(nursery: trio.Nursery) -> None:
    class Pulled(Disk):
        async def pull(self, order):  # type: ignore[no-untyped-def]
            return Outcome(49)

    world = build(nursery, dict(MAKERS), disk=Pulled(None))  # type: ignore[arg-type]
    again = build(nursery, dict(MAKERS), disk=world.disk)
    for one in (world, again):
        one.book.put(route("desk@pobox.example", "pull", to="a@one.example"))
    assert await world.code(notification("desk@pobox.example")) == 0
    await settled()
    again.dispatcher._repeats.recall(await world.disk.sights(0))
    assert await again.code(notification("desk@pobox.example")) == 49


async def test_a_pull_that_finds_no_room_is_tried_for_a_week_and_then_refused_by_the_name_of_the_limit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class NoRoom(Disk):
        pulls = 0

        async def pull(self, order):  # type: ignore[no-untyped-def]
            self.pulls += 1
            raise Full("quota_per_sender")

    disk = NoRoom(None)  # type: ignore[arg-type]
    world = build(nursery, dict(MAKERS), disk=disk)
    world.book.put(route("desk@pobox.example", "pull", to="a@one.example"))
    assert await world.code(notification("desk@pobox.example")) == 0
    for _ in range(9):
        await turned(world, DAY)
    assert disk.pulls > 7
    assert not world.disk.debts[1].open
    ((told,), _) = await world.notify(notification("desk@pobox.example"))
    assert (told.code, told.text) == (49, "over the limit quota_per_sender")
    put_off = [facts for event, facts in world.log.events if event == "errand put off"]
    assert put_off[0]["error"] == "over the limit quota_per_sender"


async def test_a_repeat_while_the_disk_cannot_be_read_is_answered_later(world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    world.courier._owed.clear()  # it is closed, so its row has to be asked

    async def broken(number: int) -> None:
        raise OSError("no such disk")

    world.disk.debt = broken  # type: ignore[method-assign]
    world.now[0] += 13 * 3600
    assert await world.code(notification("sales@pobox.example")) == 32
