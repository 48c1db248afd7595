"""The store's sending and its laws of time (protocol 4, 5.2, 5.6). Trio's clock jumps; nothing here sleeps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from forwarder.model import Mailbox, Outcome, Redirect, ServiceLocation, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import NoService, Proven, UserRecord
from forwarder.signature import SigningKey, judge, key_record, new_private
from forwarder.store.machine import DAY, Life, Told
from forwarder.store.sending import AT_ONCE, PER_AGENT, Sending

from .memory import DIGEST, SIZE, Answers, MemoryLocator, MemoryMessages, MemoryNotifier, Sent, clock

BRIAN = parse_mailbox("brian@pobox.example")
BOB = parse_mailbox("bob@isp.example")


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.messages, self.notifier, self.locator = MemoryMessages(), MemoryNotifier(), MemoryLocator()
        self.nursery = nursery

    def start(self, *, redirects: bool = True, **more: Any) -> None:
        self.sending = Sending(
            self.messages,
            self.notifier,
            self.locator,
            clock,
            lambda sender: "store.example",
            redirects=redirects,
            jitter=lambda: 0.5,
            **more,
        )
        self.nursery.start_soon(self.sending.run)

    def times(self, to: Mailbox = BRIAN) -> list[int]:
        return [round(sent.at) for sent in self.notifier.sent if sent.to == str(to)]

    def told(self, number: int = 1) -> Told:
        return self.messages.keys[number].state.told

    def sent_to(self) -> list[str]:
        return [sent.to for sent in self.notifier.sent]


@pytest.fixture(params=[False, True], ids=["looked for", "handed over"])
def world(nursery: trio.Nursery, request: pytest.FixtureRequest) -> World:
    """How what is submitted comes to the sending."""
    made = World(nursery)
    made.messages.hands_over = request.param
    return made


def redirect_to(*to: str, **more: Any) -> Answers:
    redirects = tuple(Redirect(parse_mailbox(target), **more) for target in to)
    return lambda sent: Outcome(16, redirects)


def slow_disk(world: World, *, before: float = 0, after: float = 0) -> None:
    """Seconds that it takes to read what is due, and, once somebody was told something, to say it."""
    read = world.messages.due

    async def slow(limit: int, without: Any) -> Any:
        await trio.sleep(before)
        answer = await read(limit, without)
        await trio.sleep(after if world.notifier.sent else 0)
        return answer

    world.messages.due = slow  # type: ignore[method-assign]


def first(*answers: Outcome | Exception) -> Answers:
    """These, then all is taken."""
    left: Iterator[Outcome | Exception] = iter(answers)
    return lambda sent: next(left, Outcome(0))


async def test_a_submission_is_notified_at_once_with_all_that_its_reader_needs(
    autojump_clock: MockClock, world: World
) -> None:
    world.start()
    await trio.sleep(1000)
    world.messages.submit(BRIAN)
    await trio.testing.wait_all_tasks_blocked()
    (sent,) = world.notifier.sent
    assert sent.at == 1000
    notification = sent.notification
    assert notification.storeclear == ServiceLocation("store.example")
    assert (notification.recipient, notification.sender, notification.size) == (BRIAN, "toby", SIZE)
    assert notification.identifier == world.messages.keys[1].due.identifier
    assert notification.digest and notification.digest.value == DIGEST
    assert notification.expires and notification.original is None and notification.token is None


async def test_it_is_repeated_no_sooner_than_after_24_hours_until_it_is_silenced(
    autojump_clock: MockClock, world: World
) -> None:
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(3.9 * DAY)
    gaps = [b - a for a, b in zip(world.times(), world.times()[1:], strict=False)]
    assert len(gaps) == 3
    assert all(DAY <= gap <= 1.1 * DAY + 1 for gap in gaps)
    world.messages.keys[1].state = world.messages.keys[1].state._replace(told=Told.silenced, due=None)
    await trio.sleep(10 * DAY)
    assert len(world.times()) == 4


async def test_a_promise_of_the_agent_is_kept(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = lambda sent: Outcome(0, retransmit=3 * DAY)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(3.5 * DAY)
    assert world.times() == [0, 3 * DAY]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (NoService("noservice", "x"), Told.noservice),
        (NoService("noserver", "x"), Told.noserver),
        (NoService("forbidden", "x"), Told.noserver),
        (PeerError("garbage"), Told.protocolerror),
    ],
)
async def test_failures_back_off_and_success_ends_them(
    autojump_clock: MockClock, world: World, fault: Exception, told: Told
) -> None:
    world.notifier.answers[str(BRIAN)] = first(fault, fault, fault)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert world.messages.keys[1].state.told is told
    await trio.sleep(4 * 3600)
    assert world.times() == [0, 300, 900, 2100]
    assert world.messages.keys[1].state.told is Told.notifying


async def test_a_domain_that_does_not_exist_is_asked_once_a_day(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = first(*[NoService("baddomain", "x")] * 3)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(2.5 * DAY)
    assert world.times() == [0, DAY, 2 * DAY]


async def test_a_refusal_for_good_ends_it(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = lambda sent: Outcome(48)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(20 * DAY)
    state = world.messages.keys[1].state
    assert (len(world.times()), state.told, state.lastcode, state.life) == (1, Told.nouser, 48, Life.live)


async def test_a_later_answer_comes_when_asked(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = first(Outcome(35, retryafter=10), Outcome(32, retryafter=7200), Outcome(32))
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(2 * DAY)
    assert world.times() == [0, 300, 7500, 7500 + DAY]


async def test_an_agent_that_never_answers_holds_nothing_up(autojump_clock: MockClock, world: World) -> None:
    world.notifier.slow["pobox.example"] = 1e9
    world.start()
    world.messages.submit(BRIAN)
    world.messages.submit(BOB)
    await trio.sleep(200)
    assert world.times(BOB) == [0]
    assert world.messages.keys[1].state.told is Told.protocolerror


async def test_one_slow_agent_has_few_and_keeps_nobody_behind_it_waiting(
    autojump_clock: MockClock, world: World
) -> None:
    world.notifier.slow["pobox.example"] = 100
    for _ in range(300):
        world.messages.submit(BRIAN)
    world.messages.submit(BOB)
    world.start()
    await trio.sleep(1)
    assert world.times(BOB) == [0]
    assert world.notifier.most_out["pobox.example"] == PER_AGENT
    await trio.sleep(100 * 300 / PER_AGENT + 1)
    assert len(world.times()) == 300


async def test_the_end_of_what_was_taken_asks_for_nothing_more_unless_others_wait(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = world.messages.due

    async def counted(limit: int, without: Collection[str]) -> Any:
        nonlocal looks
        looks += 1
        return await real(limit, without)

    monkeypatch.setattr(world.messages, "due", counted)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert looks == 1
    for _ in range(AT_ONCE + PER_AGENT):
        world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert len(world.notifier.sent) == 1 + AT_ONCE + PER_AGENT


async def test_attempts_at_once_are_bounded(autojump_clock: MockClock, world: World) -> None:
    for n in range(100):
        domain = f"d{n}.example"
        world.notifier.slow[domain] = 10
        world.messages.submit(Mailbox("x", domain))
    world.start()
    await trio.sleep(1)
    assert len(world.notifier.sent) == AT_ONCE
    await trio.sleep(10)
    assert len(world.notifier.sent) == 100


async def test_idle_it_looks_at_the_clock_every_10_minutes_and_no_more(autojump_clock: MockClock, world: World) -> None:
    world.start()
    await trio.sleep(3600)
    assert world.messages.asked <= 7


async def test_a_disk_that_fails_stops_nothing_for_good(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise OSError("input/output error")

    tries: list[float] = []

    async def fails_to_read(*_: object) -> None:
        tries.append(trio.current_time())
        await fails()

    world.messages.submit(BRIAN)
    with monkeypatch.context() as broken:
        broken.setattr(world.messages, "due", fails_to_read)
        world.start()
        await trio.sleep(10)
        assert tries == [0, 1, 3, 7], "soon at first, then less often"
        assert world.sending.setback.last == "OSError: input/output error"
    await trio.sleep(10)
    assert world.times() == [15]
    assert not world.sending.setback.last


async def test_who_waits_for_an_outcome_hears_it_before_the_disk_has_it(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is ours by then, whatever becomes of this; a crash makes the attempt once more."""
    heard: list[str] = []

    async def keeps(*_: object) -> None:
        heard.append("on its way to the disk")
        await trio.sleep_forever()

    monkeypatch.setattr(world.messages, "settle", keeps)
    world.start()
    world.sending.heard = lambda key, verdict: heard.append(str(verdict and verdict.event))
    world.messages.submit(BRIAN)
    await trio.testing.wait_all_tasks_blocked()
    assert heard == ["taken", "on its way to the disk"]


async def test_an_outcome_that_the_disk_does_not_take_is_kept_and_its_target_is_not_told_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def fails(*_: object) -> None:
        tries.append(trio.current_time())
        raise OSError("input/output error")

    world.messages.submit(BRIAN)
    with monkeypatch.context() as broken:
        broken.setattr(world.messages, "settle", fails)
        world.start()
        await trio.sleep(3600)
    assert tries[:5] == [0, 1, 3, 7, 15]
    assert max(b - a for a, b in pairwise(tries)) <= 60, "an hour later too it tries each minute"
    assert world.told() is Told.unprocessed, "no outcome is believed that was not committed"
    await trio.sleep(61)
    assert world.told() is Told.notifying
    assert world.times() == [0]


async def test_a_key_that_cannot_be_sent_keeps_no_other_and_is_tried_each_minute(
    autojump_clock: MockClock, world: World
) -> None:
    """A bug in what one key leads to."""

    def fails(sent: Sent) -> Outcome:
        raise KeyError("a bug")

    world.notifier.answers[str(BOB)] = fails
    world.start()
    world.messages.submit(BOB)
    await trio.sleep(100)
    world.messages.submit(BRIAN)
    await trio.sleep(3600)
    assert world.times() == [100]
    assert 50 < len(world.times(BOB)) < 80
    assert world.sending.setback.last == "KeyError: 'a bug'"


# -- redirects


async def test_a_redirect_is_followed_with_new_keys_the_token_and_the_original(
    autojump_clock: MockClock, world: World
) -> None:
    world.notifier.answers[str(BRIAN)] = redirect_to("bob@isp.example", "anna@isp.example", token=b"t")
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(10)
    assert sorted(world.sent_to()) == ["anna@isp.example", "bob@isp.example", "brian@pobox.example"]
    children = [sent.notification for sent in world.notifier.sent[1:]]
    assert {child.original for child in children} == {BRIAN}
    assert {child.token for child in children} == {b"t"}
    assert len({sent.notification.identifier for sent in world.notifier.sent}) == 3
    assert world.messages.keys[1].state.life is Life.handed_on
    await trio.sleep(2 * DAY)
    assert world.sent_to().count(str(BRIAN)) == 1, "the handed-on key is never notified again"


def to_itself(sent: Sent) -> Outcome:
    return Outcome(16, (Redirect(BRIAN),)) if sent.redirect else Outcome(0)


def too_many(sent: Sent) -> Outcome:
    many = tuple(Redirect(Mailbox(f"m{n}", "isp.example")) for n in range(11))
    return Outcome(16, many) if sent.redirect else Outcome(0)


def to_a_literal(sent: Sent) -> Outcome:
    return Outcome(16, (Redirect(BOB, rna=ServiceLocation(None, ())),)) if sent.redirect else Outcome(0)


def to_nobody(sent: Sent) -> Outcome:
    return Outcome(16) if sent.redirect else Outcome(0)


@pytest.mark.parametrize("answers", [to_itself, too_many, to_a_literal, to_nobody])
async def test_what_may_not_be_followed_is_repeated_at_once_without_the_offer(
    autojump_clock: MockClock, world: World, answers: Callable[[Sent], Outcome]
) -> None:
    world.notifier.answers[str(BRIAN)] = answers
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert [(sent.to, sent.redirect) for sent in world.notifier.sent] == [(str(BRIAN), True), (str(BRIAN), False)]
    assert world.messages.keys[1].state.told is Told.notifying


async def test_a_chain_ends_at_depth_5(autojump_clock: MockClock, world: World) -> None:
    def next_one(n: int) -> Answers:
        return lambda sent: Outcome(16, (Redirect(Mailbox(f"m{n + 1}", "x.example")),)) if sent.redirect else Outcome(0)

    for n in range(20):
        world.notifier.answers[f"m{n}@x.example"] = next_one(n)
    world.start()
    world.messages.submit(Mailbox("m0", "x.example"))
    await trio.sleep(10)
    assert world.sent_to() == [f"m{n}@x.example" for n in range(6)] + ["m5@x.example"]


# -- redirects that are remembered


def proven(*to: str, **more: Any) -> Answers:
    """From an agent that proved its name over TLS."""
    return lambda sent: Proven._make(redirect_to(*to, **more)(sent))  # type: ignore[arg-type]


async def twice(world: World, answers: Answers, *, apart: float = 10, **more: Any) -> list[str]:
    """Two messages to brian; whom the second one's notifications went to."""
    world.notifier.answers[str(BRIAN)] = answers
    world.start(**more)
    world.messages.submit(BRIAN)
    await trio.sleep(apart)
    before = len(world.notifier.sent)
    world.messages.submit(BRIAN)
    await trio.sleep(5)
    return [to for to in world.sent_to()[before:] if to != str(BOB) or apart < DAY]


async def test_a_permanent_redirect_over_tls_is_remembered_for_its_ttl(autojump_clock: MockClock, world: World) -> None:
    answers = proven(str(BOB), kind=0, ttl=3600, token=b"t")
    assert await twice(world, answers) == [str(BOB)], "brian's agent is not asked again"
    child = world.notifier.sent[-1].notification
    assert (child.original, child.token) == (BRIAN, b"t")
    await trio.sleep(3600)
    world.messages.submit(BRIAN)
    await trio.sleep(5)
    assert world.sent_to()[-2:] == [str(BRIAN), str(BOB)]


@pytest.mark.parametrize(
    "answers",
    [
        redirect_to(str(BOB), kind=0, ttl=3600),
        proven(str(BOB), kind=1, ttl=3600),
        proven(str(BOB), kind=0),
        lambda sent: Proven(
            16, (Redirect(BOB, kind=0, ttl=9), Redirect(Mailbox("anna", "isp.example"), kind=1, ttl=9))
        ),
    ],
    ids=["in clear", "for this message", "without a ttl", "one of two"],
)
async def test_no_other_redirect_is_remembered(autojump_clock: MockClock, world: World, answers: Answers) -> None:
    assert str(BRIAN) in await twice(world, answers)
    assert len(world.sending.redirects) == 0


async def test_a_week_is_the_most(autojump_clock: MockClock, world: World) -> None:
    assert str(BRIAN) in await twice(world, proven(str(BOB), kind=0, ttl=400 * DAY), apart=7 * DAY + 10)


async def test_a_target_that_refuses_revokes_it(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BOB)] = lambda sent: Outcome(49)
    assert await twice(world, proven(str(BOB), kind=0, ttl=3600)) == [str(BRIAN), str(BOB)]


async def test_all_can_be_forgotten(autojump_clock: MockClock, world: World) -> None:
    await twice(world, proven(str(BOB), kind=0, ttl=3600))
    assert len(world.sending.redirects) == 1
    world.sending.redirects.clear()
    world.messages.submit(BRIAN)
    await trio.sleep(5)
    assert world.sent_to()[-2:] == [str(BRIAN), str(BOB)]


async def test_one_for_a_mailbox_is_none_for_its_domain(autojump_clock: MockClock, world: World) -> None:
    await twice(world, proven(str(BOB), kind=0, ttl=3600))
    world.messages.submit(Mailbox("anna", BRIAN.domain))
    await trio.sleep(5)
    assert world.sent_to()[-1] == "anna@pobox.example"


async def test_what_is_remembered_keeps_the_limits_of_a_family(autojump_clock: MockClock, world: World) -> None:
    """A remembered ring is not followed: the agent is asked, and then without the offer."""
    world.notifier.answers[str(BOB)] = lambda sent: (
        Proven(16, (Redirect(BRIAN, kind=0, ttl=3600),)) if sent.redirect else Outcome(0)
    )
    sent = await twice(world, proven(str(BOB), kind=0, ttl=3600))
    assert sent == [str(BOB), str(BOB)]
    assert not world.notifier.sent[-1].redirect


async def test_where_tls_is_required_no_other_redirect_is_followed(autojump_clock: MockClock, world: World) -> None:
    def answers(sent: Sent) -> Outcome:
        return Outcome(16, (Redirect(BOB),)) if sent.redirect else Outcome(0)

    assert await twice(world, answers, redirect_require_tls=True) == [str(BRIAN), str(BRIAN)]
    assert [sent.redirect for sent in world.notifier.sent] == [True, False] * 2


async def test_where_tls_is_required_a_proven_one_is_followed(autojump_clock: MockClock, world: World) -> None:
    assert await twice(world, proven(str(BOB)), redirect_require_tls=True) == [str(BRIAN), str(BOB)]


# -- signatures


async def test_each_attempt_is_signed_with_the_key_of_its_moment(autojump_clock: MockClock, world: World) -> None:
    keys = [SigningKey("store.example", name, new_private()) for name in ("s1", "s2")]
    using = [keys[0]]
    world.start(signing=lambda store: using[0] if store == "store.example" else None)
    world.messages.submit(BRIAN)
    await trio.sleep(10)
    using[0] = keys[1]
    await trio.sleep(1.5 * DAY)
    first_one, second = (sent.notification for sent in world.notifier.sent)
    assert first_one.signature and second.signature and second.signature.at >= first_one.signature.at + DAY
    assert [n.signature and n.signature.selector for n in (first_one, second)] == ["s1", "s2"]
    for notification, key in ((first_one, keys[0]), (second, keys[1])):
        assert judge(notification, [key_record(key.private)]) == "good"
        assert notification.expires and notification.digest


async def test_without_a_key_nothing_is_signed(autojump_clock: MockClock, world: World) -> None:
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(10)
    assert world.notifier.sent[0].notification.signature is None


async def test_the_child_of_a_redirect_is_signed_for_whom_it_was_first(autojump_clock: MockClock, world: World) -> None:
    key = SigningKey("store.example", "s1", new_private())
    world.notifier.answers[str(BRIAN)] = redirect_to(str(BOB), token=b"t")
    world.start(signing=lambda store: key)
    world.messages.submit(BRIAN)
    await trio.sleep(10)
    child = world.notifier.sent[-1].notification
    assert (child.recipient, child.original) == (BOB, BRIAN)
    assert judge(child, [key_record(key.private)]) == "good"


async def test_where_redirects_are_off_they_are_not_offered(autojump_clock: MockClock, world: World) -> None:
    world.start(redirects=False)
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert [sent.redirect for sent in world.notifier.sent] == [False]


async def test_a_redirect_in_spite_of_no_offer_ends_it(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = redirect_to(str(BRIAN))
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(10 * DAY)
    assert len(world.times()) == 2
    assert world.messages.keys[1].state.lastcode == 16


async def test_what_is_kept_there_with_copies_elsewhere_is_sent_to_both_once(
    autojump_clock: MockClock, world: World
) -> None:
    world.notifier.answers[str(BRIAN)] = lambda sent: Outcome(3, (Redirect(BOB, kind=2), Redirect(BRIAN, kind=0)))
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1.5 * DAY)
    assert sorted(world.sent_to()) == [str(BOB)] * 2 + [str(BRIAN)] * 2, "each with its daily repeat"
    assert len(world.messages.keys) == 2
    assert world.messages.keys[1].state.life is Life.live


async def test_copies_elsewhere_of_what_is_kept_there_are_told_at_once(autojump_clock: MockClock, world: World) -> None:
    world.notifier.answers[str(BRIAN)] = lambda sent: Outcome(3, (Redirect(BOB, kind=2), Redirect(BRIAN, kind=0)))
    world.start()
    await trio.sleep(1)
    world.messages.submit(BRIAN)
    await trio.sleep(3600)
    assert world.times(BOB) == [1]


async def test_who_comes_when_all_places_are_taken_by_the_very_last_that_was_due_is_told_once_one_is_free(
    autojump_clock: MockClock, world: World
) -> None:
    """The last one was found by a look before it was handed over, and nobody else waited for a place."""
    world.messages.hands_over = True
    slow_disk(world, before=1)
    world.start()
    for n in range(AT_ONCE):
        world.notifier.slow[f"d{n}.example"] = 100
    await trio.sleep(2)
    for n in range(2, AT_ONCE):
        world.messages.submit(Mailbox("x", f"d{n}.example"))
    await trio.sleep(1)
    silenced = world.messages.keys[1]
    silenced.state = silenced.state._replace(told=Told.silenced, due=None)
    await trio.sleep(60)
    world.messages.submit(Mailbox("x", "d0.example"))  # a minute is over: the queue is looked at
    await trio.sleep(0.5)
    world.messages.submit(Mailbox("x", "d1.example"))
    await trio.sleep(1)
    assert len(world.notifier.sent) == AT_ONCE
    world.messages.submit(BOB)
    await trio.sleep(1000)
    assert world.times(BOB) == [103], "when the first of them has ended, and the queue was asked"


# -- users' own records


def record(to: str | None, group: int = 0, priority: int = 10, rna: str | None = None) -> UserRecord:
    mailbox = parse_mailbox(to) if to else None
    return UserRecord(mailbox, rna or (mailbox.domain if mailbox else ""), group, priority, False)


async def test_a_users_records_are_asked_first_and_each_group_gets_one_copy(
    autojump_clock: MockClock, world: World
) -> None:
    world.locator.users[str(BRIAN)] = [
        record("b@second.example", 1, 20),
        record("a@first.example", 1, 10),
        record("c@copy.example", 2, rna="rna.example"),
    ]
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert {(sent.to, sent.rna) for sent in world.notifier.sent} == {
        ("a@first.example", None),
        ("c@copy.example", "rna.example"),
    }
    assert {sent.notification.original for sent in world.notifier.sent} == {BRIAN}


async def test_in_a_group_the_next_is_taken_where_the_first_has_no_agent(
    autojump_clock: MockClock, world: World
) -> None:
    world.locator.users[str(BRIAN)] = [record("a@first.example", 1, 10), record("b@second.example", 1, 20)]
    world.locator.without_agent.add("first.example")
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert world.sent_to() == ["b@second.example"]


async def test_a_record_for_oneself_only_names_the_agent(autojump_clock: MockClock, world: World) -> None:
    world.locator.users[str(BRIAN)] = [record(str(BRIAN), rna="elsewhere.example")]
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert [(sent.to, sent.rna) for sent in world.notifier.sent] == [(str(BRIAN), "elsewhere.example")]


async def test_records_in_a_ring_fall_back_on_the_domains_agent(autojump_clock: MockClock, world: World) -> None:
    world.locator.users[str(BRIAN)] = [record(str(BOB))]
    world.locator.users[str(BOB)] = [record(str(BRIAN))]
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert world.sent_to() == [str(BOB)]


async def test_a_record_that_refuses_mail_ends_it(autojump_clock: MockClock, world: World) -> None:
    world.locator.users[str(BRIAN)] = [record(None)]
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(DAY)
    assert world.notifier.sent == []
    assert world.messages.keys[1].state.told is Told.protocolerror


async def test_what_was_told_while_the_disk_was_asked_what_is_due_is_not_told_again(
    autojump_clock: MockClock, world: World
) -> None:
    world.notifier.slow["pobox.example"] = 0.5
    slow_disk(world, after=1)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(0.1)
    world.messages.submit(BOB)
    await trio.sleep(3600)
    assert world.sent_to() == [str(BRIAN), str(BOB)]


async def test_an_agents_places_that_become_free_while_the_disk_is_asked_are_taken_by_who_waits_for_them(
    autojump_clock: MockClock, world: World
) -> None:
    world.notifier.slow["pobox.example"] = 0.5
    slow_disk(world, after=1)
    for _ in range(PER_AGENT):
        world.messages.submit(BRIAN)
    world.start()
    await trio.sleep(0.1)
    world.messages.submit(BRIAN)  # asked for while all places are taken; all are free before the answer
    await trio.sleep(60)
    assert len(world.times()) == PER_AGENT + 1


async def test_what_is_handed_over_is_told_without_a_look_and_the_queue_is_looked_at_once_a_minute(
    autojump_clock: MockClock, world: World
) -> None:
    world.messages.hands_over = True
    world.start()
    await trio.sleep(1)
    looks = world.messages.asked
    for _ in range(150):
        world.messages.submit(BRIAN)
        await trio.sleep(1)
    assert world.times() == list(range(1, 151))
    assert world.messages.asked == looks + 2


async def test_what_was_found_before_it_is_handed_over_is_told_once(autojump_clock: MockClock, world: World) -> None:
    world.messages.hands_over = True
    slow_disk(world, before=1)
    world.start()
    await trio.sleep(0.5)
    world.messages.submit(BRIAN)
    await trio.sleep(3600)
    assert world.times() == [1]


async def test_what_falls_due_while_much_is_handed_over_is_told_in_its_time(
    autojump_clock: MockClock, world: World
) -> None:
    world.messages.hands_over = True
    world.notifier.answers[str(BOB)] = first(PeerError("not now"))
    world.start()
    world.messages.submit(BOB)
    await trio.sleep(299.5)
    for _ in range(400):
        world.messages.submit(BRIAN)
        await trio.sleep(0.005)
    assert world.times(BOB) == [0, 300]
