"""How long an order to pull is remembered, and what counts as the same octets again (protocol 5.0 e)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from forwarder.model import Outcome

from .test_messages import BOB, BODY, BRIAN, DAY, House

KEY = b"k" * 16


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    await made.start()
    yield made
    await made.database.close()


async def test_an_order_is_remembered_until_its_notification_expires(house: House) -> None:
    """Where that is later than 35 days: its store may repeat it until then."""
    await house.copies.refuse("store.example", KEY, BRIAN, 49, house.now + 90 * DAY)
    house.now += 89 * DAY
    await house.sweeping.sweep()
    assert await house.copies.pulled("store.example", KEY, BRIAN) == Outcome(49)
    await house.submit(BOB)  # the sight rides on this commit
    house.now += 36 * DAY
    await house.sweeping.sweep()
    assert await house.copies.pulled("store.example", KEY, BRIAN) is None


async def test_without_an_end_it_is_remembered_for_35_days(house: House) -> None:
    await house.copies.refuse("store.example", KEY, BRIAN, 49, None)
    house.now += 35 * DAY - 1
    await house.sweeping.sweep()
    assert await house.database.read(lambda c: c.execute("SELECT count(*) FROM pull").get) == 1
    house.now += 1
    await house.sweeping.sweep()
    assert await house.database.read(lambda c: c.execute("SELECT count(*) FROM pull").get) == 0


async def test_alike_counts_one_mailbox_and_one_day(house: House) -> None:
    digest = hashlib.sha256(BODY).digest()
    await house.copy()
    house.now += 1
    assert await house.copies.alike(BRIAN, digest, DAY) == 1
    assert await house.copies.alike(BOB, digest, DAY) == 0
    assert await house.copies.alike(BRIAN, bytes(32), DAY) == 0
    house.now += DAY
    assert await house.copies.alike(BRIAN, digest, DAY) == 0
