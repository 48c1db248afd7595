"""Reports: what other MTAs write is read, what we write others read, and garbage is no report."""

from __future__ import annotations

import email
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage, MIMEPart
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Mailbox
from forwarder_smtp_bridge.reports import LIMIT, NotAReport, Report, Reported, read_report, write_report

SAMPLES = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "reports").glob("*.eml"))}
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HEAD = b"From: ann@x.example\r\nSubject: hello\r\n\r\nthe body"
BOB = Reported("bob@isp.example", "failed", "5.1.1", "x-im2000; 48 no such mailbox")


def written(*recipients: Reported, to: str = "ann@x.example", head: bytes = HEAD, text: str = "") -> bytes:
    return write_report(to, recipients or (BOB,), head, mta="node.example", name="17", now=NOW, text=text)


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


# -- read. The first three are Postfix 3.7's own; the others are written after the form of their MTAs


ACCOUNT = "smtp; 550-5.1.1 The account does not exist, 550 5.1.1 see https://isp.example/help (x;y)"
FAILED = Reported("bob@isp.example", "failed", "5.1.1", ACCOUNT, "bob@isp.example")
SLOW = Reported("slow@isp.example", "delayed", "4.7.1", "smtp; 451 4.7.1 Greylisted, come again", "slow@isp.example")
UNKNOWN = "SMTP; 550 5.1.1 <robert@inner.isp.example>... User unknown"
MOVED_ON = Reported("robert@inner.isp.example", "failed", "5.1.1", UNKNOWN, "bob@isp.example")
RESOLVER = "smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound"
SAID = {
    "postfix-failed": Report(
        "mx.pobox.example", (FAILED, replace(FAILED, final="freda@isp.example", original="freda@isp.example"))
    ),
    "postfix-delayed": Report("mx.pobox.example", (SLOW,)),
    "postfix-smtputf8": Report("mx.pobox.example", (replace(FAILED, final="ö@isp.example", original="ö@isp.example"),)),
    "exim-like": Report(
        "mx.isp.example", (Reported("bob@isp.example", "failed", "5.0.0", "smtp; 550 mailbox unavailable"),)
    ),
    "sendmail-like": Report("mx.isp.example", (MOVED_ON,)),
    "exchange-like": Report("ex.isp.example", (Reported("bob@isp.example", "failed", "5.1.10", RESOLVER),)),
}


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", SAMPLES)
def test_reports_of_other_mtas_are_read(name: str, ends: bytes) -> None:
    assert read_report(SAMPLES[name].replace(b"\n", ends)) == SAID[name]


def test_whom_a_report_speaks_of() -> None:
    assert MOVED_ON.mailboxes() == (Mailbox("bob", "isp.example"), Mailbox("robert", "inner.isp.example"))
    assert Reported("no address", "failed", "").mailboxes() == ()


def test_a_report_cut_behind_its_status_is_read() -> None:
    octets = SAMPLES["postfix-failed"]
    assert read_report(octets[: octets.index(b"Undelivered Message\n")]) == read_report(octets)
    assert read_report(octets.rpartition(b"\n--")[0] + b"x" * LIMIT) == read_report(octets)
    late = octets.replace(b"This is a MIME", b"x" * LIMIT + b"\nThis is a MIME")
    assert read_report(late) == NotAReport("no delivery-status in it")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "no multipart/report"),
        (b"\r\n\r\nx", "no multipart/report"),
        (b"Subject: I am away\r\n\r\nback on Monday\r\n", "no multipart/report"),
        (b"Content-Type: multipart/report\r\n\r\n", "a report of another kind"),
        (SAMPLES["exim-like"].replace(b"delivery-status;", b"disposition-notification;"), "a report of another kind"),
        (SAMPLES["exim-like"].replace(b"message/delivery-status", b"text/plain"), "no delivery-status in it"),
        (SAMPLES["exchange-like"].replace(b"UmVwb3J0", b"UmVwb3J"), "no delivery-status in it"),
        (SAMPLES["exim-like"].replace(b"Action: failed", b"Action: exploded"), "no recipient in it"),
        (SAMPLES["exim-like"].replace(b"Action: failed", b"Action: not failed"), "no recipient in it"),
        (SAMPLES["exim-like"].replace(b"; boundary", b"; x=y" * 500 + b"; boundary"), "no multipart/report"),
        (SAMPLES["exim-like"].replace(b"Final-Recipient: rfc822;bob@isp.example", b"X: y"), "no recipient in it"),
    ],
)
def test_other_mail_is_no_report(octets: bytes, why: str) -> None:
    assert read_report(octets) == NotAReport(why)


def test_no_more_than_200_recipients_and_900_characters_are_taken_in() -> None:
    block = b"\n\nAction: failed\nFinal-Recipient: rfc822; bob@isp.example\nDiagnostic-Code: " + b"x" * 5000
    many = SAMPLES["exim-like"].replace(b"\n\nAction", block * 300 + b"\n\nAction")
    report = read_report(many)
    assert isinstance(report, Report) and len(report.recipients) <= 200
    assert max(len(reported.diagnostic) for reported in report.recipients) == 900


@given(st.binary(max_size=300))
def test_garbage_is_no_report(octets: bytes) -> None:
    assert isinstance(read_report(octets), NotAReport)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_reports_are_answered(name: str, data: st.DataObject) -> None:
    octets = SAMPLES[name]
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(octets)))
        end = data.draw(st.integers(begin, min(len(octets), begin + 40)))
        octets = octets[:begin] + data.draw(st.binary(max_size=20)) + octets[end:]
    answer = read_report(octets)
    assert isinstance(answer, (Report, NotAReport))


BEGIN = b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"


@pytest.mark.parametrize(
    "octets",
    [
        BEGIN + b"\n--b\n" * LIMIT,
        BEGIN + b"\n" * LIMIT,
        BEGIN + b"\n \t" * LIMIT,
        BEGIN + b"a: b\n" * LIMIT,
        BEGIN + b"Final-Recipient: " + b" (" * LIMIT,
        BEGIN + b"Final-Recipient: utf-8; " + b"\\x{" * LIMIT,
        b"Content-Type: multipart/report" + b"; a*0=b" * LIMIT,
        b"Content-Type: multipart/report; boundary=b\n" + b"Content-Type: x\n" * LIMIT,
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * LIMIT,
        b"\r" * LIMIT,
    ],
    ids=range(10),
)
def test_nobody_makes_us_think_for_long(octets: bytes) -> None:
    started = time.process_time()
    assert isinstance(read_report(octets), (Report, NotAReport))
    assert time.process_time() - started < 2


# -- written


def _blocks(status: MIMEPart) -> list[EmailMessage]:
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    return [block for block in blocks if isinstance(block, EmailMessage)]


def test_what_we_write_is_a_report_to_others_too() -> None:
    message = parsed(written(BOB, Reported("freda@isp.example", "failed", "5.2.2", "", "staff@pobox.example")))
    assert message["To"] == "ann@x.example" and message["Auto-Submitted"] == "auto-replied"
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@node.example"
    assert message["Message-ID"] == "<17.report@node.example>"
    assert message["Date"].datetime == NOW
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "delivery-status"
    people, status, head = message.iter_parts()
    assert "<bob@isp.example>: 48 no such mailbox" in people.get_content()
    assert "<freda@isp.example>: 5.2.2" in people.get_content()
    about, *recipients = _blocks(status)
    assert about["Reporting-MTA"] == "dns; node.example"
    assert [block["Final-Recipient"] for block in recipients] == [
        "rfc822; bob@isp.example",
        "rfc822; freda@isp.example",
    ]
    assert recipients[1]["Original-Recipient"] == "rfc822; staff@pobox.example"
    assert head.get_content_type() == "text/rfc822-headers"
    assert head.get_payload() == "From: ann@x.example\r\nSubject: hello\r\n"


def test_no_body_is_sent_back() -> None:
    assert b"the body" not in written()
    assert b"secret" not in written(head=b"Subject: x\n\nsecret") and b"secret" not in written(
        head=b"Subject: x\r\rsecret"
    )


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: h\xc3\xa9llo\r\nX: y \r\n",
        b"Subject: \xff\xfe\r\n",
        b"Subject: " + b"x" * 5000 + b"\r\n",
        b"Subject: \x00\r\n",
        b"Subject: =\r\n.\r\n\r\n",
    ],
)
def test_odd_header_sections_come_back_octet_for_octet_in_seven_bits(head: bytes) -> None:
    octets = written(head=head + b"\r\nbody")
    assert octets.isascii() and max(map(len, octets.splitlines())) <= 998
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets)
    shown = list(parsed(octets).iter_parts())[2].get_payload(decode=True)
    assert isinstance(shown, bytes)
    assert shown.replace(b"\r\n", b"\n") == head.removesuffix(b"\r\n").replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"


def test_a_long_header_section_is_cut_at_a_line() -> None:
    octets = written(head=b"".join(b"X-%d: %s\r\n" % (number, b"y" * 70) for number in range(5000)))
    assert len(octets) < 70_000
    shown = list(parsed(octets).iter_parts())[2].get_payload()
    assert isinstance(shown, str)
    assert all(re.fullmatch(r"X-\d+: y{70}", line) for line in shown.splitlines())


def test_a_header_section_cannot_pretend_to_be_the_report() -> None:
    first = written()
    begin = first.index(b"--=_")
    octets = written(head=b"Subject: x\r\n" + first[begin : first.index(b"Subject: hello")])
    report = read_report(octets)
    assert report == Report("node.example", (BOB,))


def test_addresses_outside_ascii() -> None:
    eric = Reported("éric@isp.example", "failed", "5.1.1", "smtp; 550 é", "ünd\\er@pobox.example")
    octets = written(eric)
    assert octets.isascii() and b"utf-8; \\x{E9}ric@isp.example" in octets
    assert "éric@isp.example" in next(iter(parsed(octets).iter_parts())).get_content()
    report = read_report(octets)
    assert isinstance(report, Report)
    assert report.recipients == (Reported(eric.final, "failed", "5.1.1", "smtp; 550 ?", eric.original),)
    assert "To: <ü@x.example>\r\n".encode() in written(to="ü@x.example")


addresses = st.from_regex(r"[a-zé\\u4e00]{1,20}@[a-z]{1,10}\.example", fullmatch=True)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300)


@given(
    st.lists(
        st.builds(
            Reported,
            addresses,
            st.sampled_from(["failed", "delayed", "delivered", "relayed", "expanded"]),
            st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True),
            texts.map(lambda text: f"smtp; {text}"),
            addresses | st.just(""),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_we_write_we_read(recipients: list[Reported]) -> None:
    assert read_report(written(*recipients)) == Report("node.example", tuple(recipients))


@given(st.text(), st.text(), st.binary())
def test_nothing_that_others_say_breaks_out_of_its_line(said: str, text: str, head: bytes) -> None:
    octets = written(Reported("bob@isp.example", "failed", "5.0.0", f"smtp; {said}"), head=head, text=text)
    assert octets.isascii() and not re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
    report = read_report(octets)
    assert isinstance(report, Report) and [reported.final for reported in report.recipients] == ["bob@isp.example"]
    assert len(list(parsed(octets).iter_parts())) == 3
