"""What may become of a key (protocol 4): the table against the text, and against a naive model."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Mailbox, parse_mailbox
from forwarder.store.machine import DAY, Delivery, Event, Life, Read, State, Told, fold, may_hand_on, step

NOW = 1_800_000_000
HOUR = 3600


def after(*events: Event, state: State | None = None) -> State:
    state = state or State(due=NOW)
    for event in events:
        moved = step(state, event, NOW)
        assert moved is not None
        state = moved
    return state


def test_what_was_taken_is_repeated_after_24_hours_and_no_sooner() -> None:
    for jitter in (0.0, 0.5, 1.0):
        state = step(State(due=NOW), Event.taken, NOW, jitter=jitter)
        assert state is not None and state.told is Told.notifying
        assert state.due is not None and NOW + DAY <= state.due <= NOW + DAY + DAY // 10


def test_a_promise_puts_the_repeat_off_and_never_brings_it_nearer() -> None:
    due = [step(State(), Event.taken, NOW, wait=wait) for wait in (60, 3 * DAY, 400 * DAY)]
    assert [state and state.due for state in due] == [NOW + DAY, NOW + 3 * DAY, NOW + 7 * DAY]


def test_failures_wait_5_minutes_doubling_to_24_hours() -> None:
    state, waits = State(due=NOW), []
    for _ in range(11):
        moved = step(state, Event.noserver, NOW)
        assert moved is not None and moved.due is not None and moved.told is Told.noserver
        waits.append(moved.due - NOW)
        state = moved
    assert waits == [300 * 2**n for n in range(9)] + [DAY, DAY]


def test_a_success_forgets_the_failures() -> None:
    assert after(Event.noserver, Event.noserver, Event.taken, Event.noserver).due == NOW + 300


def test_nxdomain_is_asked_once_a_day() -> None:
    assert after(Event.baddomain).due == NOW + DAY


@pytest.mark.parametrize(("asked", "waits"), [(None, DAY), (10, 300), (HOUR, HOUR), (2**63, 7 * DAY)])
def test_temporary_waits_as_asked_but_5_minutes_at_least(asked: int | None, waits: int) -> None:
    state = step(State(due=NOW), Event.temporary, NOW, wait=asked, code=32)
    assert state == State(Told.unprocessed, due=NOW + waits, failures=1, lastcode=32)


def test_a_peer_that_always_asks_for_5_minutes_is_not_asked_for_ever_so_often() -> None:
    state = State(due=NOW)
    for _ in range(12):
        moved = step(state, Event.temporary, NOW, wait=300)
        assert moved is not None
        state = moved
    assert state.due == NOW + DAY


@pytest.mark.parametrize(("event", "told"), [(Event.nouser, Told.nouser), (Event.refused, Told.protocolerror)])
def test_a_permanent_no_ends_the_sending_and_leaves_the_key_open(event: Event, told: Told) -> None:
    state = step(State(due=NOW), event, NOW, code=49)
    assert state == State(told, due=None, lastcode=49)


def test_silence_ends_the_sending_and_keeps_the_pin() -> None:
    state = after(Event.taken, Event.silence)
    assert (state.told, state.due, state.life) == (Told.silenced, None, Life.live)
    assert step(state, Event.taken, NOW) is None, "an answer that comes late tells nobody any more"


def test_a_redirect_not_followed_is_repeated_at_once_without_the_offer() -> None:
    state = after(Event.unfollowed)
    assert (state.due, state.follow) == (NOW, False)


@pytest.mark.parametrize("end", [Event.unpin, Event.cancel, Event.lifetime_end, Event.handed_on])
@pytest.mark.parametrize("event", list(Event))
def test_a_dead_key_takes_no_event(end: Event, event: Event) -> None:
    assert step(after(end), event, NOW) is None


# -- against a naive model: two dozen lines that say the same in another way


@dataclass
class Naive:
    told: str = "unprocessed"
    alive: bool = True
    notify: bool = True
    read: int = 0

    def meets(self, event: str, view: int) -> bool:
        sending = event not in ("silence", "retrieve", "unpin", "cancel", "lifetime_end")
        if not self.alive or (sending and self.told == "silenced"):
            return False
        names = {
            "taken": "notifying",
            "handed_on": "notifying",
            "refused": "protocolerror",
            "badanswer": "protocolerror",
        }
        names |= {"silence": "silenced", "unpin": "silenced"}
        names |= {name: name for name in ("baddomain", "noservice", "noserver", "nouser")}
        self.told = names.get(event, self.told)
        if event in ("handed_on", "unpin", "cancel", "lifetime_end"):
            self.alive = False
        if event in ("handed_on", "nouser", "refused", "silence", "unpin", "cancel", "lifetime_end"):
            self.notify = False
        elif event != "retrieve":
            self.notify = True
        if event == "retrieve" and view > self.read:
            self.read = view
        return True


@given(st.lists(st.tuples(st.sampled_from(Event), st.sampled_from(Read), st.integers(0, 40 * DAY), st.floats(0, 1))))
def test_any_history_goes_as_a_naive_model_says(history: list[tuple[Event, Read, int, float]]) -> None:
    state, naive, now = State(due=NOW), Naive(), NOW
    for event, view, wait, jitter in history:
        now += 60
        read = view if event is Event.retrieve else Read.unread
        moved = step(state, event, now, wait=wait, jitter=jitter, read=read)
        assert (moved is not None) == naive.meets(event.value, read)
        before, state = state, moved or state
        assert (state.told.name, state.life is Life.live, state.read) == (naive.told, naive.alive, naive.read)
        if moved and state.due != before.due:
            assert (state.due is not None) == naive.notify
            assert state.due is None or event is Event.unfollowed or state.due >= now + 300
            assert state.due is None or event is not Event.taken or state.due >= now + DAY


# -- families


BOB, FREDA, ANNA = (parse_mailbox(f"{name}@isp.example") for name in ("bob", "freda", "anna"))


def test_a_handle_without_children_shows_itself() -> None:
    state = State(Told.nouser, Life.live, Read.readall, None, 0, 48)
    assert fold(state, []) == Delivery(Told.nouser, Read.readall, True, (), 48)


def test_a_handle_shows_the_best_of_its_children() -> None:
    handle = after(Event.handed_on)
    children = [
        (BOB, State(Told.noserver, Life.live, Read.unread, NOW)),
        (FREDA, State(Told.silenced, Life.unpinned, Read.readheaders)),
    ]
    assert fold(handle, children) == Delivery(Told.silenced, Read.readheaders, True, (BOB, FREDA))


def test_an_originator_of_2004_sees_notifying_where_children_wait() -> None:
    assert fold(after(Event.handed_on), [(BOB, State(due=NOW))]).told is Told.notifying


def test_a_child_that_was_handed_on_itself_is_shown_by_its_own() -> None:
    handle = after(Event.handed_on)
    assert fold(handle, [(BOB, handle), (ANNA, State(due=NOW))]).redirectedto == (ANNA,)


def test_the_last_code_shows_once_every_child_has_ended_for_good() -> None:
    ended = State(Told.nouser, lastcode=48)
    assert fold(after(Event.handed_on), [(BOB, ended), (ANNA, State(due=NOW))]).lastcode is None
    assert fold(after(Event.handed_on), [(BOB, ended), (ANNA, ended._replace(lastcode=49))]).lastcode == 49


def test_a_handle_that_lives_on_beside_copies_counts_with_them() -> None:
    handle = State(Told.notifying, Life.live, Read.readall, NOW)
    unpinned = State(Told.silenced, Life.unpinned)
    assert fold(handle, [(BOB, unpinned)]) == Delivery(Told.silenced, Read.readall, True, (BOB,))


@pytest.mark.parametrize(
    ("targets", "family", "depth", "allowed"),
    [
        ([BOB], [ANNA], 0, True),
        ([BOB], [ANNA], 4, True),
        ([BOB], [ANNA], 5, False),
        ([], [ANNA], 0, False),
        ([Mailbox("BOB", "isp.example")], [ANNA, BOB], 1, False),
        ([BOB, BOB], [ANNA], 0, False),
        ([Mailbox(f"m{n}", "isp.example") for n in range(10)], [ANNA], 0, True),
        ([Mailbox(f"m{n}", "isp.example") for n in range(11)], [ANNA], 0, False),
        ([BOB], [Mailbox(f"m{n}", "isp.example") for n in range(49)], 0, True),
        ([BOB], [Mailbox(f"m{n}", "isp.example") for n in range(50)], 0, False),
    ],
)
def test_handing_on_ends_at_depth_5_at_10_targets_at_50_in_all_and_in_rings(
    targets: list[Mailbox], family: list[Mailbox], depth: int, allowed: bool
) -> None:
    assert may_hand_on(targets, {mailbox.folded for mailbox in family}, depth) is allowed
