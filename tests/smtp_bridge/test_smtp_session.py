"""A session with the smarthost, octet by octet: what goes in one write, how replies may come, how long anyone waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair

from forwarder.model import Mailbox
from forwarder_smtp_bridge import smtp_session
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.octets import Letter
from forwarder_smtp_bridge.smtp_session import Envelope, Lost, SmtpSession

from .scripted_smarthost import DROP, HANG, PIPELINING, Script, letter, smarthost_of

BOB, EVE, FREDA = (Mailbox(name, "isp.example") for name in ("bob", "eve", "freda"))
MESSAGE = b"Subject: x\r\n\r\n.\r\nbody\r\n"
GROUP = (
    b"MAIL FROM:<ann@x.example> SIZE=5\r\n"
    b"RCPT TO:<bob@isp.example>\r\nRCPT TO:<eve@isp.example>\r\nRCPT TO:<freda@isp.example>\r\nDATA\r\n"
)
LAST = MESSAGE.replace(b"\r\n.", b"\r\n..") + b".\r\n"


class Peer:
    """The other end: it reads what is sent and says what it likes, and neither is read ahead."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def hears(self, expected: bytes) -> None:
        heard = b""
        while len(heard) < len(expected):
            heard += await self.stream.receive_some(len(expected) - len(heard))
        assert heard == expected

    async def says(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)


class Call:
    """A transaction for three recipients that begins when both ends are there."""

    def __init__(self, *offers: str) -> None:
        ours, theirs = lockstep_stream_pair()
        self.peer = Peer(theirs)
        self.session = SmtpSession(ours, "node.example")
        self.session.offers = dict.fromkeys(offers, "")
        self.fates: dict[Mailbox, Fate] = {}
        self.lost: Lost | None = None

    async def transact(self, message: Letter | None = None) -> None:
        envelope = Envelope("ann@x.example", (BOB, EVE, FREDA), ("SIZE=5",))
        try:
            await self.session.transact(envelope, message or letter(MESSAGE), self.fates)
        except Lost as lost:
            self.lost = lost


# -- pipelining (RFC 2920)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
async def test_all_commands_go_before_the_first_reply_and_replies_come_in_any_pieces(
    nursery: trio.Nursery, step: int
) -> None:
    call = Call("PIPELINING")
    nursery.start_soon(call.transact)
    await call.peer.hears(GROUP)
    said = (
        b"250 2.1.0 ok\r\n250-2.1.5 bob\r\n250 2.1.5 is here\r\n550-5.1.1 no\r\n550 5.1.1 eve\n250 ok\r\n354 go on\r\n"
    )
    await call.peer.says(*(said[at : at + step] for at in range(0, len(said), step)))
    await call.peer.hears(LAST)
    await call.peer.says(b"250 2.0.0", b" queued\r", b"\n")
    await trio.testing.wait_all_tasks_blocked()
    assert call.lost is None
    assert call.fates == {BOB: Sent("queued"), EVE: Refused(550, "5.1.1", "no eve"), FREDA: Sent("queued")}


async def test_without_an_offer_each_command_waits_for_its_reply(nursery: trio.Nursery) -> None:
    call = Call("SIZE")
    nursery.start_soon(call.transact)
    for line in GROUP.splitlines(keepends=True):
        await call.peer.hears(line)
        await trio.testing.wait_all_tasks_blocked()
        await call.peer.says(b"354 go on\r\n" if line == b"DATA\r\n" else b"250 ok\r\n")
    await call.peer.hears(LAST)
    await call.peer.says(b"250 ok\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert [type(fate) for fate in call.fates.values()] == [Sent] * 3


@pytest.mark.parametrize(
    ("replies", "fates"),
    [
        (b"550 sender\r\n503 no\r\n503 no\r\n503 no\r\n503 no\r\n", [550, 550, 550]),
        (b"451 sender\r\n503 no\r\n503 no\r\n503 no\r\n554 no\r\n", [451, 451, 451]),
        (b"250 ok\r\n550 one\r\n451 two\r\n551 three\r\n554 no valid recipients\r\n", [550, 451, 551]),
        (b"250 ok\r\n550 one\r\n250 two\r\n250 three\r\n451 busy\r\n", [550, 451, 451]),
        (b"250 ok\r\n550 one\r\n250 two\r\n250 three\r\n554 never\r\n", [550, 554, 554]),
    ],
)
async def test_what_is_refused_while_all_is_under_way(nursery: trio.Nursery, replies: bytes, fates: list[int]) -> None:
    call = Call("PIPELINING")
    nursery.start_soon(call.transact)
    await call.peer.hears(GROUP)
    await call.peer.says(replies)
    await call.peer.hears(b"RSET\r\n")
    await call.peer.says(b"250 ok\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert call.lost is None
    decided = [call.fates[mailbox] for mailbox in (BOB, EVE, FREDA)]
    assert [fate.code for fate in decided if not isinstance(fate, Sent)] == fates
    assert all(isinstance(fate, Deferred) == (code == 451) for fate, code in zip(decided, fates, strict=True))


@pytest.mark.parametrize(
    ("mail", "rcpt"), [(b"250 ok", b"550 gone"), (b"550 5.1.8 sender", b"503 no"), (b"550 5.1.8 sender", b"250 ok")]
)
@pytest.mark.parametrize("end", [b"554 5.5.1 no valid recipients", b"250 queued"])
async def test_data_for_nobody_is_ended_with_an_empty_message_that_decides_nothing(
    nursery: trio.Nursery, mail: bytes, rcpt: bytes, end: bytes
) -> None:
    call = Call("PIPELINING")
    nursery.start_soon(call.transact)
    await call.peer.hears(GROUP)
    await call.peer.says(mail + b"\r\n", *[rcpt + b"\r\n"] * 3, b"354 go on\r\n")
    await call.peer.hears(b".\r\n")
    await call.peer.says(end + b"\r\n")
    if end.startswith(b"554"):
        await call.peer.hears(b"RSET\r\n")
        await call.peer.says(b"250 ok\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert call.lost is None
    expected = Refused(550, "5.1.8", "sender") if mail.startswith(b"550") else Refused(550, "5.0.0", "gone")
    assert call.fates == dict.fromkeys((BOB, EVE, FREDA), expected)


@pytest.mark.parametrize(
    ("replies", "decided"),
    [
        (b"421 closing\r\n", {}),
        (b"250 ok\r\n550 never\r\n421 closing\r\n", {BOB: 550}),
        (b"250 ok\r\n550 never\r\n250 ok\r\n250 ok\r\n421 closing\r\n", {BOB: 550}),
        (b"550 never\r\n421 closing\r\n", {BOB: 550, EVE: 550, FREDA: 550}),
        (b"250 ok\r\n550 never\r\nhello there\r\n", {BOB: 550}),
        (b"250 ok\r\n550 never\r\n354 go on\r\n", {BOB: 550}),
    ],
)
async def test_an_end_in_the_midst_leaves_open_what_was_open(
    nursery: trio.Nursery, replies: bytes, decided: dict[Mailbox, int]
) -> None:
    call = Call("PIPELINING")
    nursery.start_soon(call.transact)
    await call.peer.hears(GROUP)
    await call.peer.says(replies)
    await trio.testing.wait_all_tasks_blocked()
    assert call.lost is not None
    assert not call.lost.doubtful
    assert call.lost.reply.code == (421 if b"421" in replies else 0)
    assert {mailbox: fate.code for mailbox, fate in call.fates.items() if isinstance(fate, Refused)} == decided
    assert len(call.fates) == len(decided)


@pytest.mark.parametrize(
    "replies",
    [
        b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 one too many\r\n354 go on\r\n",
        b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 2.0.0 queued\r\n",
        b"250 ok\r\n550 no\r\n550 no\r\n550 no\r\n554 no\r\n250 what\r\n",
    ],
)
async def test_a_reply_too_many_ends_the_session_before_the_dot(nursery: trio.Nursery, replies: bytes) -> None:
    call = Call("PIPELINING")
    nursery.start_soon(call.transact)
    await call.peer.hears(GROUP)
    await call.peer.says(replies)
    await trio.testing.wait_all_tasks_blocked()
    assert "out of turn" in str(call.lost)
    assert not any(isinstance(fate, Sent) for fate in call.fates.values())


async def test_nobody_is_left_and_the_session_is_good_still() -> None:
    """By a smarthost that says 354 whoever is there."""
    script = Script(PIPELINING)
    script.then("RCPT", b"550 5.1.1 gone")
    script.then("DATA", b"354 go on")
    script.then("dot", b"554 5.5.1 no valid recipients")
    async with smarthost_of(script) as smarthost:
        for expected in (Refused(550, "5.1.1", "gone"), Sent("queued")):
            assert await smarthost.carry("ann@x.example", [BOB], letter(MESSAGE)) == {BOB: expected}
    assert (script.sessions, script.messages) == (1, [b"", MESSAGE])


# -- pieces


async def test_the_dot_is_in_the_last_piece(nursery: trio.Nursery) -> None:
    async def three() -> AsyncGenerator[bytes, None]:
        for piece in (b"one\r\n", b"two\r\n", b"three\r\n"):
            writes.append(b"(read)")
            yield piece

    writes: list[bytes] = []
    call = Call("PIPELINING")
    nursery.start_soon(call.transact, Letter(15, eight_bit=False, changed=0, pieces=three))
    await call.peer.hears(GROUP)
    await call.peer.says(b"250 ok\r\n" * 4 + b"354 go on\r\n")
    for _ in range(3):
        writes.append(bytes(await call.peer.stream.receive_some()))
    assert writes == [b"(read)", b"(read)", b"one\r\n", b"(read)", b"two\r\n", b"three\r\n.\r\n"]


# -- how long


async def ends_after(call: Call) -> float:
    begun = trio.current_time()
    with trio.fail_after(1000):
        await call.transact()
    assert call.lost is not None
    return trio.current_time() - begun


async def test_one_that_does_not_read_is_left_in_time(autojump_clock: MockClock) -> None:
    call = Call()
    assert await ends_after(call) == smtp_session.REPLY
    assert str(call.lost) == "it does not read"


async def test_a_reply_in_drips_has_the_time_of_one(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def drip() -> None:
        await call.peer.hears(GROUP)
        while True:
            await trio.sleep(25)
            await call.peer.says(b"250-more\r\n")

    call = Call("PIPELINING")
    nursery.start_soon(drip)
    assert await ends_after(call) == smtp_session.REPLY
    assert str(call.lost) == "no reply in time"
    nursery.cancel_scope.cancel()


async def test_each_reply_of_a_group_has_its_own_time_and_the_dot_has_more(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def slow() -> None:
        await call.peer.hears(GROUP)
        for reply in (*[b"250 ok\r\n"] * 4, b"354 go on\r\n"):
            await trio.sleep(50)
            await call.peer.says(reply)
        await call.peer.hears(LAST)

    call = Call("PIPELINING")
    nursery.start_soon(slow)
    assert await ends_after(call) == 5 * 50 + smtp_session.DOT
    assert call.lost is not None
    assert call.lost.doubtful


# -- who is cancelled


class Leaving:
    """A transaction whose caller is cancelled, when `leave` says so; `met` tells whether it noticed."""

    def __init__(self, call: Call, nursery: trio.Nursery) -> None:
        self._call = call
        self._scope = trio.CancelScope()
        self.leave = self._scope.cancel
        self.left = trio.Event()
        self.met = False
        self.came_back = False
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            await self._call.transact()
            self.came_back = True
            await trio.lowlevel.checkpoint()
        self.met = self._scope.cancelled_caught
        self.left.set()


async def up_to_the_dot(nursery: trio.Nursery) -> tuple[Call, Leaving]:
    call = Call("PIPELINING")
    leaving = Leaving(call, nursery)
    await call.peer.hears(GROUP)
    await call.peer.says(b"250 ok\r\n" * 4 + b"354 go on\r\n")
    await call.peer.hears(LAST)
    await trio.testing.wait_all_tasks_blocked()
    return call, leaving


async def test_the_last_word_is_waited_for_and_the_caller_meets_its_end_after_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    call, leaving = await up_to_the_dot(nursery)
    await call.peer.says(b"250-2.0.0 half ")
    await trio.testing.wait_all_tasks_blocked()
    leaving.leave()
    await trio.sleep(smtp_session.LAST_WORD / 2)
    await call.peer.says(b"of it\r\n250 2.0.0 and the rest\r\n")
    await leaving.left.wait()
    assert call.fates[BOB] == Sent("half of it and the rest")
    assert leaving.came_back
    assert leaving.met


async def test_the_last_word_is_not_waited_for_longer(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    call, leaving = await up_to_the_dot(nursery)
    begun = trio.current_time()
    leaving.leave()
    await leaving.left.wait()
    assert trio.current_time() - begun == smtp_session.LAST_WORD
    assert call.lost is not None
    assert call.lost.doubtful
    assert leaving.met


async def test_before_the_dot_nothing_is_waited_for(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    call = Call("PIPELINING")
    leaving = Leaving(call, nursery)
    await call.peer.hears(GROUP)
    begun = trio.current_time()
    leaving.leave()
    await leaving.left.wait()
    assert trio.current_time() == begun
    assert leaving.met
    assert not leaving.came_back
    assert not call.fates


@pytest.mark.parametrize("refused", [True, False])
async def test_a_carrier_that_is_cancelled_tells_what_is_decided_if_anything_is(refused: bool) -> None:
    script = Script(PIPELINING)
    script.then(f"RCPT TO:<{BOB}>", b"550 5.1.1 gone" if refused else b"250 ok")
    script.then(f"RCPT TO:<{EVE}>", HANG)
    told: list[dict[Mailbox, Fate]] = []

    async with smarthost_of(script) as smarthost, trio.open_nursery() as nursery:

        async def carry() -> None:
            told.append(dict(await smarthost.carry("ann@x.example", [BOB, EVE, FREDA], letter(MESSAGE))))

        nursery.start_soon(carry)
        await script.reached[f"RCPT TO:<{EVE}>"].wait()
        if refused:
            await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    gone, open_ = Refused(550, "5.1.1", "gone"), Deferred(0, "", "we had to go")
    assert told == ([{BOB: gone, EVE: open_, FREDA: open_}] if refused else [])


async def test_what_was_sent_to_the_first_fifty_is_told_though_the_rest_was_cut_off() -> None:
    script = Script(PIPELINING)
    many = [Mailbox(f"u{number}", "isp.example") for number in range(60)]
    script.then("MAIL", b"250 ok", HANG)
    told: list[dict[Mailbox, Fate]] = []
    async with smarthost_of(script) as smarthost, trio.open_nursery() as nursery:

        async def carry() -> None:
            told.append(dict(await smarthost.carry("ann@x.example", many, letter(MESSAGE))))

        nursery.start_soon(carry)
        while sum(line.startswith("MAIL") for line in script.heard) < 2:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert [type(told[0][mailbox]) for mailbox in many] == [Sent] * 50 + [Deferred] * 10


async def test_one_that_closes_after_the_dot_may_have_it() -> None:
    script = Script(PIPELINING)
    script.then("dot", DROP)
    async with smarthost_of(script) as smarthost:
        fates = await smarthost.carry("ann@x.example", [BOB], letter(MESSAGE))
        assert fates == {BOB: Deferred(0, "", "closed by the smarthost")}
    assert (script.sessions, script.messages) == (1, [MESSAGE])
