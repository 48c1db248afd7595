"""Our users' own mail: whose it is, to whom it may go, one message for a transaction."""

from __future__ import annotations

import pytest

from forwarder.bridges import Answer, SubmissionRefused
from forwarder.model import Outcome, parse_mailbox
from forwarder.plugin import PeerError

from .doors import TEA, Node, handed_over, numbers

BRIAN, SALES, BOB = "brian@pobox.example", "sales@pobox.example", "bob@isp.example"
ELSEWHERE = Answer(49, "relaying to this domain is not for us", ours=False)
ANSWERS = {
    BRIAN: Answer(0, senders=("brian",)),
    SALES: Answer(32, senders=("anna", "brian")),  # off: still who may send as it
    "nobody@pobox.example": Answer(0),
    BOB: ELSEWHERE,
    "eve@isp.example": ELSEWHERE,
}


def node(account: str = "sender", **answers: Answer | Exception) -> Node:
    more = {f"{name}@pobox.example": answer for name, answer in answers.items()}
    return Node({**ANSWERS, **more}, submission={"account": account})


async def submitted(node: Node, sender: str, *to: str, octets: bytes = TEA) -> list[str]:
    return await handed_over(node, sender, *to, octets=octets, delivery=node.departure)


async def test_the_account_is_who_owns_the_envelope_sender() -> None:
    at = node()
    assert await submitted(at, BRIAN, BOB) == ["250 2.1.5 taken"]
    assert await submitted(at, SALES, BOB) == ["250 2.1.5 taken"]
    assert at.taken == [("brian", (BOB,), BRIAN), ("anna", (BOB,), SALES)]


async def test_or_one_fixed_account_whatever_the_sender() -> None:
    at = node("smtpout")
    for sender in (BRIAN, "x@elsewhere.example", ""):
        assert await submitted(at, sender, BOB, octets=TEA + sender.encode() + b"\r\n") == ["250 2.1.5 taken"]
    assert [account for account, _, _ in at.taken] == ["smtpout"] * 3


@pytest.mark.parametrize("sender", ["nobody@pobox.example", "ghost@pobox.example", BOB, "", "x@[192.0.2.1]"])
async def test_a_sender_that_nobody_may_be_is_refused(sender: str) -> None:
    at = node()
    assert await submitted(at, sender, BOB) == ["550 5.7.1 no account of ours may send as this sender"]
    assert not at.spools


async def test_who_may_send_is_not_guessed_from_a_broken_file() -> None:
    at = node(brian=PeerError("brian.toml: unreadable"))
    assert list(numbers(await submitted(at, BRIAN, BOB))) == ["451 4.3.0"]


async def test_one_transaction_is_one_message_with_redirects_followed() -> None:
    at = node()
    lines = await submitted(at, BRIAN, BOB, "eve@isp.example", BRIAN)
    assert list(numbers(lines)) == ["250 2.1.5"] * 3
    [(submission, octets)] = at.submit.taken
    assert list(map(str, submission.to)) == [BOB, "eve@isp.example", BRIAN]
    assert submission.redirects
    assert octets == TEA


async def test_only_our_own_recipients_are_looked_up() -> None:
    moved = Answer(16, moved=(parse_mailbox("new@isp.example"),))
    at = node(gone=Answer(48), full=Answer(33), moved=Answer(16), told=moved, broken=PeerError("x"))
    names = ["gone", "full", "moved", "told", "broken"]
    lines = await submitted(at, BRIAN, *(f"{name}@pobox.example" for name in names), BOB)
    assert list(numbers(lines)) == ["550 5.1.1", "452 4.2.2", "250 2.1.5", "250 2.1.5", "451 4.3.0", "250 2.1.5"]


async def test_a_refusal_in_time_is_told() -> None:
    at = node()
    at.submit.outcomes[BOB] = Outcome(48)
    assert list(numbers(await submitted(at, BRIAN, BOB, "eve@isp.example"))) == ["550 5.1.1", "250 2.1.5"]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (SubmissionRefused("quota"), "452 4.3.1"),
        (SubmissionRefused("limit"), "451 4.3.2"),
        (OSError("disk"), "451 4.3.0"),
        (RuntimeError("a bug"), ""),
    ],
)
async def test_where_nothing_was_taken(fault: Exception, line: str) -> None:
    at = node()
    at.submit.fault = fault
    assert list(numbers(await submitted(at, BRIAN, BOB))) == [line]
    assert not at.left


async def test_a_low_disk_takes_nothing_at_mail() -> None:
    at = node()
    at.room = 1 << 20
    assert list(numbers(await submitted(at, BRIAN, BOB))) == ["452 4.3.1"]


async def test_the_same_again_is_taken_and_does_nothing() -> None:
    at = node()
    for _ in range(2):
        assert list(numbers(await submitted(at, BRIAN, BOB))) == ["250 2.1.5"]
    assert len(at.taken) == 1


async def test_too_many_received_lines_are_a_loop() -> None:
    at = node()
    octets = b"Received: from a by b; now\r\n" * 41 + b"Subject: x\r\n\r\n"
    assert list(numbers(await submitted(at, BRIAN, BOB, "eve@isp.example", octets=octets))) == ["554 5.4.6"] * 2
    assert not at.taken
    assert not at.left


async def test_one_fixed_account_may_send_as_anybody_and_the_others_as_before() -> None:
    at = node("smtpout")
    assert await at.looking.logins(parse_mailbox(SALES)) == ("anna", "brian", "smtpout")
    assert await at.looking.logins(parse_mailbox("x@elsewhere.example")) == ("smtpout",)
    assert await node().looking.logins(parse_mailbox("x@elsewhere.example")) == ()
