"""What strangers may ask of us: who is charged for what, and what becomes known of it (protocol 8.1, 8.4)."""

from __future__ import annotations

import ipaddress

import pytest
import trio
import trio.testing

from forwarder.agent.limits import BUCKETS, Buckets, Pending, PullLimit, Strangers, Strikes, SubmitterLimit
from forwarder.model import Notification
from forwarder.plugin import PeerError

from .test_courier import FIVE, settled, turned
from .world import Quiet, World, notification, route


class Seen:
    """Counts, and a clock to be turned."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.struck: list[str] = []

    def clock(self) -> float:
        return self.now

    def __call__(self, name: str, who: str) -> None:
        self.struck.append(name)

    def limit(self, rate: float) -> SubmitterLimit:
        return SubmitterLimit(rate, (ipaddress.ip_network("192.0.2.0/28"),), self.clock, self)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def many(count: int, sender: str = "toby", store: str = "store.example") -> list[Notification]:
    return [notification("brian@pobox.example", key, sender=sender, store=store) for key in range(count)]


def test_the_log_hears_of_a_limit_at_once_and_then_now_and_then_with_the_count(seen: Seen) -> None:
    log = Quiet()
    strikes = Strikes(log, seen.clock)
    for _ in range(1000):
        strikes("submitter_rate", "192.0.2.99")
    strikes("waiting", "brian@pobox.example")
    seen.now += 11
    strikes("submitter_rate", "192.0.2.98")
    assert strikes.counts == {"submitter_rate": 1001, "waiting": 1}
    told = [(fields["limit"], fields["times"]) for _, fields in log.events]
    assert told == [("submitter_rate", 1), ("waiting", 1), ("submitter_rate", 1000)]


def test_a_submitter_has_ten_seconds_worth_and_gets_more_by_time(seen: Seen) -> None:
    limit = seen.limit(10)
    assert not limit.refused("198.51.100.1", many(100))
    assert set(limit.refused("198.51.100.1", many(10)).values()) == {"submitter_rate"}
    seen.now += 1
    assert not limit.refused("198.51.100.1", many(10, "anna"))
    assert not limit.refused("198.51.100.2", many(10))
    assert seen.struck == ["submitter_rate"]


def test_a_clock_that_goes_back_gives_and_takes_nothing(seen: Seen) -> None:
    limit = seen.limit(10)
    assert not limit.refused("198.51.100.1", many(100))
    seen.now -= 500
    assert limit.refused("198.51.100.1", many(1, "anna"))


def test_the_addresses_of_a_network_have_four_submitters_worth_together(seen: Seen) -> None:
    limit = seen.limit(10)
    for host in range(4):
        assert not limit.refused(f"198.51.100.{host}", many(100))
    assert set(limit.refused("198.51.100.9", many(1)).values()) == {"submitter_rate of a network"}
    assert not limit.refused("198.51.101.9", many(1))
    for subnet in range(4):
        assert not limit.refused(f"2001:db8:0:{subnet}::1", many(100))
    assert limit.refused("2001:db8:0:9::1", many(1))


def test_our_own_machines_have_no_bucket(seen: Seen) -> None:
    limit = seen.limit(1)
    for _ in range(10):
        assert not limit.refused("192.0.2.1", many(100))
    assert all(limit.may_ask("192.0.2.1") for _ in range(1000))


def test_one_loud_sender_leaves_room_for_the_others_of_his_store(seen: Seen) -> None:
    """Nothing is counted by sender before half of the submitter's bucket is used."""
    limit = seen.limit(10)
    for _ in range(6):
        assert not limit.refused("198.51.100.1", many(10, "loud"))
    refused = limit.refused("198.51.100.1", [*many(35, "loud"), *many(1, "quiet")])
    assert set(refused) == set(range(25, 35))
    assert set(refused.values()) == {"submitter_rate of a sender"}


def test_questions_of_screens_are_few_for_each_network(seen: Seen) -> None:
    limit = seen.limit(10)
    assert [limit.may_ask(f"198.51.100.{n}") for n in range(61)] == [True] * 60 + [False]
    assert limit.may_ask("198.51.101.1")
    assert seen.struck == ["screen look-ups"]


def test_buckets_are_bounded() -> None:
    buckets = Buckets(1, 1, lambda: 0.0)
    for number in range(BUCKETS + 10):
        assert buckets.take(number)
    assert len(buckets) == BUCKETS


def test_names_that_were_good_are_no_strangers(seen: Seen) -> None:
    strangers = Strangers(seen.clock, seen)
    assert strangers.admit("good.example")
    strangers.good("good.example")
    assert sum(strangers.admit(f"forged{n}.example") for n in range(1000)) == 199
    assert strangers.admit("good.example")
    seen.now += 10
    assert sum(strangers.admit(f"more{n}.example") for n in range(1000)) == 20


def test_pulls_that_wait_are_counted_for_their_entry_their_sender_and_who_brought_them(seen: Seen) -> None:
    pulls = PullLimit(100, 10, lambda address: False, seen)

    def enter(store: str, brought: str, entry: str = "archive@pobox.example") -> str | None:
        return pulls.enter(Pending(entry, store, "toby", brought), f"{brought}.1", {})

    assert [enter("a.example", "198.51.100") for _ in range(11)] == [None] * 10 + ["waiting_per_sender"]
    assert enter("b.example", "198.51.100") == "waiting_per_sender of a network"
    assert enter("a.example", "198.51.101") is None  # the innocent, from elsewhere
    assert [enter(f"{n}.example", f"203.0.{n}") for n in range(90)].count(None) == 89
    assert seen.struck[-1] == "waiting"
    assert enter("a.example", "198.51.100", "other@pobox.example") is None


def test_a_pull_that_has_ended_counts_no_more(seen: Seen) -> None:
    pulls = PullLimit(100, 1, lambda address: False, seen)
    pending = Pending("archive@pobox.example", "a.example", "toby", "198.51.100")
    assert pulls.enter(pending, "198.51.100.1", {}) is None
    pulls.accepted(7, pending)
    assert pulls.enter(pending, "198.51.100.1", {}) == "waiting_per_sender"
    pulls.ended(7)
    pulls.ended(7)
    assert pulls.enter(pending, "198.51.100.1", {}) is None
    assert pulls.enter(pending, "198.51.100.1", {"waiting_per_sender": 5, "waiting": 0}) is not None


async def test_a_role_whose_store_is_never_found_is_not_asked_for_for_ever(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged store: its targets took it, each day we look for the store in vain, and after a week no more."""
    looks = 0

    async def never(notification: Notification) -> None:
        nonlocal looks
        looks += 1
        await trio.lowlevel.checkpoint()
        raise PeerError("no such store")

    monkeypatch.setattr(world.disk, "look", never)
    world.book.put(route("sales@pobox.example", to=FIVE, kind="role"))
    assert await world.code(notification("sales@pobox.example")) == 0
    await settled()
    for _ in range(12):
        await turned(world, 86401)
    assert 5 <= looks <= 7
    assert world.courier.waiting == 0
