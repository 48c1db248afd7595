"""Members of an address that come and go while copies of it are open: keys linked in a role, own ones in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.model import Mailbox, parse_mailbox
from forwarder.ports import Verdict

from .test_messages import BOB, BRIAN, DAY, FREDA, House

ANNA = parse_mailbox("anna@pobox.example")
ENTRY = str(BRIAN)


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    made = House(tmp_path, nursery)
    await made.start()
    yield made
    await made.database.close()


async def members(house: House, *to: Mailbox, readers: tuple[str, ...] = ()) -> tuple[int, int]:
    return await house.copies.change_members(BRIAN, ENTRY, to, readers)


async def keys_of(house: House) -> dict[str, bytes]:
    """By whose they are."""

    def read(c: apsw.Connection) -> dict[str, bytes]:
        return dict(c.execute("SELECT coalesce(recipient, reader), identifier FROM message_key ORDER BY number"))

    return await house.database.read(read)


async def scan(house: House, reader: str, begin: int = 0) -> list[bytes]:
    page = await house.messages.scan(ENTRY, reader, begin, [ENTRY])
    assert page is not None
    return list(page.keys)


async def told_all(house: House) -> None:
    """Everybody's agent took it."""
    for due in (await house.messages.due(100, ()))[0]:
        await house.messages.settle(due.number, Verdict("taken", code=0))


async def test_a_new_member_of_a_role_gets_a_key_that_dies_with_the_others(house: House) -> None:
    await house.copy(linked=True)
    await told_all(house)
    assert await members(house, BOB, FREDA, ANNA) == (1, 0)
    assert await house.due() == [str(ANNA)]
    keys = await keys_of(house)
    closed = await house.messages.unpin(keys[str(BOB)], None)
    assert closed is not None
    assert closed.others == 2
    assert not await house.opens(keys[str(ANNA)])


async def test_a_new_member_of_a_group_gets_a_pin_of_his_own(house: House) -> None:
    await house.copy()
    assert await members(house, BOB, FREDA, ANNA) == (1, 0)
    keys = await keys_of(house)
    for name in (BOB, FREDA):
        await house.messages.unpin(keys[str(name)], None)
    assert await house.opens(keys[str(ANNA)])
    assert not (await house.copies.owed(9))[0][0].unpin, "the source is held for her still"
    await house.copies.paid((await house.copies.owed(9))[0][0].number, silence=True, unpin=False)
    await house.messages.unpin(keys[str(ANNA)], None)
    assert (await house.copies.owed(9))[0][0].unpin


async def test_who_left_is_notified_no_more_and_may_still_unpin(house: House) -> None:
    await house.copy(linked=True)
    await told_all(house)
    assert await members(house, FREDA) == (0, 1)
    house.now += 2 * DAY
    assert await house.due() == [str(FREDA)]
    keys = await keys_of(house)
    assert await house.messages.unpin(keys[str(BOB)], None)
    assert not await house.opens(keys[str(FREDA)])


async def test_an_attempt_that_was_under_way_when_he_left_starts_nothing_again(house: House) -> None:
    await house.copy()
    under_way = (await house.messages.due(100, ()))[0]
    await members(house, FREDA)
    for due in under_way:
        await house.messages.settle(due.number, Verdict("taken", code=0))
    house.now += 2 * DAY
    assert await house.due() == [str(FREDA)]


async def test_who_comes_back_is_notified_again_unless_he_had_silenced_it(house: House) -> None:
    await house.copy()
    await told_all(house)
    await house.messages.silence((await keys_of(house))[str(FREDA)])
    await members(house, ANNA)
    assert await house.due() == [str(ANNA)]
    assert await members(house, BOB, FREDA, ANNA) == (0, 0)
    assert sorted(await house.due()) == [str(ANNA), str(BOB)]


async def test_nobody_new_gets_what_was_dealt_with(house: House) -> None:
    keys = await house.copy(linked=True)
    await house.messages.unpin(keys[0], None)
    assert await members(house, BOB, FREDA, ANNA) == (0, 0)
    assert await house.copies.held() == []


async def test_nobody_new_gets_what_was_withdrawn_or_has_ended(house: House) -> None:
    await house.copy(expires=house.now + 1000)
    house.now += 1000
    assert await house.copies.held() == []
    assert await members(house, BOB, FREDA, ANNA) == (0, 0)


async def test_other_addresses_copies_are_left_alone(house: House) -> None:
    await house.copy()
    assert await house.copies.held() == [(BRIAN, b"source")]
    assert await house.copies.change_members(ANNA, str(ANNA), [ANNA], ()) == (0, 0)


async def test_a_new_reader_meets_open_items_at_his_next_poll(house: House) -> None:
    await house.copy(to=(), readers=("bob", "freda"), linked=True)
    began = house.now
    house.now += 3600
    assert await members(house, readers=("bob", "freda", "anna")) == (1, 0)
    (hers,) = await scan(house, "anna", began + 60)
    assert hers == (await keys_of(house))["anna"]
    await house.messages.unpin(hers, None)
    assert await scan(house, "bob") == []
