"""What a reader relies on: nothing lost, nobody else's item closed, lost answers made good, old peers served."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.plugin import PeerError
from forwarder.ports import Gone
from forwarder.reader.calls import Refused
from forwarder.reader.desk import Desk
from forwarder.reader.stores import TooLarge, WrongDigest
from forwarder.wire.msrap import QuerySize, Retrieve, Silence, UnPin
from forwarder.wire.rnaqp import Clear, Peek, RetrieveAndClear

BODY = b"From: toby@store.example\r\nSubject: hello\r\n\r\nhello\r\n"


async def numbers(desk: Desk) -> list[int]:
    return [item.number for item in (await desk.refresh()).waiting]


async def body_of(desk: Desk, number: int, limit: int = 1 << 20) -> bytes:
    item, octets = desk.notebook.item(number), bytearray()
    assert item is not None
    await desk.fetch(item, octets.extend, limit)
    return bytes(octets)


async def finish(desk: Desk, number: int) -> tuple[bool, list[str]]:
    item = desk.notebook.item(number)
    assert item is not None
    return await desk.done(item)


async def test_items_are_listed_in_order_and_silenced_once_saved(desk: Desk, world: Any) -> None:
    keys = [world.put(b"%d" % n).identifier for n in range(5)]
    assert await numbers(desk) == [1, 2, 3, 4, 5]
    assert sorted(world.silenced) == sorted(keys)
    await desk.refresh()
    assert len(world.silenced) == 5, "a silence that was answered is not repeated"


async def test_a_shared_key_is_never_silenced(desk: Desk, world: Any) -> None:
    world.put(BODY, shared=True)
    assert await numbers(desk) == [1]
    assert world.silenced == []


async def test_done_unpins_at_the_store_then_clears_at_the_agent(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    assert await finish(desk, 1) == (True, [])
    assert [type(command) for command in world.heard if isinstance(command, UnPin | Clear)] == [UnPin, Clear]
    assert (world.bodies, world.waiting) == ({}, {})
    assert await numbers(desk) == []


async def test_numbers_stay_and_are_never_given_again(desk: Desk, world: Any) -> None:
    for n in range(3):
        world.put(b"%d" % n)
    await desk.refresh()
    await finish(desk, 3)
    assert await numbers(desk) == [1, 2]
    world.put(b"new")
    assert await numbers(desk) == [1, 2, 4]


async def test_a_lost_answer_to_unpin_is_asked_again_and_counts_as_closed(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.lose = [UnPin]
    assert await finish(desk, 1) == (False, [])
    assert world.count(UnPin) == 2
    assert await numbers(desk) == []


async def test_an_agent_that_is_down_is_told_at_the_next_refresh(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.lose = [Clear]
    world.waiting_before = dict(world.waiting)
    unpinned, faults = await finish(desk, 1)
    assert unpinned
    assert faults == ["brian at 127.0.0.1:7103: the session ended before the answer"]
    world.waiting = world.waiting_before
    assert await numbers(desk) == [], "un-pinned means off the list, whatever the agent still shows"
    assert world.waiting == {}


async def test_a_store_that_cannot_be_reached_changes_nothing(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.down = True
    with pytest.raises(PeerError):
        await finish(desk, 1)
    assert desk.notebook.item(1) is not None


async def test_an_agent_of_2004_is_polled_its_own_way_and_remembered(desk: Desk, world: Any) -> None:
    world.legacy = True
    world.put(BODY)
    assert await numbers(desk) == [1]
    assert (world.count(Peek), world.count(RetrieveAndClear)) == (1, 1)
    assert await numbers(desk) == [1], "what it handed over it has forgotten: we have not"
    assert world.count(Peek) == 1
    world.clock += 86_401
    await desk.refresh()
    assert world.count(Peek) == 2, "after 24 h it is tried again"
    assert await finish(desk, 1) == (True, [])


async def test_a_lost_answer_to_peek_is_asked_again(desk: Desk, world: Any) -> None:
    world.put(BODY)
    world.lose = [Peek]
    assert await numbers(desk) == [1]


async def test_a_wrong_password_is_told_and_the_rest_still_polled(desk: Desk, world: Any, person: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    (person.file.parent / "password").write_text("wrong\n")
    found = await desk.refresh()
    assert [item.number for item in found.waiting] == [1]
    assert ["not logged in" in fault for fault in found.faults] == [True]


async def test_what_a_colleague_dealt_with_leaves_the_list(desk: Desk, world: Any) -> None:
    key = world.put(BODY, shared=True).identifier
    await desk.refresh()
    world.waiting.clear()
    del world.bodies[key]
    found = await desk.refresh()
    assert (found.waiting, [item.number for item in found.dead]) == ([], [1])


async def test_what_an_agent_forgot_but_the_store_has_stays(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.waiting.clear()
    assert await numbers(desk) == [1]
    assert world.count(QuerySize) == 1
    world.legacy = True
    assert await numbers(desk) == [1]


async def test_fetch_takes_a_message_in_slices_and_checks_its_digest(desk: Desk, world: Any) -> None:
    world.put(BODY)
    world.short = 7
    await desk.refresh()
    assert await body_of(desk, 1) == BODY
    assert world.count(Retrieve) == -(-len(BODY) // 7)


async def test_fetch_goes_on_where_a_session_broke(desk: Desk, world: Any) -> None:
    world.put(BODY)
    world.short = 20
    await desk.refresh()
    world.lose = [Retrieve]
    assert await body_of(desk, 1) == BODY


async def test_another_message_than_announced_is_an_error(desk: Desk, world: Any) -> None:
    key = world.put(BODY).identifier
    await desk.refresh()
    world.bodies[key] = BODY.replace(b"hello", b"HELLO")
    with pytest.raises(WrongDigest):
        await body_of(desk, 1)
    assert desk.notebook.item(1) is not None


async def test_a_message_that_never_ends_is_cut_off(desk: Desk, world: Any) -> None:
    key = world.put(BODY).identifier
    await desk.refresh()
    world.bodies[key] = b"x" * 5000
    with pytest.raises(TooLarge):
        await body_of(desk, 1, limit=4000)
    with pytest.raises(WrongDigest):
        await body_of(desk, 1, limit=5000)


async def test_a_store_that_says_no_sizes_is_read_to_its_end_and_no_further(desk: Desk, world: Any) -> None:
    world.sizes, world.short = False, 10
    world.put(BODY)
    await desk.refresh()
    assert await body_of(desk, 1) == BODY
    with pytest.raises(TooLarge):
        await body_of(desk, 1, limit=len(BODY) - 1)


async def test_what_is_gone_at_its_store_leaves_the_list_and_its_agent(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.bodies.clear()
    with pytest.raises(Gone):
        await body_of(desk, 1)
    assert (desk.notebook.items(), world.waiting) == ([], {})


async def test_a_silence_that_finds_the_message_gone_drops_it(desk: Desk, world: Any) -> None:
    world.put(BODY)
    world.bodies.clear()
    found = await desk.refresh()
    assert [item.number for item in found.dead] == [1]
    assert world.count(Silence) == 1


async def test_lists_are_merged_and_their_items_read_and_unpinned_there(desk: Desk, world: Any) -> None:
    world.bodies[b"k" * 16] = BODY
    world.listed = [b"k" * 16]
    assert await numbers(desk) == [1]
    assert await numbers(desk) == [1], "listed again, held once"
    assert await body_of(desk, 1) == BODY
    assert await finish(desk, 1) == (True, [])
    assert await numbers(desk) == [], "still listed for a second, but closed"


async def test_a_submission_whose_answer_was_lost_is_repeated_once(desk: Desk, world: Any) -> None:
    from forwarder.model import parse_mailbox
    from forwarder.wire.msoap import SubmitEnvelope, SubmitMsgChunk

    world.lose = [SubmitMsgChunk]
    to = (parse_mailbox("brian@pobox.example"), parse_mailbox("nobody@pobox.example"))
    body = bytes(range(256)) * 5000
    submitted = await desk.originator().submit(to, body, 3600)
    assert [mailbox for _, mailbox in submitted.keys] == [to[0]]
    assert submitted.denied == (to[1],)
    assert world.count(SubmitEnvelope) == 2
    assert world.bodies[b"draft"] == body


async def test_an_answer_to_another_question_is_refused(desk: Desk, world: Any) -> None:
    world.put(BODY)
    await desk.refresh()
    world.msrap = lambda command: world.rnaqp(Clear(()))
    with pytest.raises(Refused):
        await finish(desk, 1)
