"""Rules of protocol 5.0 and 8 at the agent that no other test of this room would miss (tests/house/rules.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from forwarder.agent.owed import Member
from forwarder.model import (
    SHARED,
    Hop,
    Notification,
    Outcome,
    Redirect,
    parse_mailbox,
)
from forwarder.ports import Agent, Heard, Nobody, NoService, Results

from .world import OF_2004, TODAY, World, notification, route


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.001)


def people(world: World, count: int = 3) -> list[str]:
    names = [f"u{number}@pobox.example" for number in range(count)]
    world.book.put(*(route(name, to=name.replace("pobox", "isp")) for name in names))
    return names


# -- batches


async def test_an_answer_without_results_ends_the_batches_though_it_was_a_yes(world: World) -> None:
    names = people(world)
    await world.notify(notification(names[0], 1))
    world.wires.legacy.add("isp.example")
    await world.notify(*(notification(name, 2) for name in names))
    world.wires.sent.clear()
    await world.notify(*(notification(name, 3) for name in names))
    assert [len(items) for _, _, items in world.wires.sent] == [1, 1, 1]


async def test_another_count_of_results_decides_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too few for a batch: each goes again by itself. One too many for a single: come again."""
    names = people(world)
    await world.notify(*(notification(name, 1) for name in names))
    sizes: list[int] = []

    async def answer(agent: Agent, lane: str, items: list[Notification], done: Callable[[Heard], None]) -> None:
        await trio.lowlevel.checkpoint()
        world.wires.busy[agent.name, lane] -= 1
        sizes.append(len(items))
        said = {3: [0, 0], 1: [49]}[len(items)] if items[0].identifier[-1] == 2 else [0, 0]
        done(Results(tuple(map(Outcome, said))))

    monkeypatch.setattr(world.wires, "_answer", answer)
    outcomes, _ = await world.notify(*(notification(name, 2) for name in names))
    assert [outcome.code for outcome in outcomes] == [49, 49, 49]
    assert sizes == [3, 1, 1, 1]
    outcomes, _ = await world.notify(notification(names[0], 3))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)


# -- peers of 2004


@pytest.mark.parametrize(("shared", "failed"), [(False, False), (True, True)])
async def test_a_full_mailbox_may_drop_only_a_key_that_nobody_else_holds(
    world: World, shared: bool, failed: bool
) -> None:
    people(world)
    world.wires.script = lambda n: Outcome(33)
    trace = (Hop("mx.other.example", None, 1_700_000_000, SHARED),) if shared else ()
    outcomes, told = await world.notify(notification("u0@pobox.example", trace=trace), peer=OF_2004)
    assert outcomes[0].code == 33
    assert told is failed


# -- several targets


async def test_a_target_without_a_domain_is_left_alone_for_the_whole_day(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Its domain appears after an hour: the back-off would have come round by then."""
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    world.where.missing["one.example"] = NoService("baddomain", "NXDOMAIN")
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    del world.where.missing["one.example"]
    for hours, there in ((2, False), (21, False), (2, True)):
        world.now[0] += hours * 3600
        await trio.sleep(3601)
        await settled()
        assert ("a@one.example" in world.wires.recipients()) is there


async def test_one_refusal_of_several_is_no_refusal_of_the_role(world: World) -> None:
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    says = {"one.example": Outcome(48), "two.example": Outcome(0, retransmit=700_000)}
    world.wires.script = lambda n: says[n.recipient.domain]
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    assert await world.code(notification("sales@pobox.example")) == 1
    world.now[0] += 13 * 3600
    assert await world.code(notification("sales@pobox.example")) == 0
    assert world.wires.recipients().count("a@one.example") == 1


@pytest.mark.parametrize(("promised", "kept"), [(3600, False), (86399, False), (86400, True)])
def test_a_promise_of_less_than_a_day_is_none(promised: int, kept: bool) -> None:
    member = Member(parse_mailbox("a@one.example"))
    member.took(Outcome(0, retransmit=promised), 1000.0, repeat=True)
    assert (member.promised > 0) is kept
    assert (member.due == 0.0) is kept


# -- what a Hop says


async def test_what_goes_straight_is_marked_as_what_goes_round(world: World) -> None:
    """The second notification takes the short way of a plan that is known."""
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    for key in (1, 2, 3):
        assert await world.code(notification("brian@pobox.example", key)) == 0
    assert [n.trace[0].how for _, _, items in world.wires.sent for n in items] == [3, 3, 3]


async def test_one_key_for_several_is_marked_so_without_a_row_too(world: World) -> None:
    world.book.put(route("sales@pobox.example", "stateless", "a@one.example b@two.example", kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    assert [n.trace[0].how for _, _, items in world.wires.sent for n in items] == [2, 2]
    assert world.disk.debts == {}


async def test_a_repeat_that_was_passed_on_counts_as_taken_anew(world: World) -> None:
    """Twelve hours from then: a ring would turn once an hour else."""
    world.book.put(route("sales@pobox.example", to="a@one.example b@two.example", kind="role"))
    for hours, code, sent in ((0, 0, 2), (13, 0, 4), (1, 1, 4), (10, 1, 4), (2, 0, 6)):
        world.now[0] += hours * 3600
        assert await world.code(notification("sales@pobox.example")) == code
        await settled()
        assert len(world.wires.recipients()) == sent


async def test_a_targets_redirect_that_we_follow_is_one_hop_more_and_says_so(world: World) -> None:
    world.book.put(route("brian@pobox.example", "chains", "brian@isp.example"))
    elsewhere = Redirect(parse_mailbox("brian@new.example"))
    world.wires.script = lambda n: Outcome(16, (elsewhere,)) if n.recipient.domain == "isp.example" else Outcome(0)
    assert await world.code(notification("brian@pobox.example")) == 0
    sent = [n for _, _, items in world.wires.sent for n in items]
    assert [[hop.how for hop in n.trace] for n in sent] == [[3], [3, 1]]
    assert [n.hops for n in sent] == [1, 2]
    assert sent[0].identifier == sent[1].identifier


# -- the plain answers


async def test_an_empty_batch_is_answered_at_once_and_well(world: World) -> None:
    for peer in (TODAY, OF_2004):
        assert await world.notify(peer=peer) == ([], False)


async def test_an_address_that_is_off_is_asked_again_tomorrow(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example", state="off"))
    [outcome], _ = await world.notify(notification("brian@pobox.example"))
    assert (outcome.code, outcome.retryafter) == (32, 86400)


@pytest.mark.parametrize(("tell", "code"), [(True, 48), (False, 0)])
async def test_strangers_learn_who_exists_only_where_the_domain_tells(
    world: World, monkeypatch: pytest.MonkeyPatch, tell: bool, code: int
) -> None:
    monkeypatch.setattr(world.book, "_find", lambda mailbox: Nobody(tell=tell))
    assert await world.code(notification("nobody@pobox.example")) == code
