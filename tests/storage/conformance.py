"""What any engine behind the storage ports must do: protocol 5.0 (d), 5.1, 6 (8b), architecture 4.

An engine's own test file gives a fixture `engine` and inherits these classes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Generic, Protocol, TypeVar

import pytest
import trio

from forwarder.model import Endpoint, Mailbox, Outcome, Route
from forwarder.ports import Arrival, Debt, Inbox, Ledger, Unread, Waiting
from forwarder.storage.caps import InboxLimits

T = TypeVar("T")

DAY = 86_400
MIB = 1 << 20
LIMITS = InboxLimits(waiting=10, waiting_per_sender=4, per_sender_per_day=6, per_store_per_day=8)


class FullCatalogue(Protocol):
    complete: bool

    async def sweep(self, routes: AsyncIterator[Route | Unread]) -> int: ...
    async def left(self, unread: Collection[Unread]) -> int: ...
    async def saw(self, route: Route) -> None: ...
    async def forgot(self, entry: str) -> None: ...
    async def read_by(self, account: str) -> Sequence[str]: ...
    async def pointing_at(self, mailbox: Mailbox) -> Sequence[str]: ...
    async def list(self, domain: str, *, after: str = "", limit: int = 1_000) -> Sequence[str]: ...


class SweptInbox(Inbox, Protocol):
    async def sweep(self, now: int) -> int: ...


class Engine(Protocol):
    """A storage engine under test, with LIMITS. now: Unix seconds, turned by the tests."""

    now: int
    inbox: SweptInbox
    ledger: Ledger
    catalogue: FullCatalogue

    async def restart(self) -> None:
        """Stops and starts: new objects on the same files."""
        ...


class Heard(Generic[T]):
    """What a `done` was told: once, and not from within the call that took it."""

    def __init__(self) -> None:
        self._told = trio.Event()
        self._answers: list[T | Exception] = []

    def hear(self, answer: T | Exception) -> None:
        self._answers.append(answer)
        self._told.set()

    async def answer(self) -> T:
        assert not self._answers, "done was called from within the call"
        await self._told.wait()
        (answer,) = self._answers
        assert not isinstance(answer, Exception), answer
        return answer


def arrival(engine: Engine, key: int, entry: str = "sales@pobox.example", **changes: object) -> Arrival:
    local, _, domain = entry.partition("@")
    made = Arrival(
        entry=entry,
        recipient=Mailbox(local, domain),
        store="store.example",
        key=key.to_bytes(16, "big"),
        octets=b"notification %d" % key,
        submitter=Endpoint("192.0.2.1", 4711),
        at=engine.now,
        sender=f"toby{key}",
    )
    return made._replace(**changes)  # type: ignore[arg-type]


async def deposit(engine: Engine, *arrivals: Arrival) -> list[int]:
    """The codes of their outcomes."""
    heard: Heard[Sequence[Outcome]] = Heard()
    engine.inbox.deposit_soon(arrivals, heard.hear)
    return [outcome.code for outcome in await heard.answer()]


async def peek(engine: Engine, account: str = "bob", *entries: str, after: bytes | None = None) -> list[Waiting]:
    items, more = await engine.inbox.peek(account, entries or ("sales@pobox.example",), after, 1000, 16 * MIB)
    assert not more
    return list(items)


async def retrieve(engine: Engine, account: str = "bob", *entries: str) -> list[Waiting]:
    items, _ = await engine.inbox.retrieve_and_clear(account, entries or ("sales@pobox.example",), 1000, 16 * MIB)
    return list(items)


def keys(items: Sequence[Waiting]) -> list[int]:
    """The numbers of the test's notifications."""
    return [int(item.octets.split()[1]) for item in items]


async def accept(ledger: Ledger, *debts: Debt) -> Sequence[int]:
    heard: Heard[Sequence[int]] = Heard()
    ledger.accept_soon(debts, heard.hear)
    return await heard.answer()


def debt(engine: Engine, key: int, **changes: object) -> Debt:
    made = Debt(
        number=0,
        kind="role",
        entry="sales@pobox.example",
        recipient=Mailbox("sales", "pobox.example"),
        store="store.example",
        key=key.to_bytes(16, "big"),
        octets=b"octets",
        accepted=engine.now,
        state=b"all owed",
    )
    return made._replace(**changes)  # type: ignore[arg-type]


async def one_by_one(routes: Sequence[Route | Unread]) -> AsyncIterator[Route | Unread]:
    for route in routes:
        yield route


class InboxLaws:
    """ports.Inbox."""

    async def test_what_was_deposited_waits_for_its_reader_as_it_came(self, engine: Engine) -> None:
        octets = bytes(range(256))
        assert await deposit(engine, arrival(engine, 1, octets=octets)) == [0]
        (item,) = await peek(engine)
        assert item.entry == "sales@pobox.example"
        assert (item.octets, item.submitter, item.at) == (octets, Endpoint("192.0.2.1", 4711), engine.now)
        assert item.recipient == Mailbox("sales", "pobox.example")

    async def test_nothing_is_lost_by_a_restart(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1))
        await engine.restart()
        await deposit(engine, arrival(engine, 2))
        await peek(engine)
        await engine.restart()
        assert keys(await peek(engine)) == [1, 2]

    async def test_items_come_oldest_first_over_all_entries_and_after_a_cursor(self, engine: Engine) -> None:
        entries = "a@pobox.example", "b@pobox.example"
        for key in range(6):
            await deposit(engine, arrival(engine, key, entry=entries[key % 2]))
        items = await peek(engine, "bob", *entries)
        assert keys(items) == [0, 1, 2, 3, 4, 5]
        cursors = [item.cursor for item in items]
        assert sorted(cursors) == cursors and len(set(cursors)) == 6
        assert keys(await peek(engine, "bob", *entries, after=cursors[2])) == [3, 4, 5]
        assert keys(await peek(engine, "bob", entries[0], after=cursors[2])) == [4]

    async def test_a_page_ends_at_its_limits_and_says_that_there_is_more(self, engine: Engine) -> None:
        entries = ("sales@pobox.example",)
        await deposit(engine, *(arrival(engine, key, octets=b"n %d " % key + bytes(96)) for key in range(5)))
        items, more = await engine.inbox.peek("bob", entries, None, 3, MIB)
        assert (keys(items), more) == ([0, 1, 2], True)
        items, more = await engine.inbox.peek("bob", entries, None, 5, MIB)
        assert (keys(items), more) == ([0, 1, 2, 3, 4], False)
        items, more = await engine.inbox.peek("bob", entries, None, 5, 250)
        assert (keys(items), more) == ([0, 1], True)
        items, more = await engine.inbox.peek("bob", entries, None, 5, 1)
        assert (keys(items), more) == ([0], True), "one item always, else a reader would never go on"

    async def test_only_what_was_handed_over_is_cleared(self, engine: Engine) -> None:
        entries = ("sales@pobox.example",)
        await deposit(engine, *(arrival(engine, key) for key in range(5)))
        items, more = await engine.inbox.retrieve_and_clear("bob", entries, 3, MIB)
        assert (keys(items), more) == ([0, 1, 2], True)
        assert keys(await retrieve(engine)) == [3, 4]
        assert await retrieve(engine) == []

    async def test_retrieve_and_clear_takes_nothing_from_the_other_accounts(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1), arrival(engine, 2))
        assert keys(await retrieve(engine, "bob")) == [1, 2]
        await engine.restart()
        assert await retrieve(engine, "bob") == []
        assert await peek(engine, "bob") == []
        assert keys(await peek(engine, "freda")) == [1, 2]

    async def test_clear_removes_for_all_accounts_but_only_in_the_entries_given(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1), arrival(engine, 2), arrival(engine, 3, entry="boss@pobox.example"))
        sales, boss = await peek(engine, "bob"), await peek(engine, "boss", "boss@pobox.example")
        strange = [sales[0].cursor, boss[0].cursor, b"", b"\xff" * 8, b"what?"]
        await engine.inbox.clear(["sales@pobox.example"], strange)
        await engine.restart()
        assert keys(await peek(engine, "freda")) == [2]
        assert keys(await peek(engine, "boss", "boss@pobox.example")) == [3]

    async def test_a_repeat_of_a_waiting_item_is_only_seen(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1), arrival(engine, 2))
        (first, _) = await peek(engine)
        came, engine.now = engine.now, engine.now + DAY
        assert await deposit(engine, arrival(engine, 1)) == [0]
        again, _ = await peek(engine)
        assert again == first and again.at == came
        assert [(s.key[-1], s.at) for s in await engine.inbox.sights(came + 1)] == [(1, engine.now)]

    async def test_two_of_the_same_in_one_breath_are_one_item(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1), arrival(engine, 1))
        await deposit(engine, arrival(engine, 1))
        assert keys(await peek(engine)) == [1]

    async def test_the_same_key_for_two_mailboxes_or_from_two_stores_is_not_the_same(self, engine: Engine) -> None:
        other = arrival(engine, 1, recipient=Mailbox("sales+de", "pobox.example"))
        spelt = arrival(engine, 1, recipient=Mailbox("SALES", "pobox.example"))
        await deposit(engine, arrival(engine, 1), other, arrival(engine, 1, store="other.example"), spelt)
        assert len(await peek(engine)) == 3

    @pytest.mark.parametrize("how", ["clear", "retrieve"])
    async def test_a_repeat_of_what_was_dealt_with_shows_again_at_the_end(self, engine: Engine, how: str) -> None:
        await deposit(engine, arrival(engine, 1), arrival(engine, 2))
        first, second = await peek(engine)
        if how == "clear":
            await engine.inbox.clear([first.entry], [first.cursor])
        else:
            await engine.inbox.retrieve_and_clear("bob", [first.entry], 1, MIB)
        engine.now += DAY
        await deposit(engine, arrival(engine, 1))
        items = await peek(engine, "bob")
        assert keys(items) == [2, 1]
        assert items[1].cursor > second.cursor and items[1].at == engine.now
        assert keys(await peek(engine, "bob", after=second.cursor)) == [1]

    async def test_what_is_hidden_shows_when_its_time_has_come_and_after_what_was_seen(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1, hidden_until=engine.now + 3600), arrival(engine, 2))
        (seen,) = await peek(engine)
        assert keys(await retrieve(engine, "freda")) == keys([seen]) == [2]
        await engine.restart()
        engine.now += 3601
        assert keys(await peek(engine, after=seen.cursor)) == [1]
        assert keys(await retrieve(engine, "freda")) == [1]

    async def test_an_item_dies_at_its_expiry_or_35_days_after_it_was_last_seen(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1, expires=engine.now + 60), arrival(engine, 2), arrival(engine, 3))
        engine.now += 61
        assert keys(await peek(engine)) == [2, 3]
        engine.now += 34 * DAY
        await deposit(engine, arrival(engine, 3), arrival(engine, 4))
        engine.now += 2 * DAY
        assert keys(await peek(engine)) == [3, 4]
        assert await engine.inbox.sweep(engine.now) == 2
        assert keys(await peek(engine)) == [3, 4]

    async def test_cursors_grow_although_everything_was_swept(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1))
        (before,) = await peek(engine)
        engine.now += 40 * DAY
        await engine.inbox.sweep(engine.now)
        await engine.restart()
        await deposit(engine, arrival(engine, 2))
        assert keys(await peek(engine, after=before.cursor)) == [2]

    async def test_sights_are_what_was_taken_sorted_or_not(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1))
        await peek(engine)
        since, engine.now = engine.now + 1, engine.now + 10
        await deposit(engine, arrival(engine, 2))
        sights = await engine.inbox.sights(since)
        assert [(s.store, s.key[-1], s.recipient, s.at) for s in sights] == [
            ("store.example", 2, Mailbox("sales", "pobox.example"), engine.now)
        ]
        assert len(await engine.inbox.sights(0)) == 2

    async def test_retransmit_is_promised_only_while_all_accounts_peek(self, engine: Engine) -> None:
        entry = "sales@pobox.example"
        assert not engine.inbox.promises(entry), "nobody has read it"
        await peek(engine, "bob")
        assert engine.inbox.promises(entry)
        await retrieve(engine, "freda")
        assert not engine.inbox.promises(entry)
        await peek(engine, "bob")
        assert not engine.inbox.promises(entry), "freda needs the daily repair"
        await peek(engine, "freda")
        await engine.restart()
        assert engine.inbox.promises(entry)


class CapLaws:
    """8b: what waits, and what comes in a day."""

    async def test_one_sender_fills_his_own_share_only_and_a_clear_makes_room(self, engine: Engine) -> None:
        flood = [arrival(engine, key, sender="mallory") for key in range(6)]
        assert await deposit(engine, *flood) == [0, 0, 0, 0, 33, 33]
        assert await deposit(engine, arrival(engine, 10)) == [0]
        items = await peek(engine)
        assert keys(items) == [0, 1, 2, 3, 10]
        await engine.inbox.clear(["sales@pobox.example"], [items[0].cursor])
        assert await deposit(engine, flood[4], flood[5]) == [0, 33]

    async def test_the_counts_survive_a_restart(self, engine: Engine) -> None:
        await deposit(engine, *(arrival(engine, key, sender="mallory") for key in range(2)))
        await peek(engine)
        await deposit(engine, *(arrival(engine, key, sender="mallory") for key in range(2, 4)))
        await engine.restart()
        assert await deposit(engine, arrival(engine, 9, sender="mallory")) == [33]
        await retrieve(engine)
        await engine.restart()
        assert await deposit(engine, *(arrival(engine, key, sender="mallory") for key in (9, 10, 11))) == [0, 0, 33]

    async def test_the_mailbox_as_a_whole_has_its_limit(self, engine: Engine) -> None:
        many = [arrival(engine, key, store=f"s{key}.example") for key in range(11)]
        assert await deposit(engine, *many) == [0] * 10 + [33]

    async def test_a_day_has_its_limits_although_the_reader_keeps_up(self, engine: Engine) -> None:
        codes = []
        for key in range(10):
            codes += await deposit(engine, arrival(engine, key, sender="mallory" if key < 7 else f"s{key}"))
            await retrieve(engine)
        assert codes == [0, 0, 0, 0, 0, 0, 33, 0, 0, 33]  # six of one sender, eight of one store
        engine.now += DAY
        assert await deposit(engine, arrival(engine, 20, sender="mallory")) == [0]

    async def test_a_repeat_of_a_waiting_item_uses_no_room_and_needs_none(self, engine: Engine) -> None:
        full = [arrival(engine, key, sender="mallory") for key in range(4)]
        await deposit(engine, *full)
        await peek(engine)
        engine.now += DAY
        assert await deposit(engine, *(a._replace(at=engine.now) for a in full)) == [0, 0, 0, 0]
        assert len(await engine.inbox.sights(engine.now)) == 4
        items = await peek(engine)
        await engine.inbox.clear(["sales@pobox.example"], [items[0].cursor])
        assert await deposit(engine, arrival(engine, 3, sender="mallory")) == [0], "a repeat, counted and taken back"
        await peek(engine)
        assert await deposit(engine, arrival(engine, 8, sender="mallory")) == [0]

    async def test_the_same_item_twice_in_one_breath_counts_once(self, engine: Engine) -> None:
        await deposit(engine, arrival(engine, 1, sender="m"), arrival(engine, 1, sender="m"))
        await peek(engine)
        assert await deposit(engine, *(arrival(engine, key, sender="m") for key in range(2, 6))) == [0, 0, 0, 33]

    async def test_an_item_that_was_taken_and_then_cleared_makes_room_once(self, engine: Engine) -> None:
        await deposit(engine, *(arrival(engine, key, sender="m") for key in range(2)))
        items = await peek(engine, "freda")
        await engine.inbox.retrieve_and_clear("bob", ["sales@pobox.example"], 1, MIB)
        await engine.inbox.clear(["sales@pobox.example"], [items[0].cursor])
        assert await deposit(engine, *(arrival(engine, key, sender="m") for key in range(2, 6))) == [0, 0, 0, 33]

    async def test_an_entry_may_have_limits_of_its_own_and_none(self, engine: Engine) -> None:
        tight = [arrival(engine, key, limits={"waiting": 1, "targets": 5}) for key in range(2)]
        assert await deposit(engine, *tight) == [0, 33]
        free = {"waiting": 0, "waiting_per_sender": 0, "per_sender_per_day": 0, "per_store_per_day": 0}
        flood = [arrival(engine, key, "boss@pobox.example", sender="m", limits=free) for key in range(30)]
        assert await deposit(engine, *flood) == [0] * 30

    async def test_what_has_died_makes_room(self, engine: Engine) -> None:
        await deposit(engine, *(arrival(engine, k, sender="m", expires=engine.now + 60) for k in range(4)))
        await deposit(engine, arrival(engine, 5))
        await peek(engine)
        engine.now += 61
        assert await engine.inbox.sweep(engine.now) == 4
        assert await deposit(engine, arrival(engine, 6, sender="m")) == [0]


class LedgerLaws:
    """ports.Ledger."""

    async def test_a_debt_is_there_after_its_number_was_told(self, engine: Engine) -> None:
        first, second = await accept(engine.ledger, debt(engine, 1), debt(engine, 2))
        assert second > first
        await engine.restart()
        assert [d.number for d in await engine.ledger.open_debts()] == [first, second]
        assert await engine.ledger.debt(second) == debt(engine, 2, number=second)
        assert await engine.ledger.debt(second + 1) is None

    async def test_a_settlement_is_seen_at_once_and_kept(self, engine: Engine) -> None:
        first, second = await accept(engine.ledger, debt(engine, 1), debt(engine, 2))
        engine.ledger.settle_soon(first, b"half", closed=False)
        engine.ledger.settle_soon(first, b"done", closed=True)
        engine.ledger.settle_soon(second, b"one left", closed=False)
        for _ in range(2):
            assert await engine.ledger.debt(first) == debt(engine, 1, number=first, state=b"done", open=False)
            assert await engine.ledger.open_debts() == [debt(engine, 2, number=second, state=b"one left")]
            await engine.restart()

    async def test_a_closed_debt_can_be_opened_again(self, engine: Engine) -> None:
        (number,) = await accept(engine.ledger, debt(engine, 1))
        engine.ledger.settle_soon(number, b"done", closed=True)
        await engine.restart()
        engine.ledger.settle_soon(number, b"passed on once more", closed=False)
        await engine.restart()
        assert await engine.ledger.open_debts() == [debt(engine, 1, number=number, state=b"passed on once more")]

    async def test_what_was_closed_and_is_reopened_is_on_the_disk_before_anybody_is_told(self, engine: Engine) -> None:
        (number,) = await accept(engine.ledger, debt(engine, 1))
        engine.ledger.settle_soon(number, b"given up", closed=True)
        heard = Heard[None]()
        engine.ledger.reopen_soon(number, b"owed", heard.hear)
        await heard.answer()
        await engine.restart()
        assert await engine.ledger.open_debts() == [debt(engine, 1, number=number, state=b"owed")]

    async def test_what_has_arrived_closes_its_row_and_owes_the_un_pin_in_one_commit(self, engine: Engine) -> None:
        (number,) = await accept(engine.ledger, debt(engine, 1))
        engine.ledger.settle_soon(number, b"one left", closed=False)  # rides behind, and is out of date
        heard = Heard[int | None]()
        unpin = debt(engine, 1, kind="unpin", state=b"{}")
        engine.ledger.arrived_soon(number, b"carried", unpin, heard.hear)
        owed = await heard.answer()
        assert isinstance(owed, int)
        for _ in range(2):
            assert await engine.ledger.debt(number) == debt(engine, 1, number=number, state=b"carried", open=False)
            assert await engine.ledger.open_debts() == [unpin._replace(number=owed)]
            await engine.restart()

    async def test_what_is_owed_to_members_is_found_by_recipient_open_or_closed_page_by_page(
        self, engine: Engine
    ) -> None:
        sales, desk = Mailbox("sales", "pobox.example"), Mailbox("desk", "pobox.example")
        made = [debt(engine, key, kind="resend", recipient=sales) for key in range(3)]
        others = [debt(engine, 7, kind="resend", recipient=desk, accepted=engine.now - 9), debt(engine, 8, kind="pull")]
        numbers = await accept(engine.ledger, *made, *others)
        engine.ledger.settle_soon(numbers[1], b"done", closed=True)
        assert await engine.ledger.recipients(engine.now) == [sales]
        assert sorted(await engine.ledger.recipients(engine.now - 9)) == [desk, sales]
        first = await engine.ledger.debts_for(sales, engine.now, 0, 2)
        assert [(d.number, d.open, d.state == b"done") for d in first] == [
            (numbers[0], True, False),
            (numbers[1], False, True),
        ]
        assert [d.number for d in await engine.ledger.debts_for(sales, engine.now, numbers[1], 2)] == [numbers[2]]
        assert not await engine.ledger.debts_for(sales, engine.now + 1, 0, 2)

    async def test_sights_come_by_accepted_time_and_name_their_debt(self, engine: Engine) -> None:
        early, late = await accept(engine.ledger, debt(engine, 1), debt(engine, 2, accepted=engine.now + 5))
        assert [(s.key[-1], s.at, s.debt) for s in await engine.ledger.sights(engine.now)] == [
            (1, engine.now, early),
            (2, engine.now + 5, late),
        ]
        assert [s.debt for s in await engine.ledger.sights(engine.now + 1)] == [late]

    async def test_only_closed_and_old_debts_are_forgotten_and_numbers_never_come_again(self, engine: Engine) -> None:
        numbers = await accept(engine.ledger, *(debt(engine, key) for key in range(4)))
        for number in (*numbers[:2], numbers[3]):
            engine.ledger.settle_soon(number, b"", closed=True)
        await engine.restart()
        assert await engine.ledger.forget(engine.now) == 0
        assert await engine.ledger.forget(engine.now + 1) >= 2
        assert await engine.ledger.debt(numbers[0]) is None
        assert [d.number for d in await engine.ledger.open_debts()] == [numbers[2]]
        await engine.restart()
        (fresh,) = await accept(engine.ledger, debt(engine, 9))
        assert fresh > numbers[3]

    async def test_strategies_remember_by_entry_and_an_empty_value_forgets(self, engine: Engine) -> None:
        engine.ledger.remember_soon("a@x.example", "rota", {"turn": b"1", "who": b"bob"})
        assert await engine.ledger.memory("a@x.example", "rota") == {"turn": b"1", "who": b"bob"}
        await engine.restart()
        engine.ledger.remember_soon("a@x.example", "rota", {"turn": b"2", "who": b""})
        for _ in range(2):
            assert await engine.ledger.memory("a@x.example", "rota") == {"turn": b"2"}
            assert await engine.ledger.memory("b@x.example", "rota") == {}
            assert await engine.ledger.memory("a@x.example", "other") == {}
            await engine.restart()

    async def test_a_strategy_remembers_64_kib_for_an_entry_and_not_more(self, engine: Engine) -> None:
        with pytest.raises(ValueError, match="65536"):
            engine.ledger.remember_soon("a@x.example", "rota", {"big": bytes(65_536)})
        engine.ledger.remember_soon("a@x.example", "rota", {"big": bytes(40_000)})
        await engine.restart()
        engine.ledger.remember_soon("a@x.example", "rota", {"more": bytes(40_000)})
        engine.ledger.remember_soon("b@x.example", "rota", {"more": b"fits"})
        await engine.restart()
        assert set(await engine.ledger.memory("a@x.example", "rota")) == {"big"}
        assert await engine.ledger.memory("b@x.example", "rota") == {"more": b"fits"}


def route(local: str, to: Sequence[str] = (), readers: Sequence[str] = (), domain: str = "pobox.example") -> Route:
    targets = tuple(Mailbox(*target.split("@")) for target in to)
    address = Mailbox(local, domain)
    return Route(address, f"{local}@{domain}", "subscribe", to=targets, readers=tuple(readers))


class CatalogueLaws:
    """ports.Catalogue, and what fills it."""

    async def test_a_sweep_answers_who_reads_who_points_and_what_a_domain_holds(self, engine: Engine) -> None:
        assert [engine.catalogue.complete] == [False]
        routes = [
            route("sales", readers=["bob", "freda"]),
            route("brian", to=["Brian@isp.example", "x@isp.example"]),
            route("boss", readers=["bob"], domain="other.example"),
        ]
        assert await engine.catalogue.sweep(one_by_one(routes)) == 3
        assert engine.catalogue.complete
        assert await engine.catalogue.read_by("bob") == ["boss@other.example", "sales@pobox.example"]
        assert await engine.catalogue.pointing_at(Mailbox("brian", "isp.example")) == ["brian@pobox.example"]
        assert await engine.catalogue.list("pobox.example") == ["brian@pobox.example", "sales@pobox.example"]
        assert await engine.catalogue.list("pobox.example", after="brian@pobox.example") == ["sales@pobox.example"]
        assert await engine.catalogue.list("pobox.example", limit=1) == ["brian@pobox.example"]

    async def test_the_next_sweep_drops_what_is_gone_and_corrects_what_changed(self, engine: Engine) -> None:
        await engine.catalogue.sweep(one_by_one([route("a", readers=["bob"]), route("b", readers=["bob"])]))
        await engine.restart()
        assert not engine.catalogue.complete
        assert await engine.catalogue.read_by("bob") == ["a@pobox.example", "b@pobox.example"]
        await engine.catalogue.sweep(one_by_one([route("b", readers=["freda"])]))
        assert await engine.catalogue.read_by("bob") == []
        assert await engine.catalogue.read_by("freda") == ["b@pobox.example"]
        assert await engine.catalogue.list("pobox.example") == ["b@pobox.example"]

    async def test_a_sweep_drops_nothing_that_could_not_be_read(self, engine: Engine) -> None:
        await engine.catalogue.sweep(
            one_by_one([
                *(route("a", readers=["bob"]), route("gone", readers=["bob"])),
                *(route("boss", readers=["bob"], domain="x.example"), route("c", readers=["bob"], domain="y.example")),
            ])
        )  # fmt: skip
        met = [Unread("pobox.example", "a"), Unread("x.example")]
        assert await engine.catalogue.sweep(one_by_one(met)) == 0
        assert await engine.catalogue.read_by("bob") == ["a@pobox.example", "boss@x.example"]
        assert await engine.catalogue.left({*met, Unread("pobox.example", "gone")}) == 2
        await engine.catalogue.sweep(one_by_one([Unread()]))
        assert await engine.catalogue.read_by("bob") == ["a@pobox.example", "boss@x.example"]
        await engine.catalogue.sweep(one_by_one([]))
        assert await engine.catalogue.read_by("bob") == []

    async def test_single_entries_are_corrected_in_between(self, engine: Engine) -> None:
        await engine.catalogue.sweep(one_by_one([route("a", readers=["bob"])]))
        await engine.catalogue.saw(route("a", to=["x@isp.example"], readers=["freda"]))
        await engine.catalogue.saw(route("c", readers=["freda", "freda"]))
        assert await engine.catalogue.read_by("bob") == []
        assert await engine.catalogue.read_by("freda") == ["a@pobox.example", "c@pobox.example"]
        await engine.catalogue.forgot("a@pobox.example")
        assert await engine.catalogue.read_by("freda") == ["c@pobox.example"]
        assert await engine.catalogue.pointing_at(Mailbox("x", "isp.example")) == []

    async def test_a_sweep_over_many_slices_meets_everything(self, engine: Engine) -> None:
        routes = [route(f"u{n:04}", readers=["bob"]) for n in range(1_203)]
        assert await engine.catalogue.sweep(one_by_one(routes)) == 1_203
        assert len(await engine.catalogue.read_by("bob")) == 1_203
        await engine.catalogue.sweep(one_by_one(routes[:1]))
        assert await engine.catalogue.read_by("bob") == ["u0000@pobox.example"]
