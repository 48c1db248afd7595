"""What a carrier has brought of our own store's messages is un-pinned in the COMMIT that closes its row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio

from forwarder.ports import Debt
from forwarder.storage import ledger, message_schema
from forwarder.storage.ledger import Ledger
from forwarder.storage.own_pins import OwnPins

from .test_messages import BOB, BRIAN, House

OURS = "pobox.example"


class Carrying:
    def __init__(self, house: House) -> None:
        self.house = house
        self.ledger = Ledger(house.database)
        self.ledger.pins = OwnPins(house.messages, lambda store: store == OURS)

    async def owed(self, key: bytes, store: str = OURS) -> Debt:
        debt = Debt(0, "resend", "bob@pobox.example", BOB, store, key, b"octets", self.house.now, b"[]")
        numbers: list[int] = []
        told = trio.Event()

        def done(answer: object) -> None:
            assert isinstance(answer, range)
            numbers.extend(answer)
            told.set()

        self.ledger.accept_soon([debt], done)
        await told.wait()
        return debt._replace(number=numbers[0])

    async def arrived(self, debt: Debt) -> int | Exception | None:
        """The row that owes the un-pin; None: it was ours, and is done."""
        answers: list[int | Exception | None] = []
        told = trio.Event()

        def done(answer: int | Exception | None) -> None:
            answers.append(answer)
            told.set()

        self.ledger.arrived_soon(debt.number, b"carried", debt._replace(number=0, kind="unpin"), done)
        await told.wait()
        return answers[0]

    async def open_rows(self) -> list[int]:
        return [debt.number for debt in await self.ledger.open_debts()]


@pytest.fixture
async def carrying(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Carrying]:
    house = House(tmp_path, nursery)
    house.schema = (*ledger.SCHEMA, *message_schema.SCHEMA)
    await house.start()
    made = Carrying(house)
    await made.ledger.open()
    yield made
    await house.database.close()


async def test_one_commit_closes_the_row_and_un_pins(carrying: Carrying) -> None:
    (key,) = (await carrying.house.submit(BRIAN)).keys
    debt = await carrying.owed(key)
    assert await carrying.arrived(debt) is None
    await carrying.house.restart()
    assert not await carrying.house.opens(key)
    assert await Carrying(carrying.house).open_rows() == []


@pytest.mark.parametrize("copied", [True, False])
async def test_only_where_a_source_may_be_owed_one_anybody_is_woken(carrying: Carrying, copied: bool) -> None:
    house = carrying.house
    key = (await house.copy(to=(BOB,)))[0] if copied else (await house.submit(BRIAN)).keys[0]
    debt = await carrying.owed(key)
    news = house.messages.debts()
    assert await carrying.arrived(debt) is None
    assert news.is_set() == copied
    assert len((await house.copies.owed(9))[0]) == copied


async def test_another_stores_message_owes_a_row(carrying: Carrying) -> None:
    (key,) = (await carrying.house.submit(BRIAN)).keys
    number = await carrying.arrived(await carrying.owed(key, store="other.example"))
    assert isinstance(number, int)
    assert await carrying.open_rows() == [number]
    assert await carrying.house.opens(key), "a store named otherwise is not ours, whatever its keys"


@pytest.mark.parametrize("end", ["unpin", "cancel", "lifetime"])
async def test_what_is_gone_already_is_as_good_as_un_pinned(carrying: Carrying, end: str) -> None:
    (key,) = (await carrying.house.submit(BRIAN, lifetime=1000)).keys
    debt = await carrying.owed(key)
    if end == "unpin":
        await carrying.house.messages.unpin(key, None)
    elif end == "cancel":
        await carrying.house.messages.cancel(key, "toby")
    else:
        carrying.house.now += 1001
    assert await carrying.arrived(debt) is None
    assert await carrying.open_rows() == []


async def test_where_the_disk_fails_neither_is_done(carrying: Carrying, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = (await carrying.house.submit(BRIAN)).keys
    debt = await carrying.owed(key)

    def full(*_: object) -> None:
        raise apsw.FullError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr("forwarder.storage.keys.unpin", full)
        assert isinstance(await carrying.arrived(debt), apsw.FullError)
    assert await carrying.house.opens(key)
    assert await carrying.open_rows() == [debt.number]
    assert await carrying.arrived(debt) is None
    assert not await carrying.house.opens(key)
