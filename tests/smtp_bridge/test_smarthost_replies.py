"""Every cell of the table of replies (bridges.md 5), by a smarthost that follows a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from forwarder.model import Mailbox
from forwarder_smtp_bridge import smtp_session
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.octets import Letter
from forwarder_smtp_bridge.smarthost import Smarthost

from .scripted_smarthost import DROP, HANG, OFFERS, PIPELINING, Script, Told, letter, smarthost_of

BOB, FREDA = Mailbox("bob", "isp.example"), Mailbox("freda", "isp.example")
MESSAGE = b"Subject: x\r\n\r\n.\r\nbody\r\n"
LATER, NEVER = Deferred, Refused


async def carried(smarthost: Smarthost, *to: Mailbox, message: bytes = MESSAGE) -> list[Fate]:
    fates = await smarthost.carry("ann@pobox.example", to, letter(message, return_path=False))
    assert set(fates) == set(to)
    return [fates[mailbox] for mailbox in to]


# -- the table. Two recipients: what becomes of each, and what the smarthost has got

X4, X5 = b"451 4.3.0 later", b"554 5.7.1 never"
BOB_RCPT = "RCPT TO:<bob@isp.example>"
CELLS: list[tuple[str, bytes, tuple[type, type], int]] = [
    ("connect", b"220-two\r\n220 lines", (Sent, Sent), 1),
    ("connect", X4, (LATER, LATER), 0),
    ("connect", X5, (LATER, LATER), 0),
    ("EHLO", X4, (LATER, LATER), 0),
    ("EHLO", X5, (LATER, LATER), 0),
    ("MAIL", X4, (LATER, LATER), 0),
    ("MAIL", X5, (NEVER, NEVER), 0),
    ("MAIL", b"552 5.3.4 too big", (NEVER, NEVER), 0),
    ("MAIL", b"553 5.1.7 what a sender", (NEVER, NEVER), 0),
    ("MAIL", b"554 5.6.3 eight bits", (NEVER, NEVER), 0),
    ("MAIL", b"530 5.7.0 STARTTLS first", (LATER, LATER), 0),
    ("MAIL", b"535 5.7.8 who are you", (LATER, LATER), 0),
    ("MAIL", b"538 5.7.11 encrypt", (LATER, LATER), 0),
    (BOB_RCPT, b"251 2.1.5 will forward", (Sent, Sent), 1),
    (BOB_RCPT, b"252 2.1.5 cannot verify", (Sent, Sent), 1),
    (BOB_RCPT, X4, (LATER, Sent), 1),
    (BOB_RCPT, X5, (NEVER, Sent), 1),
    ("DATA", X4, (LATER, LATER), 0),
    ("DATA", X5, (NEVER, NEVER), 0),
    ("DATA", b"250 what", (LATER, LATER), 0),
    ("dot", b"250 2.0.0 queued as 4F", (Sent, Sent), 1),
    ("dot", X4, (LATER, LATER), 1),
    ("dot", X5, (NEVER, NEVER), 1),
    ("dot", b"354 go on", (LATER, LATER), 1),
]
STAGES = ("connect", "EHLO", "MAIL", BOB_RCPT, "DATA", "dot")
ENDS = {
    "drop": DROP,
    "421": b"421 4.3.2 closing",
    "hang": HANG,
    "garbage": b"hello there",
    "binary": b"\x00\xff\r\n250 ok",
    "a line without end": b"250 " + b"x" * 100_000,
    "lines without end": b"250-x\r\n" * 300 + b"250 ok",
    "1xx": b"150 wait",
}


BOTH = pytest.mark.parametrize("offers", [OFFERS, PIPELINING], ids=["in turn", "pipelined"])


@BOTH
@pytest.mark.parametrize(("stage", "answer", "fates", "messages"), CELLS)
async def test_each_reply_at_each_stage(
    stage: str, answer: bytes, fates: tuple[type, type], messages: int, offers: bytes
) -> None:
    script = Script(offers)
    script.then(stage, answer)
    async with smarthost_of(script) as smarthost:
        assert tuple(map(type, await carried(smarthost, BOB, FREDA))) == fates
        # whatever it said, the next message goes its way, and over a session that is still good
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]
    assert len(script.messages) == messages + 1
    assert set(script.messages) == {MESSAGE}


@BOTH
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("stage", STAGES)
async def test_each_end_of_a_session_at_each_stage_is_later(
    stage: str, end: str, offers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "REPLY", 0.3)
    monkeypatch.setattr(smtp_session, "DOT", 0.3)
    script = Script(offers)
    script.then(stage, ENDS[end])
    async with smarthost_of(script) as smarthost:
        for fate in await carried(smarthost, FREDA, BOB):
            assert isinstance(fate, Deferred)
            assert fate.code == (421 if end == "421" else 0)
        assert script.sessions == 1, "a fresh session is not tried again"
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]


@BOTH
async def test_who_was_refused_before_the_session_was_lost_stays_refused(offers: bytes) -> None:
    script = Script(offers)
    script.then(BOB_RCPT, X5)
    script.then("DATA", DROP)
    async with smarthost_of(script) as smarthost:
        bob, freda = await carried(smarthost, BOB, FREDA)
    assert bob == Refused(554, "5.7.1", "never") and isinstance(freda, Deferred)


@pytest.mark.parametrize(
    ("stage", "twice"), [("MAIL", b"250 ok\r\n250 ok"), ("DATA", b"354 go on\r\n250 2.0.0 queued")]
)
async def test_an_answer_too_many_is_not_taken_for_the_next(stage: str, twice: bytes) -> None:
    script = Script()
    script.then(stage, twice)
    script.then("dot", X5)
    async with smarthost_of(script) as smarthost:
        (fate,) = await carried(smarthost, BOB)
    assert fate == Deferred(0, "", "spoke out of turn") and not script.messages


async def test_nobody_left_means_no_data() -> None:
    script = Script()
    script.then("RCPT", X5, X4)
    async with smarthost_of(script) as smarthost:
        assert [type(fate) for fate in await carried(smarthost, BOB, FREDA)] == [NEVER, LATER]
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]
    assert script.heard.count("DATA") == 1 and script.sessions == 1


async def test_the_words_of_the_smarthost_are_kept_in_bounds() -> None:
    script = Script()
    script.then("MAIL", b"554-5.7.1 first\r\n554 5.7.1 second \xff\x07" + b"y" * 3000)
    async with smarthost_of(script) as smarthost:
        (fate,) = await carried(smarthost, BOB)
    assert isinstance(fate, Refused) and (fate.code, fate.status) == (554, "5.7.1")
    assert fate.text.startswith("first second ??yyy") or fate.text.startswith("first second �?yyy")
    assert len(fate.text) == 400


@pytest.mark.parametrize(("stage", "answer"), [("connect", X5), ("EHLO", X5), ("MAIL", b"530 5.7.0 first a login")])
async def test_our_own_setup_is_the_operators_matter(stage: str, answer: bytes) -> None:
    script, told = Script(), Told()
    script.then(stage, answer)
    async with smarthost_of(script, told) as smarthost:
        await carried(smarthost, BOB)
    assert len(told.events) == 1


async def test_nobody_listens() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    (fate,) = await carried(Smarthost("127.0.0.1", port, name="node.example", log=Told()), BOB)
    assert isinstance(fate, Deferred) and "no connection" in fate.text


# -- kept sessions


@BOTH
@pytest.mark.parametrize("end", ["drop", "421", "garbage", "hang"])
@pytest.mark.parametrize("stage", ["MAIL", BOB_RCPT, "DATA"])
async def test_a_kept_session_that_ends_before_the_dot_is_tried_once_on_a_fresh_one(
    stage: str, end: str, offers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "REPLY", 0.3)
    script = Script(offers)
    async with smarthost_of(script) as smarthost:
        await carried(smarthost, BOB)
        script.then(stage, ENDS[end])
        assert [type(fate) for fate in await carried(smarthost, FREDA, BOB)] == [Sent, Sent]
        script.then(stage, ENDS[end], ENDS[end])
        assert [type(fate) for fate in await carried(smarthost, FREDA, BOB)] == [LATER, LATER]
    assert (script.sessions, len(script.messages)) == (3, 2)


@BOTH
async def test_the_second_try_asks_only_for_those_not_yet_decided(offers: bytes) -> None:
    script = Script(offers)
    async with smarthost_of(script) as smarthost:
        await carried(smarthost, BOB)
        script.then(BOB_RCPT, X5)
        script.then("DATA", DROP)
        assert [type(fate) for fate in await carried(smarthost, BOB, FREDA)] == [NEVER, Sent]
    assert script.heard.count(BOB_RCPT) == 2 and len(script.messages) == 2


@BOTH
async def test_a_session_that_ends_when_all_is_decided_starts_no_other(offers: bytes) -> None:
    script = Script(offers)
    async with smarthost_of(script) as smarthost:
        await carried(smarthost, BOB)
        script.then(BOB_RCPT, X5)
        script.then("RSET", DROP)
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [NEVER]
        assert script.sessions == 1
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]


@BOTH
@pytest.mark.parametrize("end", ["drop", "421", "garbage"])
async def test_after_the_dot_nothing_is_sent_again(end: str, offers: bytes) -> None:
    script = Script(offers)
    async with smarthost_of(script) as smarthost:
        await carried(smarthost, BOB)
        script.then("dot", ENDS[end])
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [LATER]
    assert len(script.messages) == 2 and script.sessions == 1


async def test_sessions_are_kept_and_at_most_four() -> None:
    script = Script()
    async with smarthost_of(script) as smarthost, trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(carried, smarthost, BOB)
    assert len(script.messages) == 12
    assert script.sessions == script.most_at_once == 4


async def test_the_smarthost_is_left_in_good_order() -> None:
    script = Script()
    async with smarthost_of(script) as smarthost:
        await carried(smarthost, BOB)
        await smarthost.close()
        with trio.fail_after(5):
            await script.reached["QUIT"].wait()


# -- what is said


async def test_what_mail_and_rcpt_say() -> None:
    script = Script()
    quoted = Mailbox("a,b <c>", "isp.example")
    async with smarthost_of(script) as smarthost:
        await smarthost.carry("", [quoted], letter(MESSAGE))
        await smarthost.carry('"a b"@pobox.example', [BOB], letter(b"\xe9\r\n"))
        await smarthost.carry("ann@pobox.example", [BOB], letter(MESSAGE), utf8=True)
        await smarthost.carry("ann@pobox.example", [Mailbox("é", "isp.example"), BOB], letter(MESSAGE))
        await smarthost.carry("é@pobox.example", [BOB], letter(MESSAGE))
        await smarthost.carry("", [BOB], letter(b"\r\n", front="X: é\r\n".encode()), utf8=True)
    size = f"SIZE={len(MESSAGE)}"
    assert [line for line in script.heard if line[:4] in ("EHLO", "MAIL", "RCPT")] == [
        "EHLO node.example",
        f"MAIL FROM:<> {size}",
        'RCPT TO:<"a,b <c>"@isp.example>',
        'MAIL FROM:<"a b"@pobox.example> SIZE=3 BODY=8BITMIME',
        BOB_RCPT,
        f"MAIL FROM:<ann@pobox.example> {size} SMTPUTF8",
        BOB_RCPT,
        f"MAIL FROM:<ann@pobox.example> {size}",  # who needs no SMTPUTF8 does not suffer from it
        BOB_RCPT,
        f"MAIL FROM:<ann@pobox.example> {size} SMTPUTF8",
        "RCPT TO:<é@isp.example>",
        f"MAIL FROM:<é@pobox.example> {size} SMTPUTF8",
        BOB_RCPT,
        "MAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8",
        BOB_RCPT,
    ]


async def test_a_smarthost_that_offers_nothing() -> None:
    script, told = Script(), Told()
    script.then("EHLO", b"250 smart.example")
    async with smarthost_of(script, told) as smarthost:
        fates = await smarthost.carry("ann@x.example", [BOB, Mailbox("é", "x.example")], letter(MESSAGE))
        assert [type(fate) for fate in fates.values()] == [Sent, Refused]
        assert fates[Mailbox("é", "x.example")] == Refused(553, "5.6.7", "the smarthost offers no SMTPUTF8")
        assert not told.events
        fates = await smarthost.carry("ann@x.example", [BOB], letter(b"\xe9\r\n"))
        assert fates == {BOB: Deferred(0, "5.6.3", "the smarthost offers no 8BITMIME")}
        assert told.events
    assert script.heard[1] == "MAIL FROM:<ann@x.example>" and len(script.messages) == 1


@BOTH
async def test_at_most_fifty_at_once_and_each_gets_its_own_fate(offers: bytes) -> None:
    script = Script(offers)
    many = [Mailbox(f"u{number}", "isp.example") for number in range(120)]
    script.then("dot", b"250 one", X4, X5)
    async with smarthost_of(script) as smarthost:
        fates = await smarthost.carry("ann@x.example", [*many, *many], letter(MESSAGE))
    assert [type(fates[mailbox]) for mailbox in many] == [Sent] * 50 + [LATER] * 50 + [NEVER] * 20
    assert len(script.messages) == 3 and sum(line.startswith("RCPT") for line in script.heard) == 120


async def test_no_address_can_speak_as_a_command() -> None:
    script = Script()
    evil = Mailbox("x>\r\nDATA", "isp.example")
    async with smarthost_of(script) as smarthost:
        fates = await smarthost.carry("ann@x.example", [evil, BOB], letter(MESSAGE))
        assert fates[evil] == Refused(553, "5.1.3", "no address of SMTP") and isinstance(fates[BOB], Sent)
        for sender in ("a\r\nDATA@x", "a b@x", "a>@x", "ann", '"a"b@x', "a@x y"):
            with pytest.raises(ValueError, match="envelope sender"):
                await smarthost.carry(sender, [BOB], letter(MESSAGE))


@BOTH
async def test_lf_dot_crlf_from_inside_injects_nothing_and_is_counted(offers: bytes) -> None:
    script = Script(offers)
    smuggled = b"Subject: x\r\n\r\none\n.\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n\r.\r\n"
    async with smarthost_of(script) as smarthost:
        (fate,) = await carried(smarthost, BOB, message=smuggled)
    assert fate == Sent("queued") and letter(smuggled).changed == 2
    assert len(script.messages) == 1 and b"one\r\n.\r\nMAIL FROM:<evil" in script.messages[0]
    assert sum(line.startswith("MAIL") for line in script.heard) == 1


async def test_lines_in_front_and_the_return_path_behind() -> None:
    script = Script()
    message = b"Return-Path: <ann@x.example>\r\n" + MESSAGE
    async with smarthost_of(script) as smarthost:
        front = b"Delivered-To: a@x.example\r\n"
        await smarthost.carry("", [BOB], letter(message, front=front, return_path=False))
        await smarthost.carry("", [BOB], letter(message))
    assert script.messages == [b"Delivered-To: a@x.example\r\n" + MESSAGE, message]


# -- faults of ours, and ends


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_copy_that_cannot_be_read_ends_the_session_without_a_dot(before: int) -> None:
    async def rotten() -> AsyncGenerator[bytes, None]:
        for _ in range(before):
            yield b"a\r\n" * 20_000
        raise OSError("the disk is gone")

    script = Script()
    async with smarthost_of(script) as smarthost:
        for _ in range(2):
            fates = await smarthost.carry("", [BOB], Letter(300_000, eight_bit=False, changed=0, pieces=rotten))
            assert fates == {BOB: Deferred(0, "", "our copy cannot be read")}
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]
    assert script.messages == [MESSAGE]


@BOTH
@pytest.mark.parametrize("stage", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
async def test_who_is_cancelled_leaves_no_session_behind(
    stage: str, offers: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "LAST_WORD", 0.05)
    script = Script(offers)
    script.then(stage, HANG)
    async with smarthost_of(script) as smarthost:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carried, smarthost, BOB)
            await script.reached[stage].wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            while script.open_sessions:
                await trio.lowlevel.checkpoint()
        assert [type(fate) for fate in await carried(smarthost, BOB)] == [Sent]


@pytest.mark.parametrize(("answer", "event", "expected"), [(b"250 ok", "said to dot", Sent), (HANG, "dot", LATER)])
async def test_what_was_said_to_the_dot_is_told_though_its_carrier_was_cancelled(
    answer: bytes, event: str, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_session, "LAST_WORD", 0.05)
    script = Script()
    async with smarthost_of(script) as smarthost:
        for _ in range(20):
            fates: list[Fate] = []

            async def carry(fates: list[Fate] = fates) -> None:
                fates.extend(await carried(smarthost, BOB))

            script.reached.clear()
            script.then("dot", answer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry)
                await script.reached[event].wait()
                nursery.cancel_scope.cancel()
            assert [type(fate) for fate in fates] == [expected]


async def test_a_connection_that_never_comes_about(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def never(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    smarthost = Smarthost("192.0.2.1", 25, name="node.example", log=Told())
    started = trio.current_time()
    (fate,) = await carried(smarthost, BOB)
    assert isinstance(fate, Deferred) and trio.current_time() - started == pytest.approx(15)
