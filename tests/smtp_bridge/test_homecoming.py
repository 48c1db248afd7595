"""What comes back to our return paths: reports, on their way to a sender or about a row of ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from forwarder.bridges import Failed, SubmissionRefused
from forwarder.model import parse_mailbox
from forwarder.plugin import PeerError
from forwarder.testing import NOON, Carriage
from forwarder_smtp_bridge.reports import Reported, write_report
from forwarder_smtp_bridge.returns import Outgoing

from .doors import TEA, Node, handed_over, numbers

BOB, EVE = parse_mailbox("bob@isp.example"), parse_mailbox("eve@isp.example")
ANN = "ann@x.example"


def report(*recipients: Reported) -> bytes:
    return write_report("b@srs", recipients, b"Subject: x\r\n", mta="mx.isp.example", name="1", now=NOON)


def failed(final: str, original: str = "") -> Reported:
    return Reported(final, "failed", "5.1.1", "smtp; 550 no such user", original)


@pytest.fixture
def node() -> Node:
    """Row 7 went to bob and eve."""
    node = Node()
    node.carry_failed.rows[7] = Carriage([BOB, EVE])
    return node


def srs(node: Node, sender: str = ANN) -> str:
    return node.paths.envelope_sender(Outgoing("smtp", 7, sender))


# -- by SRS


async def test_a_report_goes_on_unchanged_with_null_sender(node: Node) -> None:
    octets = TEA + b"\x00\xff.\r\n"
    assert await handed_over(node, "", srs(node), octets=octets) == ["250 2.1.5 taken"]
    assert node.taken == [("smtpgateway", (ANN,), "")]
    [(submission, taken)] = node.submit.taken
    assert taken == octets
    assert submission.redirects
    assert submission.lifetime == timedelta(days=7)


async def test_what_comes_there_with_a_sender_loses_it(node: Node) -> None:
    await handed_over(node, "mallory@x.example", srs(node))
    assert node.taken == [("smtpgateway", (ANN,), "")]


async def test_the_same_report_again_is_sent_on_once(node: Node) -> None:
    for _ in range(2):
        assert list(numbers(await handed_over(node, "", srs(node)))) == ["250 2.1.5"]
    assert len(node.taken) == 1


async def test_the_first_of_several_accounts_owns_it() -> None:
    node = Node(smtp_in={"account": {"pobox.example": "gw-pobox", "isp.example": "gw-isp"}})
    await handed_over(node, "", srs(node))
    assert node.taken == [("gw-pobox", (ANN,), "")]


async def test_while_our_store_does_not_take_it_postfix_keeps_it(node: Node) -> None:
    node.submit.fault = OSError("disk")
    assert list(numbers(await handed_over(node, "", srs(node)))) == ["451 4.3.0"]
    node.submit.fault = RuntimeError("a bug")
    assert await handed_over(node, "", srs(node)) == [""]
    assert not node.left


# -- by the row that owes it


async def test_a_failure_ends_the_target_it_names(node: Node) -> None:
    lines = await handed_over(node, "", node.paths.row_path(7), octets=report(failed("bob@isp.example")))
    assert lines == ["250 2.1.5 taken"]
    [(number, mailbox, never)] = node.carry_failed.told
    assert (number, mailbox, never.code) == (7, BOB, 49)
    assert never.text == "5.1.1 smtp; 550 no such user"
    assert node.carry_failed.rows[7].to == [EVE]
    assert not node.taken
    assert not node.left


async def test_the_original_recipient_is_ours_whatever_a_forwarder_made_of_it(node: Node) -> None:
    octets = report(failed("bob@later.example", original="bob@isp.example"))
    await handed_over(node, "", node.paths.row_path(7), octets=octets)
    assert [mailbox for _, mailbox, _ in node.carry_failed.told] == [BOB]


async def test_the_same_failure_again_ends_nobody_else(node: Node) -> None:
    """Postfix repeats a report whose answer it has lost; bob was ended, and eve is the only one who is left."""
    for _ in range(2):
        octets = report(failed("bob@isp.example"))
        assert await handed_over(node, "", node.paths.row_path(7), octets=octets) == ["250 2.1.5 taken"]
    assert [mailbox for _, mailbox, _ in node.carry_failed.told] == [BOB]
    assert node.carry_failed.rows[7].to == [EVE]


async def test_each_failure_of_a_report_counts(node: Node) -> None:
    octets = report(failed("bob@isp.example"), failed("EVE@isp.example"))
    await handed_over(node, "", node.paths.row_path(7), octets=octets)
    assert node.carry_failed.rows[7].to == []


@pytest.mark.parametrize(
    "octets",
    [
        report(Reported("bob@isp.example", "delayed", "4.4.1")),
        report(Reported("bob@isp.example", "delivered", "2.0.0")),
        b"Subject: I am on holiday\r\n\r\nuntil Monday\r\n",
        b"",
        b"\xff\x00" * 1000 + b"\r\n",
    ],
)
async def test_all_else_is_noted_and_let_go(node: Node, octets: bytes) -> None:
    assert await handed_over(node, "", node.paths.row_path(7), octets=octets) == ["250 2.1.5 taken"]
    assert not node.carry_failed.told
    assert not node.taken
    assert not node.left
    assert [fields["row"] for fields in node.logged("report") + node.logged("no report at a return path")] == [7]


async def test_a_row_that_is_gone_is_no_fault(node: Node) -> None:
    lines = await handed_over(node, "", node.paths.row_path(9), octets=report(failed("bob@isp.example")))
    assert lines == ["250 2.1.5 taken"]
    assert not node.taken


async def test_too_late_for_the_row_it_goes_on_to_the_smtp_sender(node: Node) -> None:
    """What came by SMTP was un-pinned when the smarthost had it: nobody else can tell its sender."""
    node.carry_failed.rows[7] = Carriage([], returns=ANN)
    octets = report(failed("bob@isp.example"))
    assert await handed_over(node, "", node.paths.row_path(7), octets=octets) == ["250 2.1.5 taken"]
    assert node.taken == [("smtpgateway", (ANN,), "")]
    assert node.submit.taken[0][1] == octets


async def test_in_time_the_row_s_own_report_tells_the_smtp_sender(node: Node) -> None:
    node.carry_failed.rows[7] = Carriage([BOB], returns=ANN)
    await handed_over(node, "", node.paths.row_path(7), octets=report(failed("bob@isp.example")))
    assert node.carry_failed.told
    assert not node.taken


async def test_to_a_null_sender_nothing_goes_on(node: Node) -> None:
    node.carry_failed.rows[7] = Carriage([], returns="")
    await handed_over(node, "", node.paths.row_path(7), octets=report(failed("bob@isp.example")))
    assert not node.taken


# -- several at once


async def test_rows_and_senders_mixed_each_get_what_is_theirs(node: Node) -> None:
    to = [node.paths.row_path(7), srs(node), srs(node, "ben@y.example"), srs(node)]
    lines = await handed_over(node, "", *to, octets=report(failed("bob@isp.example")))
    assert list(numbers(lines)) == ["250 2.1.5"] * 4
    assert node.taken == [("smtpgateway", (ANN, "ben@y.example"), "")]
    assert [mailbox for _, mailbox, _ in node.carry_failed.told] == [BOB]


async def test_of_a_mixed_one_only_what_was_not_sent_on_comes_again(node: Node) -> None:
    node.submit.fault = SubmissionRefused("quota")
    to = [node.paths.row_path(7), srs(node)]
    lines = await handed_over(node, "", *to, octets=report(failed("bob@isp.example")))
    assert list(numbers(lines)) == ["250 2.1.5", "452 4.3.1"]


async def test_a_ledger_that_cannot_be_read_gets_no_answer(node: Node) -> None:
    async def fails(*_: object) -> Failed:
        raise PeerError("debt 7 could not be read")

    node.ports = replace(node.ports, carry_failed=fails)
    assert await handed_over(node, "", node.paths.row_path(7), octets=report(failed("bob@isp.example"))) == [""]
    assert not node.left
