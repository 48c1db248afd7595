"""How our own store's notifications reach an agent, and what it may believe of the answer (protocol 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
import trio
import trio.testing

from forwarder.agent.notify import OwnNotifier
from forwarder.bridges import Carried, Load, Never, Taken
from forwarder.model import Mailbox, Outcome, Redirect, parse_mailbox
from forwarder.ports import Agent, ByCarrier, Proven

from .conftest import MAKERS
from .test_courier import settled, turned
from .world import World, build, notification, route

BRIAN = parse_mailbox("brian@isp.example")
BOB = parse_mailbox("bob@club.example")
TOLD = Outcome(16, (Redirect(BOB, kind=0, ttl=3600),))


def notifier(world: World) -> OwnNotifier:
    return OwnNotifier(world.dispatcher, world.performer, world.links, world.book, world.clock, name="mx.pobox.example")


@pytest.mark.parametrize(
    ("tls", "fall_back", "proven"), [(True, False, True), (False, False, False), (True, True, False)]
)
async def test_only_an_answer_that_surely_came_over_tls_is_proven(
    world: World, monkeypatch: pytest.MonkeyPatch, tls: bool, fall_back: bool, proven: bool
) -> None:
    """Where policy allows to fall back to clear nobody can say by which way it came."""
    plain = world.where._agent("isp.example")
    agent = Agent(plain.endpoints, plain.name, tls, plain.endpoints if fall_back else ())
    monkeypatch.setattr(world.where, "_agent", lambda domain: agent)
    world.wires.script = lambda n: TOLD
    outcome = await notifier(world).notify(BRIAN, notification(str(BRIAN)).raw)
    assert outcome == TOLD
    assert isinstance(outcome, Proven) is proven


async def test_the_repeat_without_the_offer_goes_by_another_session(world: World) -> None:
    world.wires.script = lambda n: TOLD
    await notifier(world).notify(BRIAN, notification(str(BRIAN)).raw, redirect=True)
    await notifier(world).notify(BRIAN, notification(str(BRIAN)).raw, redirect=False)
    offered, repeated = (lane for _, lane, _ in world.wires.sent)
    assert offered != repeated


async def test_a_redirect_of_our_own_addresses_is_proven_and_leaves_nothing_to_remember(world: World) -> None:
    world.book.put(route("brian@pobox.example", "redirect", to=str(BOB), fallback="rewrite_resend"))
    here = "brian@pobox.example"
    outcome = await notifier(world).notify(parse_mailbox(here), notification(here).raw)
    assert isinstance(outcome, Proven)
    assert [(r.mailbox, r.kind, r.ttl) for r in outcome.redirects] == [(BOB, 0, None)]


# -- where nobody has an agent


class Brings:
    """A carrier that says the same of every target."""

    def __init__(self) -> None:
        self.loads: list[Load] = []
        self.says: Carried = Taken(timedelta(days=2))

    async def __call__(self, load: Load, /) -> Mapping[Mailbox, Carried]:
        self.loads.append(load)
        return dict.fromkeys(load.to, self.says)


@pytest.fixture
def carrier() -> Brings:
    return Brings()


@pytest.fixture
def outside(nursery: trio.Nursery, carrier: Brings) -> World:
    made = build(nursery, dict(MAKERS), carriers={"smtp": carrier})
    made.where.missing["isp.example"] = ByCarrier("baddomain", "it does not exist", "smtp")
    return made


async def told(world: World, key: int = 1) -> int:
    outcome = await notifier(world).notify(BRIAN, notification(str(BRIAN), key=key).raw)
    await settled()
    return outcome.code


async def test_our_own_message_is_owed_then_answered_and_brought_once_however_often_it_is_sent(
    outside: World, carrier: Brings, autojump_clock: trio.testing.MockClock
) -> None:
    """The last repeat comes after its un-pin: that was not heard, and is given once more."""
    codes = [await told(outside)]
    for hours in (1, 24, 25):
        await turned(outside, hours * 3600)
        codes.append(await told(outside))
    assert codes == [0, 1, 0, 0]
    assert [load.to for load in carrier.loads] == [(BRIAN,)]
    assert not outside.wires.sent
    assert [debt.kind for debt in outside.disk.debts.values()] == ["resend", "unpin", "unpin"]


async def test_what_cannot_be_brought_for_good_is_told_at_once_and_at_every_repeat(
    outside: World, carrier: Brings, autojump_clock: trio.testing.MockClock
) -> None:
    failed: list[tuple[bytes, int]] = []
    outside.courier.failed = lambda debt, outcome: failed.append((debt.key, outcome.code))
    carrier.says = Never(48, "550 5.1.1")
    assert await told(outside) == 0
    assert failed == [(notification(str(BRIAN)).identifier, 49)]
    await turned(outside, 24 * 3600)
    assert await told(outside) == 49
    assert len(carrier.loads) == 1


async def test_with_a_full_disk_it_is_for_later_and_nothing_was_brought(outside: World, carrier: Brings) -> None:
    outside.disk.full = True
    assert await told(outside) == 32
    outside.disk.full = False
    assert await told(outside) == 0
    assert len(carrier.loads) == 1


async def test_two_of_them_are_two(outside: World, carrier: Brings) -> None:
    assert [await told(outside, key) for key in (1, 2)] == [0, 0]
    assert len(carrier.loads) == 2
