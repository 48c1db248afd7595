"""How our own store's notifications reach an agent, and what it may believe of the answer (protocol 5.2)."""

from __future__ import annotations

import pytest

from forwarder.agent.notify import OwnNotifier
from forwarder.model import Outcome, Redirect, parse_mailbox
from forwarder.ports import Agent, Proven

from .world import World, notification, route

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
