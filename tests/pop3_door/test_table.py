"""The table of the POP3 door (docs/bridges.md 8), cell by cell, by a client that says lines over a pair of streams."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
import trio
import trio.testing

from forwarder.plugin import PeerError
from forwarder.testing import make_item
from forwarder_pop3_door.checks import KEPT

from .house import BUN, TEA, Mailbag, Room

TEMP = "-ERR [SYS/TEMP] "


# -- login


async def test_a_login_shows_what_is_alive(nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag(TEA, BUN)).enter()
    assert await talk.ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"
    assert await talk.many("LIST") == [f"1 {len(TEA)}", f"2 {len(BUN)}"]
    assert await talk.ask("LIST 2") == f"+OK 2 {len(BUN)}"


async def test_an_empty_mailbox(nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag()).enter()
    assert await talk.ask("STAT") == "+OK 0 0"
    assert await talk.many("LIST") == []
    assert await talk.many("UIDL") == []
    assert await talk.ask("QUIT") == "+OK bye"


async def test_a_wrong_password_gets_the_code_of_rfc_3206(nursery: trio.Nursery) -> None:
    room = Room(nursery, Mailbag())
    talk = await room.come()
    await talk.ask("USER brian")
    assert await talk.ask("PASS wrong") == "-ERR [AUTH] wrong name or password"
    await talk.ask("USER brian")
    assert await talk.ask("PASS right") == "+OK 0 messages"


async def test_a_login_that_is_not_possible_now_is_temporary(nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag()).come()
    await talk.ask("USER brian")
    assert (await talk.ask("PASS busy")).startswith(TEMP)


async def test_the_user_goes_on_as_typed(nursery: trio.Nursery) -> None:
    room = Room(nursery, Mailbag())
    talk = await room.come()
    token = b64encode(b"\0brian/sales@pobox.example\0right").decode()
    assert (await talk.ask(f"AUTH PLAIN {token}")).startswith("+OK")
    assert room.events("login")[0]["account"] == "brian/sales@pobox.example"


async def test_what_is_gone_at_login_is_removed_for_all(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    gone = bag.lose(1)
    talk = await Room(nursery, bag).enter()
    assert await talk.many("LIST") == [f"1 {len(BUN)}"]
    assert bag.done == [([], [gone])]


async def test_that_it_cannot_be_removed_harms_no_login(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    bag.lose(1)
    bag.commit = OSError("disk full")
    talk = await Room(nursery, bag).enter()
    assert await talk.ask("STAT") == f"+OK 1 {len(BUN)}"


async def test_what_gives_no_answer_is_hidden_in_this_session(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    bag.put(TEA, "dead.example")
    bag.down = {"dead.example"}
    talk = await Room(nursery, bag).enter()
    assert await talk.ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"
    assert bag.done == []


async def test_a_silent_store_costs_a_login_no_more_than_check_wait(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(TEA)
    bag.put(BUN, "dead.example")
    bag.silent = {"dead.example"}
    room = Room(nursery, bag, check_wait=5)
    started = trio.current_time()
    talk = await room.enter()
    assert trio.current_time() - started == pytest.approx(5)
    assert await talk.ask("STAT") == f"+OK 1 {len(TEA)}"


async def test_what_answers_later_is_shown_in_the_next_session(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag()
    bag.put(BUN, "slow.example")
    bag.silent = {"slow.example"}
    room = Room(nursery, bag)
    talk = await room.enter()
    assert await talk.ask("STAT") == "+OK 0 0"
    bag.silent.clear()
    assert await (await room.enter()).ask("STAT") == "+OK 0 0"  # the question is still under way
    await trio.sleep(60)
    assert await (await room.enter()).ask("STAT") == f"+OK 1 {len(BUN)}"
    assert await talk.ask("STAT") == "+OK 0 0", "a session sees its snapshot"


async def test_a_snapshot_does_not_grow(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    room = Room(nursery, bag)
    talk = await room.enter()
    bag.put(BUN)
    assert await talk.ask("STAT") == f"+OK 1 {len(TEA)}"
    assert await (await room.enter()).ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"


# -- UIDL


async def test_the_names_are_hashes_that_tell_no_key(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    talk = await Room(nursery, bag).enter()
    expected = [
        hashlib.sha256(
            b"im2000-uidl-1" + b"\0store.example\0" + item.notification.identifier + b"\0brian@pobox.example"
        ).hexdigest()[:24]
        for item in bag.items
    ]
    assert await talk.many("UIDL") == [f"1 {expected[0]}", f"2 {expected[1]}"]
    assert await talk.ask("UIDL 2") == f"+OK 2 {expected[1]}"


async def test_a_name_is_the_same_whatever_stands_before_it(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    room = Room(nursery, bag)
    name = (await (await room.enter()).ask("UIDL 2")).split()[2]
    bag.items.pop(0)
    assert await (await room.enter()).ask("UIDL 1") == f"+OK 1 {name}"


# -- RETR


async def test_retr_gives_the_octets(nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag(TEA)).enter()
    assert await talk.ask("RETR 1") == f"+OK {len(TEA)} octets"
    assert "\r\n".join([*await talk.lines(), ""]).encode() == TEA


async def test_retr_of_what_is_gone_removes_it(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    room = Room(nursery, bag)
    talk = await room.enter()
    gone = bag.lose(1)
    assert await talk.ask("RETR 1") == "-ERR already handled or withdrawn"
    assert bag.done == [([], [gone])]
    assert await talk.ask("STAT") == f"+OK 1 {len(BUN)}"
    assert await talk.ask("LIST 1") == "-ERR no such message"
    assert await talk.ask("RETR 1") == "-ERR already handled or withdrawn"
    assert await (await room.enter()).ask("STAT") == f"+OK 1 {len(BUN)}"


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 0", "TOP 1 5"])
async def test_a_store_that_is_down_hides_the_message_until_a_check_succeeds(
    command: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(BUN)
    bag.put(TEA, "other.example")
    room = Room(nursery, bag)
    talk = await room.enter()
    bag.down = {"store.example"}
    assert await talk.ask(command) == f"{TEMP}its store does not give it, try again later"
    assert await talk.many("LIST") == [f"2 {len(TEA)}"]
    assert await (await room.enter()).ask("STAT") == f"+OK 1 {len(TEA)}", "it was kept for alive, and is no more"
    bag.down.clear()
    assert await (await room.enter()).ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"
    assert (await talk.ask("RETR 1")).startswith("+OK")
    await talk.lines()
    assert await talk.ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"


async def test_a_store_that_says_nothing_hides_it_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(TEA)
    talk = await Room(nursery, bag).enter()
    bag.silent = {"store.example"}
    assert (await talk.ask("RETR 1")).startswith(TEMP)
    assert (await talk.ask("TOP 1 0")).startswith(TEMP)


async def test_a_small_message_that_breaks_is_an_error_before_any_octet(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    bag.slice = 10
    bag.torn[bag.items[0].notification.identifier] = 30
    talk = await Room(nursery, bag).enter()
    assert (await talk.ask("RETR 1")).startswith(TEMP)
    assert await talk.ask("NOOP") == "+OK"


async def test_a_large_message_that_breaks_midway_ends_without_the_dot(nursery: trio.Nursery) -> None:
    bag = Mailbag(b"Subject: x\r\n\r\n" + b"abc\r\n" * 1000)
    bag.slice = 1000
    bag.torn[bag.items[0].notification.identifier] = 2500
    room = Room(nursery, bag, buffer=4096)
    talk = await room.enter()
    assert (await talk.ask("RETR 1")).startswith("+OK ")
    octets = await talk.rest()
    assert 0 < len(octets) <= 2500
    assert not octets.endswith(b"\r\n.\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert room.ends == ["CutOff"]
    assert room.bag.done == []


async def test_a_large_message_comes_in_slices_as_they_are_had(nursery: trio.Nursery) -> None:
    body = b"Subject: x\r\n\r\n" + b".abc\r\n" * 1000
    bag = Mailbag(body)
    bag.slice = 999
    talk = await Room(nursery, bag, buffer=4096).enter()
    assert await talk.ask("RETR 1") == f"+OK {len(body)} octets"
    assert "\r\n".join([*await talk.lines(), ""]).encode() == body


async def test_a_store_that_gives_more_than_it_said_is_held_by_the_buffer(nursery: trio.Nursery) -> None:
    bag = Mailbag(b"x\r\n")
    bag.slice = 1000
    talk = await Room(nursery, bag, buffer=4096).enter()
    bag.bodies[bag.items[0].notification.identifier] = b"abc\r\n" * 5000
    assert (await talk.ask("RETR 1")).startswith("+OK ")
    assert await talk.lines() == ["abc"] * 5000


async def test_a_fault_of_ours_locks_nobody_out(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    bag.faulty = {bag.items[0].notification.identifier}
    room = Room(nursery, bag)
    talk = await room.enter()
    assert (await talk.ask("RETR 1")).startswith(TEMP)
    assert "RuntimeError" in room.events("message not had")[0]["error"]
    assert (await talk.ask("RETR 2")).startswith("+OK")


@pytest.mark.parametrize("command", ["RETR 0", "RETR 3", "TOP 3 1", "LIST 3", "UIDL 0", "DELE 3"])
async def test_a_number_that_is_none(command: str, nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag(TEA, BUN)).enter()
    assert await talk.ask(command) == "-ERR no such message"


# -- TOP


async def test_top_0_asks_for_the_head_only(nursery: trio.Nursery) -> None:
    bag = Mailbag(BUN)
    talk = await Room(nursery, bag).enter()
    assert await talk.many("TOP 1 0") == ["Subject: buns", ""]
    assert bag.read == []


async def test_top_n_is_cut_after_so_many_lines(nursery: trio.Nursery) -> None:
    talk = await Room(nursery, Mailbag(BUN)).enter()
    assert await talk.many("TOP 1 2") == ["Subject: buns", "", "one", "two"]
    assert await talk.many("TOP 1 99999999") == BUN.decode().split("\r\n")[:-1]


async def test_top_n_of_a_large_message_fetches_no_more_than_it_needs(nursery: trio.Nursery) -> None:
    body = b"Subject: x\r\n\r\n" + b"abc\r\n" * 1000
    bag = Mailbag(body)
    bag.slice = 1000
    bag.torn[bag.items[0].notification.identifier] = 1000
    talk = await Room(nursery, bag, buffer=2000).enter()
    assert await talk.many("TOP 1 3") == ["Subject: x", "", "abc", "abc", "abc"]


async def test_top_of_what_is_gone(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    talk = await Room(nursery, bag).enter()
    bag.lose(1)
    assert await talk.ask("TOP 1 0") == "-ERR already handled or withdrawn"


# -- DELE, RSET


async def test_dele_changes_nothing_before_quit(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    room = Room(nursery, bag)
    talk = await room.enter()
    assert (await talk.ask("DELE 1")).startswith("+OK")
    assert await talk.ask("STAT") == f"+OK 1 {len(BUN)}"
    assert await talk.many("LIST") == [f"2 {len(BUN)}"]
    for command in ("RETR 1", "TOP 1 0", "LIST 1", "UIDL 1", "DELE 1"):
        assert await talk.ask(command) == "-ERR no such message"
    await talk.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert bag.done == []
    assert await (await room.enter()).ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"


async def test_dele_of_what_is_gone_already_is_what_was_asked_for(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    talk = await Room(nursery, bag).enter()
    gone = bag.lose(1)
    assert (await talk.ask("DELE 1")).startswith("+OK")
    assert await talk.ask("QUIT") == "+OK bye"
    assert bag.done == [([gone], [])], "the un-pin finds that out"


async def test_dele_of_what_retr_found_gone(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    talk = await Room(nursery, bag).enter()
    gone = bag.lose(1)
    await talk.ask("RETR 1")
    assert (await talk.ask("DELE 1")).startswith("+OK")
    assert await talk.ask("QUIT") == "+OK bye"
    assert bag.done == [([], [gone])], "it was cleared then"


async def test_rset_takes_back_what_was_marked_and_nothing_else(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN, BUN)
    talk = await Room(nursery, bag).enter()
    bag.lose(3)
    await talk.ask("RETR 3")
    await talk.ask("DELE 1")
    await talk.ask("DELE 3")
    assert await talk.ask("RSET") == "+OK"
    assert await talk.ask("STAT") == f"+OK 2 {len(TEA) + len(BUN)}"
    bag.done.clear()
    assert await talk.ask("QUIT") == "+OK bye"
    assert bag.done == []


# -- QUIT


async def test_quit_clears_all_in_one_commit(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN, TEA)
    room = Room(nursery, bag)
    items = list(bag.items)
    talk = await room.enter()
    await talk.ask("DELE 3")
    await talk.ask("DELE 1")
    assert await talk.ask("QUIT") == "+OK bye"
    assert bag.done == [([items[0], items[2]], [])]
    assert await talk.line() == ""
    assert room.ends == ["clean"]


@pytest.mark.parametrize("error", [OSError("disk full"), PeerError("not now")])
async def test_quit_is_an_error_only_if_nothing_was_committed(error: Exception, nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    room = Room(nursery, bag)
    talk = await room.enter()
    await talk.ask("DELE 1")
    bag.commit = error
    assert (await talk.ask("QUIT")).startswith(TEMP)
    assert await talk.line() == ""
    assert bag.done == []


async def test_quit_without_deletions_writes_nothing(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    bag.commit = OSError("disk full")
    talk = await Room(nursery, bag).enter()
    assert await talk.ask("QUIT") == "+OK bye"


async def test_several_may_read_one_role_at_once(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA, BUN)
    room = Room(nursery, bag)
    bob, freda = await room.enter("bob"), await room.enter("freda")
    await bob.ask("DELE 1")
    del bag.bodies[bag.items[0].notification.identifier]  # the courier un-pins it
    assert await bob.ask("QUIT") == "+OK bye"
    assert await freda.ask("RETR 1") == "-ERR already handled or withdrawn"
    assert (await freda.ask("RETR 2")).startswith("+OK")


async def test_what_is_done_with_is_listed_to_nobody_though_it_is_shown_again(nursery: trio.Nursery) -> None:
    """Its notification was still on its way; another account had been told that it is alive."""
    bag = Mailbag(TEA, BUN)
    room = Room(nursery, bag)
    bob, freda = await room.enter("bob"), await room.enter("freda")
    await freda.ask("QUIT")
    item = bag.items[0]
    await bob.ask("DELE 1")
    assert await bob.ask("QUIT") == "+OK bye"
    del bag.bodies[item.notification.identifier]
    bag.items.insert(0, item)
    freda = await room.enter("freda")
    assert await freda.ask("STAT") == f"+OK 1 {len(BUN)}"


# -- pipelining


async def test_commands_sent_ahead_are_answered_in_order(nursery: trio.Nursery) -> None:
    bag = Mailbag(*[BUN] * 300)
    talk = await Room(nursery, bag).enter()

    async def all_at_once() -> None:
        await talk.stream.send_all(b"".join(b"RETR %d\r\nDELE %d\r\n" % (n, n) for n in range(1, 301)) + b"QUIT\r\n")

    nursery.start_soon(all_at_once)
    for _ in range(300):
        assert (await talk.line()).startswith("+OK")
        assert len(await talk.lines()) == 5
        assert (await talk.line()).startswith("+OK")
    assert await talk.line() == "+OK bye"
    assert len(bag.done[0][0]) == 300


# -- what a login asks of the stores


async def test_answers_are_kept_ten_minutes_over_sessions(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(TEA)
    room = Room(nursery, bag)
    await room.enter()
    await room.enter()
    assert len(bag.asked) == 1
    await trio.sleep(KEPT + 1)
    await room.enter()
    assert len(bag.asked) == 2


async def test_answers_are_not_told_to_another_account(nursery: trio.Nursery) -> None:
    bag = Mailbag(TEA)
    room = Room(nursery, bag)
    await room.enter("bob")
    await room.enter("freda")
    assert len(bag.asked) == 2


async def test_twenty_stores_are_asked_at_once(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    bag = Mailbag()
    for number in range(50):
        bag.put(TEA, f"s{number}.example")
        bag.put(TEA, f"s{number}.example")
    await Room(nursery, bag).enter()
    assert bag.most_stores == 20
    assert len(bag.asked) == 100


async def test_one_dead_store_is_given_up_after_a_few_tries_and_asked_again_at_the_next_login(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(*[TEA] * 100, store="dead.example")
    bag.put(BUN, "well.example")
    bag.down = {"dead.example"}
    room = Room(nursery, bag)
    assert await (await room.enter()).ask("STAT") == f"+OK 1 {len(BUN)}"
    assert len(bag.asked) < 10
    bag.down.clear()
    assert await (await room.enter()).ask("STAT") == f"+OK 101 {len(BUN) + 100 * len(TEA)}"


async def test_dead_stores_stand_behind_the_others_at_the_next_login(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag()
    for number in range(30):
        bag.put(TEA, f"dead{number}.example")
    bag.put(BUN, "well.example")
    bag.silent = {f"dead{number}.example" for number in range(30)}
    room = Room(nursery, bag)
    await room.enter()
    await trio.sleep(KEPT - 300)
    assert await (await room.enter()).ask("STAT") == f"+OK 1 {len(BUN)}"


async def test_a_broken_message_does_not_hide_the_others_of_its_store(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bag = Mailbag(*[TEA] * 8)
    broken = {item.notification.identifier for item in bag.items[:4]}
    room = Room(nursery, bag)
    well = bag.reach

    async def reach(item: object) -> bytes:
        octets = await well(item)  # type: ignore[arg-type]
        if item.notification.identifier in broken:  # type: ignore[attr-defined]
            raise PeerError("a problem with this one")
        return octets

    bag.reach = reach  # type: ignore[method-assign]
    await room.enter()
    talk = await room.enter()
    assert await talk.ask("STAT") == f"+OK 4 {4 * len(TEA)}"


def test_the_name_of_a_message_differs_by_store_key_and_mailbox() -> None:
    from forwarder_pop3_door.maildrop import unique_name

    items = [make_item(1), make_item(2), make_item(1, "b.example"), make_item(1, mailbox="anna@pobox.example")]
    assert len({unique_name(item) for item in items}) == 4
