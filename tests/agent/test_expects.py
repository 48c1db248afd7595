"""What a mailbox with an `expects` list takes (protocol 5.2, 5.3, 8.7)."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.agent.expects import expected
from forwarder.model import Expect, Hop, Outcome, parse_mailbox

from .world import World, notification, route

BRIAN = "brian@isp.example"
OLD = parse_mailbox("brian@pobox.example")
OTHER = parse_mailbox("mallory@evil.example")
HOP = Hop("mx.pobox.example", None, 1, 3)
LATER = Hop("mx.evil.example", None, 2, 3)


def takes(*expects: Expect, **fields: Any) -> bool:
    return expected(route(BRIAN, expects=expects), notification(BRIAN, **fields))


def test_without_a_list_every_forward_is_welcome() -> None:
    assert takes(original=OTHER, trace=(HOP,), hops=1)


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, True),
        ({"original": OLD}, True),
        ({"original": parse_mailbox("Brian@POBOX.example")}, True),
        ({"original": OLD, "trace": (HOP,), "hops": 1}, True),
        ({"original": parse_mailbox(BRIAN), "trace": (HOP,)}, True),
        ({"original": OTHER}, False),
        ({"original": OTHER, "trace": (HOP,)}, False),
        ({"trace": (HOP,)}, False),
        ({"hops": 1}, False),
    ],
)
def test_with_a_list_what_is_forwarded_must_be_on_it(fields: dict[str, Any], taken: bool) -> None:
    assert takes(Expect(OLD), Expect(parse_mailbox("b@club.example")), **fields) is taken


@pytest.mark.parametrize(
    ("trace", "taken"), [((HOP,), True), ((LATER, HOP), True), ((HOP, LATER), False), ((LATER,), False), ((), False)]
)
def test_via_is_the_last_forwarder(trace: tuple[Hop, ...], taken: bool) -> None:
    assert takes(Expect(OLD, "mx.pobox.example"), original=OLD, trace=trace) is taken


@pytest.mark.parametrize(("token", "taken"), [(b"issued", True), (b"issueD", False), (b"", False), (None, False)])
def test_a_token_must_be_the_one_that_was_issued(token: bytes | None, taken: bool) -> None:
    fields = {"token": token} if token else {}
    assert takes(Expect(OLD, token=b"issued"), original=OLD, **fields) is taken
    assert takes(Expect(OLD, token=b"issued"), original=OLD, trace=(HOP,), hops=1, **fields) is taken


def test_a_redirect_proves_itself_by_token_its_fallback_by_the_forwarder() -> None:
    both = Expect(OLD, "mx.pobox.example", b"issued")
    assert takes(both, original=OLD, token=b"issued")
    assert takes(both, original=OLD, trace=(HOP,), hops=1)
    assert not takes(both, original=OLD)


def test_the_token_of_one_original_is_none_for_another() -> None:
    assert not takes(Expect(OLD, token=b"one"), Expect(OTHER, token=b"two"), original=OLD, token=b"two")


async def test_the_agent_refuses_for_good_and_does_nothing(world: World) -> None:
    world.book.put(route("brian@pobox.example", to=BRIAN, expects=(Expect(OTHER),)))
    replayed = notification("brian@pobox.example", original=parse_mailbox("victim@x.example"))
    outcomes, _ = await world.notify(replayed)
    assert outcomes == [Outcome(49, text="not a forward that this address expects")]
    assert not world.wires.sent
    assert await world.code(notification("brian@pobox.example", 2, original=OTHER)) == 0
