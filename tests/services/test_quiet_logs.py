"""What the store's log tells of a session: who did what to which handle, no word that opens anything (8.5, 8.13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog.testing
import trio

from forwarder.model import handle
from forwarder.wire.msrap import QuerySize, Retrieve, ScanList, Silence, UnPin, View
from forwarder.wire.rnaqp import Authenticate

from .store_house import StoreHouse
from .test_msrap import MINUTES, copied


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[StoreHouse]:
    made = StoreHouse(tmp_path)
    await made.start(nursery)
    yield made
    await made.database.close()


async def test_no_key_password_or_name_of_a_list_is_in_the_log(house: StoreHouse) -> None:
    with structlog.testing.capture_logs() as lines:
        house.addresses.readers[MINUTES] = ("bob",)
        (key,) = await copied(house, to=(), readers=("bob",))
        secret = await house.messages.capability(MINUTES, "bob")
        reader = house.reader()
        for name in (secret, "wrong" + secret):
            await reader.say(ScanList(name, 0))
        for password in ("right", "a guess at it"):
            await reader.say(Authenticate("bob", password))
        for again in range(2):
            await reader.say(QuerySize(key))
            await reader.say(Retrieve(key, View.all, 0, 100 + again))
            await reader.say(Silence(key))
            await reader.say(UnPin(key))
    log = repr(lines)
    assert handle(key) in log, "else this test would see nothing"
    assert key.hex() not in log
    assert repr(key)[2:-1] not in log
    assert secret not in log
    assert "a guess at it" not in log
