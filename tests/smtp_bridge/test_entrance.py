"""The world's mail: each row of the table of outcomes, loops, deliveries that come again, whose account it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from forwarder.bridges import Answer, SubmissionRefused
from forwarder.model import Outcome, parse_mailbox
from forwarder.plugin import PeerError

from .doors import SRS, TEA, Mta, Node, handed_over, map_says, numbers

HERE = Answer(0)
BOX = "box@pobox.example"


# -- the table of bridges.md 4


@pytest.mark.parametrize(
    ("answer", "by_map", "by_lmtp"),
    [
        (HERE, "OK DUNNO", "250 2.1.5 taken"),
        (Answer(3), "OK DUNNO", "250 2.1.5 taken"),
        (Answer(34), "TEMP try again later", "451 4.3.0 try again later"),
        (Answer(32), "OK 450 4.2.1 mailbox is switched off for now", "450 4.2.1 mailbox is switched off for now"),
        (PeerError("box.toml: unreadable"), "TEMP try again later", "451 4.3.0 try again later"),
        (Answer(33), "OK DUNNO", "452 4.2.2 mailbox is full"),
        (Answer(35), "OK DUNNO", "451 4.3.2 busy, try again later"),
        (Answer(48), "OK 550 5.1.1 no such mailbox", "550 5.1.1 no such mailbox"),
        (Answer(16), "OK 550 5.1.6 mailbox has moved", "550 5.1.6 mailbox has moved"),
        (
            Answer(16, moved=(parse_mailbox("new@isp.example"),)),
            "OK 551 5.1.6 mailbox has moved, try <new@isp.example>",
            "551 5.1.6 mailbox has moved, try <new@isp.example>",
        ),
        (Answer(49, "not from you"), "OK 550 5.7.1 not from you", "550 5.7.1 not from you"),
        (
            Answer(49, "relaying to this domain is not for us", ours=False),
            "OK DUNNO",  # the MTA asks of all whom it takes, and may host other domains itself
            "550 5.7.1 this domain is not hosted here",
        ),
        (Answer(50), "OK DUNNO", "554 5.4.6 mail forwarding loop"),
        (Answer(52), "OK DUNNO", "554 5.4.6 mail forwarding loop"),
        (RuntimeError("a bug"), "TEMP try again later", ""),
    ],
)
async def test_what_an_address_says_at_rcpt(answer: Answer | Exception, by_map: str, by_lmtp: str) -> None:
    node = Node({BOX: answer, "box@example": Answer(49, ours=False)})
    assert await map_says(node, BOX) == by_map
    assert await handed_over(node, "ann@x.example", BOX) == [by_lmtp]
    assert node.taken == ([("smtpgateway", (BOX,), "ann@x.example")] if by_lmtp.startswith("250") else [])
    assert not node.left


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (0, "250 2.1.5"),
        (1, "250 2.1.5"),
        (3, "250 2.1.5"),
        (16, "250 2.1.5"),
        (32, "250 2.1.5"),
        (33, "452 4.2.2"),  # withdrawn again: the MTA keeps it
        (35, "451 4.3.2"),
        (99, "250 2.1.5"),
        (48, "550 5.1.1"),
        (49, "550 5.7.1"),
        (50, "554 5.4.6"),
        (52, "554 5.4.6"),
        (53, "550 5.7.1"),
    ],
)
async def test_what_became_of_it_after_the_dot(outcome: int, line: str) -> None:
    node = Node({BOX: HERE})
    node.submit.outcomes[BOX] = Outcome(outcome)
    assert list(numbers(await handed_over(node, "ann@x.example", BOX))) == [line]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (SubmissionRefused("quota"), "452 4.3.1"),
        (SubmissionRefused("limit"), "451 4.3.2"),
        (SubmissionRefused("account"), "451 4.3.0"),
        (OSError("disk"), "451 4.3.0"),
        (RuntimeError("a bug"), ""),
        (PeerError("we cannot know"), ""),
    ],
)
async def test_where_nothing_was_taken(fault: Exception, line: str) -> None:
    node = Node({BOX: HERE, "eve@pobox.example": HERE})
    node.submit.fault = fault
    assert list(numbers(await handed_over(node, "ann@x.example", BOX, "eve@pobox.example"))) == [line, line]
    assert not node.left


async def test_a_disk_that_takes_no_octets_is_temporary() -> None:
    node = Node({BOX: HERE})
    node.wrong = OSError("disk")
    assert list(numbers(await handed_over(node, "ann@x.example", BOX))) == ["451 4.3.0"]
    assert not node.left


async def test_a_low_disk_takes_nothing_at_mail() -> None:
    node = Node({BOX: HERE}, smtp_in={"sessions": 10, "max_size": "30MiB"})
    node.room = 10 * (30 << 20) + (64 << 20) - 1
    assert await handed_over(node, "ann@x.example", BOX) == ["452 4.3.1 no room for mail now"]
    assert node.logged("limit disk room") == [{"wanted": node.room + 1, "free": node.room}]
    node.room += 1
    assert await handed_over(node, "ann@x.example", BOX) == ["250 2.1.5 taken"]


async def test_each_recipient_has_his_own_line() -> None:
    names = ["a", "gone", "b", "c"]
    boxes = [f"{name}@pobox.example" for name in names]
    node = Node({box: HERE for box in boxes if "gone" not in box})
    node.submit.outcomes["b@pobox.example"] = Outcome(48)
    lines = await handed_over(node, "ann@x.example", *boxes)
    assert list(numbers(lines)) == ["250 2.1.5", "550 5.1.1", "550 5.1.1", "250 2.1.5"]
    assert node.taken == [("smtpgateway", (boxes[0], boxes[2], boxes[3]), "ann@x.example")]


# -- what is handed in


async def test_the_octets_stay_as_they_came_and_the_options_rule() -> None:
    node = Node({BOX: HERE}, smtp_in={"lifetime": "30d", "answer_wait": "5s"})
    octets = b"Return-Path: <ann@x.example>\r\n" + TEA + b"..\r\n\x00\xff\r\n\r\n"
    await handed_over(node, "ann@x.example", BOX, octets=octets)
    [(submission, taken)] = node.submit.taken
    assert taken == octets
    assert (submission.lifetime, submission.wait) == (timedelta(days=30), timedelta(seconds=5))
    assert not submission.redirects


async def test_null_stays_null() -> None:
    node = Node({BOX: HERE})
    await handed_over(node, "", BOX)
    assert node.taken == [("smtpgateway", (BOX,), "")]


async def test_the_same_again_is_taken_and_does_nothing() -> None:
    node = Node({BOX: HERE, "eve@pobox.example": HERE})
    for _ in range(2):
        assert await handed_over(node, "ann@x.example", BOX) == ["250 2.1.5 taken"]
    assert len(node.taken) == 1
    await handed_over(node, "ann@x.example", "BOX@pobox.example")
    assert len(node.taken) == 1
    await handed_over(node, "ann@x.example", "eve@pobox.example")
    await handed_over(node, "bea@x.example", BOX)
    await handed_over(node, "ann@x.example", BOX, octets=TEA + b"x\r\n")
    assert len(node.taken) == 4


async def test_each_domain_may_have_its_own_account() -> None:
    boxes = ["a@pobox.example", "b@isp.example", "c@other.example", "d@pobox.example"]
    account = {"pobox.example": "gw-pobox", "isp.example": "gw-isp"}
    node = Node(dict.fromkeys(boxes, HERE), smtp_in={"account": account})
    for box in boxes:
        await handed_over(node, "ann@x.example", box)
    assert [account for account, _, _ in node.taken] == ["gw-pobox", "gw-isp", "smtpgateway", "gw-pobox"]


async def test_what_two_accounts_would_own_comes_in_two_transactions() -> None:
    boxes = ["a@pobox.example", "b@isp.example", "c@pobox.example"]
    node = Node(dict.fromkeys(boxes, HERE), smtp_in={"account": {"pobox.example": "gw-pobox", "isp.example": "gw-isp"}})
    lines = await handed_over(node, "ann@x.example", *boxes)
    assert list(numbers(lines)) == ["250 2.1.5", "452 4.5.3", "250 2.1.5"]
    assert node.taken == [("gw-pobox", (boxes[0], boxes[2]), "ann@x.example")]


async def test_a_return_path_comes_in_a_transaction_of_its_own() -> None:
    node = Node({BOX: HERE})
    row = node.paths.row_path(7)
    assert list(numbers(await handed_over(node, "", BOX, row))) == ["250 2.1.5", "452 4.5.3"]
    assert list(numbers(await handed_over(node, "", row, BOX))) == ["250 2.1.5", "452 4.5.3"]


async def test_a_session_begins_anew_after_a_transaction() -> None:
    """What one transaction's recipients were does not bind the next."""
    node = Node({BOX: HERE, "b@isp.example": HERE}, smtp_in={"account": {"isp.example": "gw-isp"}})
    async with trio.open_nursery() as nursery:
        mta = Mta(nursery, node.entrance, node.log)
        await mta.greet()
        for box in (BOX, "b@isp.example"):
            await mta.ask("MAIL FROM:<>")
            assert (await mta.ask(f"RCPT TO:<{box}>")).startswith("250")
            assert (await mta.ask("RSET")).startswith("250")
        nursery.cancel_scope.cancel()


# -- loops (bridges.md 9)


OWN = f"Delivered-To: {BOX}\r\n".encode()


async def test_the_mta_in_front_writes_our_address_above_its_received_line() -> None:
    node = Node({BOX: HERE})
    assert list(numbers(await handed_over(node, "", BOX, octets=OWN + TEA))) == ["250 2.1.5"]


@pytest.mark.parametrize(
    "field",
    [
        f"Delivered-To: {BOX}",
        "DELIVERED-TO :\t BOX@pobox.example ",
        f"Delivered-To:\r\n\t{BOX}",
        f"Delivered-To: <{BOX}>",
        'Delivered-To: "box"@pobox.example',
    ],
)
async def test_who_had_it_before_does_not_get_it_again(field: str) -> None:
    node = Node({BOX: HERE})
    octets = b"Received: from a by b; now\r\n" + field.encode() + b"\r\n" + TEA
    assert await handed_over(node, "ann@x.example", BOX, octets=octets) == ["554 5.4.6 mail forwarding loop"]
    assert not node.taken
    assert not node.left
    assert node.logged("loop") == [{"delivered": [BOX]}]


async def test_others_of_the_transaction_get_it_all_the_same() -> None:
    node = Node({BOX: HERE, "eve@pobox.example": HERE})
    octets = TEA.replace(b"Subject", OWN + b"Subject")
    lines = await handed_over(node, "ann@x.example", BOX, "eve@pobox.example", octets=octets)
    assert list(numbers(lines)) == ["554 5.4.6", "250 2.1.5"]
    assert node.taken == [("smtpgateway", ("eve@pobox.example",), "ann@x.example")]


async def test_what_stands_in_the_body_is_no_field() -> None:
    node = Node({BOX: HERE})
    octets = TEA + b"\r\n" + OWN + b"Received: x\r\n" * 50
    assert list(numbers(await handed_over(node, "ann@x.example", BOX, octets=octets))) == ["250 2.1.5"]


async def test_too_many_received_lines_are_a_loop() -> None:
    node = Node({BOX: HERE, "eve@pobox.example": HERE}, smtp_in={"received": 5})
    for count, said in ((5, "250 2.1.5"), (6, "554 5.4.6")):
        octets = b"Received: from a\r\n\tby b; now\r\n" * count + b"Subject: x\r\n\r\n"
        lines = await handed_over(node, "ann@x.example", BOX, "eve@pobox.example", octets=octets)
        assert list(numbers(lines)) == [said] * 2
    assert len(node.taken) == 1
    assert not node.left


# -- return paths at RCPT


@pytest.mark.parametrize("domain", ["sub.pobox.example", "a.b.sub.pobox.example", f"sub.{SRS}"])
async def test_a_domain_below_ours_that_is_not_hosted_is_refused_at_rcpt(domain: str) -> None:
    """Postfix takes what is below its relay_domains, and would bounce it to a forged sender later."""
    elsewhere = Answer(49, ours=False)
    above = [domain.partition("sub.")[0] + "sub.pobox.example", "sub.pobox.example", "b.sub.pobox.example", "example"]
    node = Node({f"box@{name}": elsewhere for name in (domain, *above)})
    assert await map_says(node, f"box@{domain}") == "OK 550 5.7.1 this domain is not hosted here"
    assert list(numbers(await handed_over(node, "ann@x.example", f"box@{domain}"))) == ["550 5.7.1"]


async def test_a_mailbox_of_the_returns_domain_is_one_like_others_where_the_domain_is_hosted_too() -> None:
    """postmaster@ has to be in every domain (RFC 5321 4.5.1), and one domain for both loses no mail."""
    postmaster = f"postmaster@{SRS}"
    node = Node({postmaster: HERE, f"gone@{SRS}": Answer(48)})
    assert await map_says(node, postmaster) == "OK DUNNO"
    assert await map_says(node, f"gone@{SRS}") == "OK 550 5.1.1 no such mailbox"
    assert list(numbers(await handed_over(node, "ann@x.example", postmaster))) == ["250 2.1.5"]
    assert node.taken == [("smtpgateway", (postmaster,), "ann@x.example")]
    mixed = [postmaster, node.paths.row_path(7)]
    assert list(numbers(await handed_over(node, "", *mixed))) == ["250 2.1.5", "452 4.5.3"]


async def test_of_our_returns_domain_only_what_we_made_is_taken() -> None:
    node = Node()
    row = node.paths.row_path(7)
    forged = row.replace(row[2], "a" if row[2] != "a" else "b", 1)
    assert await map_says(node, row) == "OK DUNNO"
    assert await map_says(node, row.upper()) == "OK DUNNO"
    assert await map_says(node, f"anything@{SRS}") == "OK 550 5.1.1 no such mailbox"
    assert await map_says(node, forged) == "OK 550 5.7.1 not a return path of ours"
    assert await handed_over(node, "", forged) == ["550 5.7.1 not a return path of ours"]
    assert node.logged("no return path of ours")[0]["why"] == "wrong hash"


async def test_a_return_path_grows_too_old() -> None:
    node = Node()
    row = node.paths.row_path(7)
    node.now.turn(timedelta(days=22))
    assert list(numbers(await handed_over(node, "", row))) == ["550 5.7.1"]
    assert node.logged("no return path of ours")[0]["why"] == "expired"
