"""One notification walks through the agent: what it answers, what it sends on, what is on disk before which answer."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing

from forwarder.agent.notify import OwnNotifier
from forwarder.agent.repeats import adds_a_hop
from forwarder.model import Hop, Mailbox, Outcome, Redirect, ServiceLocation, parse_mailbox
from forwarder.plugin import Deposit, Plan, Pull, Refuse, Resend, Step, Tell, Work
from forwarder.ports import NoService

from .conftest import Says
from .world import OF_2004, TODAY, World, build, notification, route


async def test_a_forward_changes_the_recipient_and_says_who_it_was_for(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    assert await world.code(notification("Brian@Pobox.Example")) == 0
    [(agent, _, [sent])] = world.wires.sent
    assert agent == "isp.example"
    assert str(sent.recipient) == "brian@isp.example"
    assert str(sent.original) == "Brian@pobox.example"
    assert (sent.hops, sent.trace[0].by, sent.trace[0].how) == (1, "mx.pobox.example", 3)
    assert sent.identifier == notification("x@y.example").identifier


async def test_the_answer_to_a_forward_waits_for_the_target_and_nothing_is_written(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.wires.script = lambda n: Outcome(33, retryafter=900)
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert (outcomes[0].code, outcomes[0].retryafter) == (33, 900)
    assert not world.disk.debts


@pytest.mark.parametrize(
    ("target", "told"), [(0, 0), (2, 0), (48, 49), (51, 49), (50, 50), (52, 52), (16, 49), (35, 35)]
)
async def test_what_the_target_says_becomes_our_answer(world: World, target: int, told: int) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.wires.script = lambda n: Outcome(target)
    assert await world.code(notification("brian@pobox.example")) == told


async def test_an_agent_of_2004_that_says_no_is_only_temporary(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.wires.legacy.add("isp.example")
    world.wires.script = lambda n: Outcome(48)
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)


async def test_a_slip_in_the_dns_loses_no_mail(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.where.missing["isp.example"] = NoService("baddomain", "NXDOMAIN")
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 86400)
    world.where.missing["isp.example"] = NoService("noserver", "refused")
    outcomes, _ = await world.notify(notification("brian@pobox.example", key=2))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)


async def test_a_target_that_never_answers_is_given_up_after_45_seconds_less_5_a_hop(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.wires.script = lambda n: None
    began = trio.current_time()
    assert await world.code(notification("brian@pobox.example")) == 32
    assert 45 <= trio.current_time() - began < 47
    began = trio.current_time()
    assert await world.code(notification("brian@pobox.example", key=2, hops=6)) == 32
    assert 15 <= trio.current_time() - began < 17


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"state": "off"}, 32), ({"state": "gone"}, 48), ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, 48)],
)
async def test_an_address_that_is_not_on(world: World, fields: dict[str, Any], code: int) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example", **fields))
    assert await world.code(notification("brian@pobox.example")) == code
    assert not world.wires.sent


async def test_nobody_and_not_ours(world: World) -> None:
    assert await world.code(notification("nobody@pobox.example")) == 48
    assert await world.code(notification("brian@elsewhere.example")) == 49


async def test_moved_is_told_to_who_listens_and_falls_back_for_the_rest(world: World) -> None:
    world.book.put(
        route("brian@pobox.example", "subscribe", "brian@isp.example", state="moved", fallback="rewrite_resend")
    )
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert outcomes[0].code == 16
    assert await world.code(notification("brian@pobox.example", 2), peer=OF_2004) == 0
    assert world.wires.recipients() == ["brian@isp.example"]


async def test_a_redirect_goes_only_to_stores_that_follow(world: World) -> None:
    world.book.put(route("brian@pobox.example", "redirect", "brian@isp.example", fallback="rewrite_resend"))
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert outcomes[0].redirects == (Redirect(Mailbox("brian", "isp.example"), None, 0),)
    assert await world.code(notification("brian@pobox.example", 2), peer=OF_2004) == 0
    assert world.wires.recipients() == ["brian@isp.example"]


async def test_kept_here_and_better_elsewhere_is_code_3(world: World) -> None:
    world.book.put(route("brian@pobox.example", "keep_and_tell", "brian@isp.example", readers=("brian",)))
    outcomes, _ = await world.notify(notification("brian@pobox.example"))
    assert (outcomes[0].code, outcomes[0].redirects[0].kind) == (3, 2)
    assert len(world.disk.arrivals) == 1


async def test_decline_without_a_fallback_comes_back_later(world: World) -> None:
    world.book.put(route("brian@pobox.example", "declines"))
    assert await world.code(notification("brian@pobox.example")) == 32


async def test_a_strategy_that_is_not_installed_defers_its_own_addresses(world: World) -> None:
    world.book.put(route("brian@pobox.example", "unheard_of"))
    assert await world.code(notification("brian@pobox.example")) == 32


async def test_a_deposit_is_answered_after_its_row_and_a_full_disk_acknowledges_nothing(world: World) -> None:
    world.book.put(route("brian@pobox.example", "subscribe", readers=("brian",)))
    assert await world.code(notification("brian@pobox.example")) == 0
    [arrival] = world.disk.arrivals
    assert (arrival.entry, arrival.store, arrival.submitter.address) == (
        "brian@pobox.example",
        "store.example",
        TODAY.address,
    )
    world.disk.full = True
    assert await world.code(notification("brian@pobox.example", 2)) == 32


async def test_a_deposit_beside_a_forward_ends_when_both_have(world: World) -> None:
    world.book.put(route("brian@pobox.example", "both", "brian@isp.example", readers=("brian",)))
    world.wires.script = lambda n: Outcome(32)
    assert await world.code(notification("brian@pobox.example")) == 32
    world.wires.script = lambda n: Outcome(0)
    assert await world.code(notification("brian@pobox.example")) == 0
    assert len(world.disk.arrivals) == 1


async def test_a_pull_is_a_row_first_and_worked_once_ever(world: World) -> None:
    world.book.put(route("brian@pobox.example", "pull", "brian@isp.example"))
    assert await world.code(notification("brian@pobox.example")) == 0
    assert world.disk.debts[1].kind == "pull"
    await trio.testing.wait_all_tasks_blocked()
    assert [order.to for order in world.disk.pulled] == [(Mailbox("brian", "isp.example"),)]
    world.now[0] += 3 * 86400
    assert await world.code(notification("brian@pobox.example")) == 1
    assert len(world.disk.pulled) == 1


async def test_all_cold_addresses_of_a_tick_are_read_in_one_call(world: World) -> None:
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(50)))
    outcomes, _ = await world.notify(*(notification(f"u{i}@pobox.example", i) for i in range(50)))
    assert {outcome.code for outcome in outcomes} == {0}
    assert world.book.reads == 1


async def test_what_waits_for_one_agent_goes_as_one_batch(world: World) -> None:
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(30)))
    await world.notify(notification("u0@pobox.example", 99))
    world.wires.sent.clear()
    await world.notify(*(notification(f"u{i}@pobox.example", i) for i in range(1, 30)))
    await world.notify(*(notification(f"u{i}@pobox.example", 100 + i) for i in range(30)))
    assert [len(items) for _, _, items in world.wires.sent][-1] == 30


async def test_an_unknown_agent_gets_single_notifications_until_it_shows_results(world: World) -> None:
    world.wires.legacy.add("isp.example")
    world.book.put(*(route(f"u{i}@pobox.example", to=f"u{i}@isp.example") for i in range(20)))
    await world.notify(*(notification(f"u{i}@pobox.example", i) for i in range(20)))
    assert {len(items) for _, _, items in world.wires.sent} == {1}


async def test_a_plain_forward_to_a_hosted_address_is_opened_in_place(world: World) -> None:
    world.book.put(
        route("a@pobox.example", to="b@pobox.example"),
        route("b@pobox.example", to="c@pobox.example"),
        route("c@pobox.example", to="c@isp.example"),
    )
    assert await world.code(notification("a@pobox.example")) == 0
    [(_, _, [sent])] = world.wires.sent
    assert str(sent.recipient) == "c@isp.example"
    assert sent.hops == 1


async def test_any_other_hosted_target_is_a_leaf_of_its_own_strategy(world: World) -> None:
    world.book.put(
        route("a@pobox.example", to="b@pobox.example"), route("b@pobox.example", "subscribe", readers=("bob",))
    )
    assert await world.code(notification("a@pobox.example")) == 0
    [arrival] = world.disk.arrivals
    assert (arrival.entry, str(arrival.recipient)) == ("b@pobox.example", "b@pobox.example")


async def test_a_redirect_behind_a_forward_uses_its_fallback(world: World) -> None:
    world.book.put(
        route("a@pobox.example", to="b@pobox.example"),
        route("b@pobox.example", "redirect", "b@isp.example", fallback="rewrite_resend"),
    )
    assert await world.code(notification("a@pobox.example")) == 0
    assert world.wires.recipients() == ["b@isp.example"]


async def test_a_circle_of_forwards_is_refused(world: World) -> None:
    world.book.put(route("a@pobox.example", to="b@pobox.example"), route("b@pobox.example", to="a@pobox.example"))
    assert await world.code(notification("a@pobox.example")) == 50


async def test_too_many_targets_and_too_deep_a_nest_name_their_limit(world: World) -> None:
    """All or nothing: not the first fifty of fifty-one (8.1)."""
    many = " ".join(f"u{i}@isp.example" for i in range(51))
    nest = [route(f"n{i}@pobox.example", to=f"n{i + 1}@pobox.example") for i in range(12)]
    world.book.put(route("many@pobox.example", to=many, kind="role"), *nest)
    for number, (address, limit) in enumerate((("many", "targets"), ("n0", "depth"))):
        [outcome], _ = await world.notify(notification(f"{address}@pobox.example", number))
        assert (outcome.code, outcome.text) == (32, f"over the limit {limit}")
    assert not world.wires.sent
    assert not world.disk.debts


async def test_hops_and_our_own_mark_end_a_loop(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    assert await world.code(notification("brian@pobox.example", hops=8)) == 52
    assert await world.code(notification("brian@pobox.example", 2)) == 0
    [sent] = world.wires.sent[-1][2]
    again = notification("brian@pobox.example", 3, trace=sent.trace, hops=1)
    assert await world.code(again) == 50
    other = notification("brian@pobox.example", 4, trace=(Hop("mx.pobox.example", b"another", 0, 3),), hops=1)
    assert await world.code(other) == 0


WORK = Work("later", may=(Resend((parse_mailbox("brian@isp.example"),)),))


@pytest.mark.parametrize(
    ("steps", "goes_on"),
    [
        ((Resend((parse_mailbox("brian@isp.example"),)),), True),
        ((Deposit(("brian",)),), False),
        ((Deposit(("brian",)), WORK), True),
        ((Work("note"),), False),
        ((Pull(readers=("brian",), keep=timedelta(days=1)),), False),
        ((Pull(to=(parse_mailbox("brian@isp.example"),)),), True),
        ((Tell((parse_mailbox("brian@isp.example"),)),), False),
        ((Refuse(49),), False),
    ],
)
def test_what_takes_a_hop(steps: tuple[Step, ...], goes_on: bool) -> None:
    assert adds_a_hop(steps) is goes_on


async def test_the_last_hop_may_be_kept_but_not_passed_on(world: World) -> None:
    """The counter counts rewrites; to be kept for a reader is none (5.0 a). Each refusal by it is counted."""
    world.book.put(
        route("box@pobox.example", strategy="subscribe", readers=("brian",)),
        route("fwd@pobox.example", to="brian@isp.example"),
        route("leaf@pobox.example", to="box@pobox.example"),
    )
    codes = [await world.code(notification("box@pobox.example", hops, hops=hops)) for hops in (7, 8, 9)]
    assert codes == [0, 0, 52]
    assert [await world.code(notification("leaf@pobox.example", 100 + n, hops=n)) for n in (7, 8)] == [0, 52]
    assert await world.code(notification("fwd@pobox.example", 200, hops=8)) == 52
    assert await world.code(notification("fwd@pobox.example", 200)) == 0, "nothing of it stayed under way"


async def test_the_same_notification_in_flight_is_told_to_wait(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    world.wires.script = lambda n: None
    heard: list[int] = []
    world.dispatcher.receive([notification("brian@pobox.example")], TODAY, lambda o, f: heard.append(o[0].code))
    await trio.testing.wait_all_tasks_blocked()
    assert await world.code(notification("brian@pobox.example")) == 35


async def test_expired_notifications_and_literal_stores_are_refused(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    assert await world.code(notification("brian@pobox.example", expires=1_700_000_000)) == 53
    literal = notification("brian@pobox.example", 2)._replace(storeclear=ServiceLocation())
    assert await world.code(literal) == 49


async def test_a_peer_of_2004_hears_one_status_for_its_batch(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"))
    good, nobody = notification("brian@pobox.example"), notification("nobody@pobox.example", 2)
    assert (await world.notify(nobody, peer=OF_2004))[1] is True
    assert (await world.notify(good, nobody, peer=OF_2004))[1] is False


async def test_a_batch_refused_as_a_whole_comes_again_singly_and_nothing_is_done_twice(world: World) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"), route("off@pobox.example", state="off"))
    good, off = notification("brian@pobox.example"), notification("off@pobox.example", 2)
    assert (await world.notify(good, off, peer=OF_2004))[1] is True
    assert (await world.notify(good, peer=OF_2004))[1] is False
    assert world.wires.recipients() == ["brian@isp.example"]


async def test_a_mixed_pdu_is_answered_5_seconds_after_its_first_decided_item(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.book.put(route("slow@pobox.example", to="slow@isp.example"), route("in@pobox.example", "subscribe"))
    world.wires.delay = lambda n: 20.0
    began = trio.current_time()
    outcomes, _ = await world.notify(notification("in@pobox.example"), notification("slow@pobox.example", 2))
    assert [outcome.code for outcome in outcomes] == [0, 35]
    assert trio.current_time() - began <= 5.5
    await trio.sleep(20)
    assert await world.code(notification("slow@pobox.example", 2)) == 0
    assert len(world.wires.sent) == 1


async def test_chains_follow_one_redirect_with_the_same_key(world: World) -> None:
    world.book.put(route("brian@pobox.example", "chains", "brian@isp.example"))
    elsewhere = Redirect(parse_mailbox("brian@new.example"))
    world.wires.script = lambda n: Outcome(16, (elsewhere,)) if n.recipient.domain == "isp.example" else Outcome(0)
    assert await world.code(notification("brian@pobox.example")) == 0
    assert world.wires.recipients() == ["brian@isp.example", "brian@new.example"]


async def test_chains_follow_nothing_unproven_where_tls_is_required(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.dispatcher._performer, "_redirect_require_tls", True)
    world.book.put(route("brian@pobox.example", "chains", "brian@isp.example"))
    world.wires.script = lambda n: Outcome(16, (Redirect(parse_mailbox("brian@new.example")),))
    assert await world.code(notification("brian@pobox.example")) == 49
    assert world.wires.recipients() == ["brian@isp.example"]


async def test_a_submitter_over_its_rate_is_told_the_limit(nursery: trio.Nursery, world: World) -> None:
    limited = build(nursery, {"rewrite_resend": lambda route: Says(Plan((Resend(route.to),)))}, rate=1)
    limited.book.put(route("brian@pobox.example", to="brian@isp.example"))
    senders = [f"sender{key}" for key in range(12)]
    told = [await limited.notify(notification("brian@pobox.example", k, sender=s)) for k, s in enumerate(senders)]
    assert [outcomes[0].code for outcomes, _ in told] == [0] * 10 + [35] * 2
    assert told[-1][0][0].text == "over the limit submitter_rate"


async def test_what_our_own_store_notifies_is_kept_with_a_submitter_that_readers_can_be_told(world: World) -> None:
    world.book.put(route("brian@pobox.example", "subscribe", readers=("brian",)))
    notifier = OwnNotifier(
        world.dispatcher, world.performer, world.links, world.book, world.clock, name="mx.pobox.example"
    )
    outcome = await notifier.notify(parse_mailbox("brian@pobox.example"), notification("brian@pobox.example").raw)
    assert outcome.code == 0
    assert str(ipaddress.ip_address(world.disk.arrivals[0].submitter.address)) == "127.0.0.1"


async def test_a_bug_ends_its_own_item_as_a_defer_and_nothing_stays_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.book.put(route("brian@pobox.example", to="brian@isp.example"), route("in@pobox.example", "subscribe"))
    world.offer.makers["rewrite_resend"] = lambda route: Says(Plan(()))
    outcomes, _ = await world.notify(notification("in@pobox.example"), notification("brian@pobox.example", 2))
    assert [outcome.code for outcome in outcomes] == [0, 32]
    assert any(event == "agent failed" for event, _ in world.log.events)
    assert world.dispatcher.waiting == 0


async def test_a_mailbox_read_by_peek_and_clear_promises_that_no_repeat_is_needed(world: World) -> None:
    world.book.put(
        route("in@pobox.example", "subscribe", readers=("brian",)), route("both@pobox.example", "both", "b@isp.example")
    )
    outcomes, _ = await world.notify(notification("in@pobox.example"))
    assert outcomes[0].retransmit is None
    world.disk.promising = True
    outcomes, _ = await world.notify(notification("in@pobox.example", 2))
    assert outcomes[0].retransmit == 7 * 86400
    outcomes, _ = await world.notify(notification("both@pobox.example", 3))
    assert (outcomes[0].code, outcomes[0].retransmit) == (0, None)
    world.wires.script = lambda n: Outcome(0, retransmit=90_000)
    outcomes, _ = await world.notify(notification("both@pobox.example", 4))
    assert outcomes[0].retransmit == 90_000
