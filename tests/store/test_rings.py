"""Rings of copies, as far as one store sees them (protocol 5.0 e)."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from forwarder.model import ContentDigest, Outcome, ServiceLocation, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import BodySize
from forwarder.store.pulling import ALIKE_SECONDS

from .test_pulling import BODY, KEY, World, make_notification, make_order

SALES = parse_mailbox("sales@pobox.example")


@pytest.fixture
def world() -> World:
    return World()


async def test_a_key_of_ours_for_another_mailbox_is_none(autojump_clock: MockClock, world: World) -> None:
    """A copy made for sales@ may well lead to press@."""
    world.copies.ours[KEY] = SALES
    ours = make_notification(storeclear=ServiceLocation("pobox.example"))
    assert await world.pulling.pull(make_order(ours)) == Outcome(0)


async def test_nor_is_the_same_key_at_another_store(autojump_clock: MockClock, world: World) -> None:
    world.copies.ours[KEY] = make_order().address
    assert await world.pulling.pull(make_order()) == Outcome(0)


async def test_of_the_same_octets_it_asks_about_one_mailbox_and_one_day(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    alike = world.copies.alike

    async def watched(address: object, sha256: bytes, seconds: int) -> int:
        asked.append((str(address), seconds))
        return await alike(address, sha256, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(world.copies, "alike", watched)
    world.sources.hold(KEY, BODY)
    await world.pulling.pull(make_order())
    assert asked == [("press@pobox.example", ALIKE_SECONDS)]
    assert ALIKE_SECONDS == 24 * 3600


async def test_either_promise_of_a_digest_binds(autojump_clock: MockClock, world: World) -> None:
    """What the notification announced, and what the store says of itself."""
    announced = make_notification(digest=ContentDigest(1, bytes(32)))
    world.sources.said[KEY] = BodySize(len(BODY), None, None)
    with pytest.raises(PeerError, match="digest"):
        await world.pulling.pull(make_order(announced))
    world.sources.said[KEY] = BodySize(len(BODY), ContentDigest(1, bytes(32)), None)
    with pytest.raises(PeerError, match="digest"):
        await world.pulling.pull(make_order())
    assert world.copies.kept == []
