"""Members of an address that come and go while items are open: live by default, frozen by choice (operator 2)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from forwarder.agent import turnstile
from forwarder.model import Outcome
from forwarder.plugin import Case, Plan, Pull, Resend

from .conftest import MAKERS
from .world import World, build, notification, route

PROMISED = Outcome(0, retransmit=8 * 86400)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


async def turned(world: World, seconds: float) -> None:
    world.now[0] += seconds
    await trio.sleep(3601)
    await settled()


def is_open(world: World) -> bool:
    """Whether something is still due for the first debt."""
    return world.disk.debts[1].open


async def members_are(world: World, to: str, **fields: object) -> None:
    """The file changes, and the daemon is told."""
    world.book.put(route("sales@pobox.example", to=to, **{"kind": "role", **fields}))  # type: ignore[arg-type]
    world.members.again()
    await trio.sleep(2)
    await settled()


async def role(world: World, to: str, **fields: object) -> None:
    await members_are(world, to, **fields)
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()


async def test_a_new_member_hears_of_what_is_still_owed(world: World, autojump_clock: trio.testing.MockClock) -> None:
    says = {"one.example": Outcome(32)}
    world.wires.script = lambda n: says.get(n.recipient.domain, PROMISED)
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example b@two.example c@three.example")
    assert world.wires.recipients().count("c@three.example") == 1
    assert world.wires.recipients().count("b@two.example") == 1
    assert is_open(world)
    says.clear()
    await turned(world, 3600)
    assert not is_open(world)


async def test_a_new_member_hears_of_what_all_have_taken_and_nobody_has_unpinned(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example")
    assert not is_open(world)
    await members_are(world, "a@one.example b@two.example c@three.example")
    [sent] = [n for _, _, items in world.wires.sent for n in items if n.recipient.domain == "three.example"]
    assert sent.identifier == notification("sales@pobox.example").identifier
    assert [hop.how for hop in sent.trace] == [2], "it is told that others have the key too"
    assert sent.original == notification("sales@pobox.example").recipient
    await members_are(world, "a@one.example b@two.example c@three.example d@four.example")
    assert sorted(world.wires.recipients()) == ["a@one.example", "b@two.example", "c@three.example", "d@four.example"]


async def test_nobody_new_hears_of_what_was_unpinned(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await role(world, "a@one.example b@two.example")
    world.disk.withdrawn = True
    await members_are(world, "a@one.example b@two.example c@three.example")
    assert "c@three.example" not in world.wires.recipients()
    assert not is_open(world)


async def test_nobody_new_hears_of_what_is_older_than_the_repeats(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example")
    world.now[0] += 7 * 86400 + 1
    await members_are(world, "a@one.example b@two.example c@three.example")
    assert "c@three.example" not in world.wires.recipients()


async def test_who_left_is_repeated_no_more(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example")
    await turned(world, 86400)
    assert (world.wires.recipients().count("a@one.example"), world.wires.recipients().count("b@two.example")) == (2, 1)


async def test_who_left_is_not_tried_again(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.wires.script = lambda n: Outcome(32) if n.recipient.domain == "two.example" else PROMISED
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example c@three.example")
    assert not is_open(world), "nobody who counts is owed anything"
    await turned(world, 3600)
    assert world.wires.recipients().count("b@two.example") == 1


async def test_who_left_is_not_sent_what_waited_for_its_turn(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "OUT_AT_ONCE", 1)
    world.wires.delay = lambda n: 30.0
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example c@three.example")
    await trio.sleep(100)
    await settled()
    assert world.wires.recipients() == ["a@one.example", "c@three.example"]


async def test_an_answer_of_who_left_meanwhile_changes_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.wires.delay = lambda n: 40.0 if n.recipient.domain == "two.example" else 0.0
    says = {"three.example": Outcome(32)}
    world.wires.script = lambda n: says.get(n.recipient.domain, PROMISED)
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example")
    assert not is_open(world)
    await members_are(world, "a@one.example c@three.example")
    assert is_open(world), "it is owed to the new one, who is busy"
    await trio.sleep(60)
    await settled()
    assert is_open(world)
    assert world.courier.waiting == 1


async def test_a_key_that_was_shared_once_is_marked_as_shared_for_ever(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example")
    await members_are(world, "a@one.example")
    await members_are(world, "c@three.example")
    [sent] = [n for _, _, items in world.wires.sent for n in items if n.recipient.domain == "three.example"]
    assert [hop.how for hop in sent.trace] == [2], "those who left may still un-pin it"


async def test_a_frozen_address_keeps_who_was_there_when_it_was_accepted(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    await role(world, "a@one.example b@two.example", members="frozen")
    await members_are(world, "a@one.example c@three.example", members="frozen")
    await turned(world, 86400)
    assert sorted(world.wires.recipients()) == ["a@one.example"] * 2 + ["b@two.example"] * 2


async def test_members_of_a_member_count_too(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.wires.script = lambda n: PROMISED
    world.book.put(route("desk@pobox.example", to="b@two.example c@three.example", kind="role"))
    await role(world, "a@one.example desk@pobox.example")
    world.book.put(route("desk@pobox.example", to="b@two.example d@four.example", kind="role"))
    world.members.again()
    await trio.sleep(2)
    await settled()
    assert sorted(world.wires.recipients()) == ["a@one.example", "b@two.example", "c@three.example", "d@four.example"]


@pytest.mark.parametrize("state", ["off", "gone"])
async def test_an_address_at_rest_leaves_its_open_items_as_they_are(
    world: World, autojump_clock: trio.testing.MockClock, state: str
) -> None:
    await role(world, "a@one.example b@two.example")
    await members_are(world, "c@three.example", state=state, kind="person")
    await turned(world, 86400)
    assert sorted(world.wires.recipients()) == ["a@one.example"] * 2 + ["b@two.example"] * 2


async def test_a_change_while_the_daemon_was_down_counts_at_its_start(
    nursery: trio.Nursery, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example")
    later = build(nursery, MAKERS, disk=world.disk)
    later.book.put(route("sales@pobox.example", to="b@two.example c@three.example", kind="role"))
    await later.courier.load()
    await trio.sleep(2)
    await settled()
    assert later.wires.recipients() == ["c@three.example"]


class Rota:
    """One of the members, who keeps what he got."""

    def __init__(self, made: object) -> None:
        self.made = made

    def plan(self, case: Case, /) -> Plan:
        return Plan((Resend(case.earlier or case.route.to[:1], sticky=True),))


async def test_a_choice_that_sticks_is_no_membership(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = build(nursery, {**MAKERS, "rota": Rota})
    world.wires.script = lambda n: PROMISED
    await role(world, "a@one.example b@two.example", strategy="rota")
    await members_are(world, "b@two.example c@three.example", strategy="rota")
    assert world.wires.recipients() == ["a@one.example"]


class Fetch:
    """Option 4."""

    def __init__(self, made: object) -> None:
        self.made = made

    def plan(self, case: Case, /) -> Plan:
        return Plan((Pull(to=case.route.to, linked=True),))


async def test_copies_are_told_once_of_each_change(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = build(nursery, {**MAKERS, "fetch": Fetch})
    await role(world, "a@one.example b@two.example", strategy="fetch")
    sales = notification("sales@pobox.example")
    world.disk.copies[sales.recipient] = sales.raw
    for to in ("a@one.example c@three.example",) * 2:
        await members_are(world, to, strategy="fetch")
    await members_are(world, "d@four.example e@five.example", strategy="fetch", members="frozen")
    entry = ("sales@pobox.example", "sales@pobox.example")
    assert world.disk.changed == [(*entry, ["a@one.example", "c@three.example"], [])]


async def test_a_pull_that_was_ordered_by_an_older_file_is_looked_at_when_it_is_done(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = build(nursery, {**MAKERS, "fetch": Fetch})
    sales = notification("sales@pobox.example")
    world.book.put(route("sales@pobox.example", "fetch", to="a@one.example b@two.example", kind="role"))
    world.disk.copies[sales.recipient] = sales.raw
    await trio.sleep(2)
    ordered = int(world.now[0])
    world.now[0] += 100
    await members_are(world, "a@one.example c@three.example", strategy="fetch")
    before = len(world.disk.changed)
    world.members.pulled(sales.recipient, int(world.now[0]) + 50)
    await trio.sleep(2)
    assert len(world.disk.changed) == before, "a newer order knew the members"
    world.members.pulled(sales.recipient, ordered)
    await trio.sleep(2)
    assert len(world.disk.changed) == before + 1


async def test_a_look_that_failed_is_made_again_though_nothing_changes(
    world: World, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def look() -> None:
        times.append(trio.current_time())
        if len(times) < 4:
            raise OSError("input/output error")

    monkeypatch.setattr(world.members, "look", look)
    start = trio.current_time()
    nursery.start_soon(world.members.run)
    await trio.sleep(1000)
    assert [at - start for at in times] == [0, 1, 3, 7]
    assert not world.members.setback.last
