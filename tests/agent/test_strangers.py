"""In what order strangers are judged, what they learn, and how much of us they get (protocol 5.0, 8)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from forwarder.agent import links
from forwarder.agent.screens import Guarded
from forwarder.model import (
    Outcome,
    Peer,
    handle,
)
from forwarder.plugin import Ask, Case, Pass, Verdict
from forwarder.ports import NoService

from .conftest import MAKERS
from .test_extensions import people, settled
from .world import TODAY, World, build, notification, route

# -- the order


class Counts:
    """A screen that lets all pass and counts."""

    judged = 0

    def judge(self, case: Case, /) -> Verdict | Ask:
        self.judged += 1
        return Pass()

    async def ask(self, case: Case, /) -> Verdict:
        raise AssertionError


@pytest.fixture
def screened(nursery: trio.Nursery) -> tuple[World, Counts]:
    screen = Counts()
    world = build(nursery, dict(MAKERS), screens=[Guarded("counts", "callback", screen, False)], rate=1)
    world.book.put(
        route("brian@pobox.example", to="brian@isp.example"),
        route("vera@pobox.example", "subscribe", readers=("vera",)),
    )
    return world, screen


async def test_a_limit_is_told_before_anybody_asks_for_whom_it_is(screened: tuple[World, Counts]) -> None:
    world, screen = screened
    for key in range(10):
        await world.code(notification("vera@pobox.example", key, sender=f"u{key}"))
    judged = screen.judged
    for address in ("nobody@pobox.example", "brian@elsewhere.example", "vera@pobox.example"):
        outcomes, _ = await world.notify(notification(address, 99))
        assert (outcomes[0].code, outcomes[0].text) == (35, "over the limit submitter_rate")
    assert (screen.judged, len(world.disk.arrivals)) == (judged, 10)


async def test_some_of_a_pdu_over_a_limit_go_no_further(screened: tuple[World, Counts]) -> None:
    """Half of the bucket is used: then each store and sender has its share."""
    world, screen = screened
    await world.notify(*(notification("vera@pobox.example", key, sender=f"u{key}") for key in range(6)))
    outcomes, _ = await world.notify(*(notification("vera@pobox.example", key, sender="loud") for key in range(20, 24)))
    codes = [outcome.code for outcome in outcomes]
    assert codes.count(35) == 2
    assert len(world.disk.arrivals) == screen.judged == 6 + codes.count(0)


async def test_a_loop_costs_no_screen_and_neither_does_what_is_under_way(screened: tuple[World, Counts]) -> None:
    world, screen = screened
    assert await world.code(notification("brian@pobox.example", 1, hops=9)) == 52
    assert screen.judged == 0
    world.wires.delay = lambda n: 0.05
    outcomes, _ = await world.notify(notification("brian@pobox.example", 2), notification("brian@pobox.example", 2))
    assert [outcome.code for outcome in outcomes] == [0, 35]
    assert screen.judged == 1


async def test_what_was_taken_before_is_screened_again(screened: tuple[World, Counts]) -> None:
    """It may be on a list by now."""
    world, screen = screened
    assert await world.code(notification("vera@pobox.example")) == 0
    assert await world.code(notification("vera@pobox.example")) == 1
    assert screen.judged == 2


# -- what strangers learn


async def test_nobody_is_told_why_we_could_not_connect(world: World) -> None:
    """Else we would be a port scanner for who names our targets (8.3)."""
    people(world)
    told: list[Outcome] = []
    for why in ("192.168.7.1:22: private address", "192.168.7.1:7101: connection refused", "no answer"):
        kind = "forbidden" if "private" in why else "noserver"
        world.where.missing["isp.example"] = NoService(kind, why)  # type: ignore[arg-type]
        outcomes, _ = await world.notify(notification("u0@pobox.example", len(told)))
        told.append(outcomes[0])
    assert told == [Outcome(32, retryafter=300)] * 3
    assert world.links.forbidden == {}


async def test_status_names_a_target_that_we_may_not_connect_to(world: World) -> None:
    people(world)
    world.where.missing["isp.example"] = NoService("forbidden", "192.168.7.1:7101: private address")
    outcomes, _ = await world.notify(notification("u0@pobox.example"))
    assert (outcomes[0].code, outcomes[0].retryafter) == (32, 300)
    assert world.links.forbidden == {"isp.example": "192.168.7.1:7101: private address"}


@pytest.mark.parametrize(("kind", "named", "code"), [("person", False, 16), ("role", False, 48), ("role", True, 16)])
async def test_members_are_named_only_where_the_address_says_so(
    world: World, kind: str, named: bool, code: int
) -> None:
    to = "a@one.example" if kind == "person" else "a@one.example b@two.example"
    world.book.put(route("sales@pobox.example", to=to, kind=kind, state="moved", tell_members=named))
    outcomes, _ = await world.notify(notification("sales@pobox.example"))
    assert (outcomes[0].code, bool(outcomes[0].redirects)) == (code, code == 16)


# -- what one agent may get of us at once


async def out_at_once(world: World, count: int) -> int:
    """Sessions that carry something, when so many notifications wait for one agent that does not answer."""
    people(world, count)
    world.wires.script = lambda n: None
    for number in range(count):
        world.dispatcher.receive([notification(f"u{number}@pobox.example", 7)], TODAY, lambda outcomes, failed: None)
        await trio.sleep(0.05)
    await trio.sleep(1)
    return sum(lane == "main" for _, lane, _ in world.wires.sent)


async def test_an_agent_of_today_gets_four_sessions(world: World, autojump_clock: trio.testing.MockClock) -> None:
    people(world)
    await world.notify(notification("u0@pobox.example"))
    world.wires.sent.clear()
    assert await out_at_once(world, 30) == 4


async def test_an_agent_of_2004_gets_sixteen(world: World, autojump_clock: trio.testing.MockClock) -> None:
    assert await out_at_once(world, 30) == 16


async def test_a_queue_to_an_agent_that_is_known_is_bounded_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "QUEUE", 5)
    struck: list[tuple[str, str]] = []
    world.links.struck = lambda name, who: struck.append((name, who))
    people(world)
    await world.notify(notification("u0@pobox.example"))
    world.wires.script = lambda n: None
    told: list[Outcome] = []
    for key in range(10, 50):
        world.dispatcher.receive(
            [notification("u0@pobox.example", key)], TODAY, lambda outcomes, failed: told.append(outcomes[0])
        )
    await settled()
    assert {(outcome.code, outcome.text) for outcome in told} == {(35, "over the limit agent queue")}
    assert set(struck) == {("agent queue", "isp.example")}
    assert world.links.waiting + len(told) == 40


async def test_an_address_has_so_many_targets_and_its_own_file_may_say_fewer(world: World) -> None:
    """All or nothing: the first fifty of fifty-one would be an accident."""
    for number, (count, limits, code) in enumerate([(50, {}, 0), (51, {}, 32), (3, {"targets": 3}, 0)]):
        to = " ".join(f"u{target}@isp.example" for target in range(count))
        world.book.put(route(f"many{number}@pobox.example", to=to, kind="role", limits=limits))
        assert await world.code(notification(f"many{number}@pobox.example")) == code
    world.book.put(route("few@pobox.example", to="a@isp.example b@isp.example", kind="role", limits={"targets": 1}))
    [outcome], _ = await world.notify(notification("few@pobox.example"))
    assert (outcome.code, outcome.text) == (32, "over the limit targets")


async def test_forwards_are_opened_so_deep(world: World) -> None:
    world.book.put(*(route(f"n{depth}@pobox.example", to=f"n{depth + 1}@pobox.example") for depth in range(12)))
    [outcome], _ = await world.notify(notification("n0@pobox.example"))
    assert (outcome.code, outcome.text) == (32, "over the limit depth")
    assert world.wires.sent == []


# -- forged names


async def test_a_forger_shuts_out_nobody_else(nursery: trio.Nursery) -> None:
    """He names an innocent store and sender until they are refused him; from their own store they still come in."""
    world = build(nursery, dict(MAKERS), rate=2)
    world.book.put(route("vera@pobox.example", "subscribe", readers=("vera",)))
    forger = Peer("198.51.100.7", 1000, features=TODAY.features)
    codes = [await world.code(notification("vera@pobox.example", key), peer=forger) for key in range(20)]
    assert codes[-1] == 35
    for key in range(50, 62):  # a busy store: half of its own bucket is used
        assert await world.code(notification("vera@pobox.example", key, sender=f"u{key}")) == 0
    assert await world.code(notification("vera@pobox.example", 99)) == 0


async def test_the_trace_has_a_handle_of_the_key_and_not_the_key(world: World) -> None:
    people(world)
    await world.code(notification("u0@pobox.example", 0xA1B2C3D4E5F60718293A4B5C6D7E8F90))
    await settled()
    [line] = world.disk.lines
    key = notification("u0@pobox.example", 0xA1B2C3D4E5F60718293A4B5C6D7E8F90).identifier
    assert handle(key) in line
    assert key.hex() not in line
