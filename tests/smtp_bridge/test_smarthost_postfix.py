"""Out through a real Postfix, and its reports back, with the lines of bridges.md 10."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import dkim
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from forwarder.model import Mailbox
from forwarder_smtp_bridge.fates import Refused, Sent
from forwarder_smtp_bridge.reports import Report, read_report
from forwarder_smtp_bridge.returns import Forged, Outgoing, ReturnPaths, Row
from forwarder_smtp_bridge.smarthost import Smarthost

from .private_postfix import postfix
from .scripted_smarthost import Script, Told, letter
from .test_smarthost_peers import free_port

BOB, GONE = Mailbox("bob", "isp.example"), Mailbox("gone", "isp.example")
LINES = ("smtpd_forbid_bare_newline_exclusions = $mynetworks", "disable_mime_output_conversion = yes")


@asynccontextmanager
async def world(folder: Path, *lines: str) -> AsyncIterator[tuple[Smarthost, Script]]:
    """We, Postfix, and the far side, to which all mail goes, reports too."""
    far, port = Script(), free_port()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, far.serve, listeners)
        relay = f"default_transport = smtp:[127.0.0.1]:{listeners[0].socket.getsockname()[1]}"
        with postfix(folder, port, [*LINES, *lines, relay]), trio.fail_after(60):
            smarthost = Smarthost("127.0.0.1", port, name="node.example", log=Told())
            yield smarthost, far
            await smarthost.close()
        nursery.cancel_scope.cancel()


def signed(message: bytes) -> tuple[bytes, bytes]:
    """With a DKIM signature that minds every octet; and its DNS record."""
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    named = [b"from", b"subject", b"date", b"message-id"]
    line = dkim.sign(message, b"s", b"x.example", pem, canonicalize=(b"simple", b"simple"), include_headers=named)
    return line + message, b"v=DKIM1; p=" + base64.b64encode(public)


async def test_octets_pass_and_dkim_is_valid_at_the_far_side(open_folder: Path) -> None:
    head = b"From: Ann <ann@x.example>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@x.example>\r\n"
    message, record = signed(
        head + b"Subject: raw \xe9\r\n\r\n.\r\n..\r\n \xff\x01 \t\r\n\r\n" + b"y" * 900 + b"\r\n\r\n"
    )
    async with world(open_folder) as (smarthost, far):
        front = b"Delivered-To: ann@pobox.example\r\n"
        fates = await smarthost.carry("ann@x.example", [BOB], letter(message, front=front))
        assert isinstance(fates[BOB], Sent) and "queued as" in fates[BOB].text
        (arrived,) = await far.received(1)
    assert arrived.endswith(front + message)
    assert dkim.verify(arrived, dnsfunc=lambda *_, **__: record)


async def test_lf_dot_crlf_of_a_native_originator_injects_nothing_though_postfix_would_take_it(
    open_folder: Path,
) -> None:
    smuggled = (
        b"From: ann@x.example\r\n\r\none\n.\r\nMAIL FROM:<e@x.example>\r\nRCPT TO:<v@y.example>\r\nDATA\r\nevil\r\n"
    )
    async with world(open_folder) as (smarthost, far):
        sent = letter(smuggled)
        fates = await smarthost.carry("ann@x.example", [BOB], sent)
        assert isinstance(fates[BOB], Sent) and sent.changed == 1
        await smarthost.carry("last@x.example", [BOB], letter(b"From: x@y.example\r\n\r\nlast\r\n"))
        arrived = await far.received(2)
    assert len(arrived) == 2 and not any("v@y.example" in line for line in far.heard)
    assert any(b"\r\n\r\none\r\n.\r\nMAIL FROM:<e@x.example>\r\n" in message for message in arrived)


async def test_a_report_finds_its_row(open_folder: Path) -> None:
    paths = ReturnPaths("srs.pobox.example", [b"a secret of ours, long"], now=lambda: datetime.now(UTC))
    sender = paths.envelope_sender(Outgoing("native", 4711))
    async with world(open_folder) as (smarthost, far):
        far.then(f"RCPT TO:<{GONE}>", *[b"550 5.1.1 no such user here"] * 3)
        fates = await smarthost.carry(sender, [GONE, BOB], letter(b"From: ann@x.example\r\n\r\nx\r\n"))
        assert [type(fate) for fate in fates.values()] == [Sent, Sent]
        reports = [message for message in await far.received(2) if b"multipart/report" in message]
    to = next(line for line in far.heard if line.lower().startswith("rcpt to:<b="))
    assert "MAIL FROM:<>" in " ".join(far.heard)
    assert paths.reverse(to.removeprefix("RCPT TO:<").removesuffix(">")) == Row(4711)
    report = read_report(reports[0])
    assert isinstance(report, Report)
    assert [(told.mailboxes(), told.action, told.status) for told in report.recipients] == [
        ((GONE,), "failed", "5.1.1")
    ]


async def test_srs_and_b_paths_pass_postfix_unharmed(open_folder: Path) -> None:
    paths = ReturnPaths("srs.pobox.example", [b"a secret of ours, long"], now=lambda: datetime.now(UTC))
    senders = [
        paths.row_path(1),
        *(paths.envelope_sender(Outgoing("smtp", 1, who)) for who in ("Ann+x@X.example", '"a b"@x.example')),
    ]
    async with world(open_folder) as (smarthost, far):
        for sender in senders:
            await smarthost.carry(sender, [BOB], letter(b"From: ann@x.example\r\n\r\nx\r\n"))
        await far.received(len(senders))
    seen = {line.split(">")[0].removeprefix("MAIL FROM:<") for line in far.heard if line.startswith("MAIL")}
    assert seen == set(senders)
    assert not any(isinstance(paths.reverse(sender), Forged) for sender in seen)


async def test_what_postfix_refuses_itself(open_folder: Path) -> None:
    async with world(open_folder, "message_size_limit = 1000", "smtputf8_enable = no") as (smarthost, _):
        fates = await smarthost.carry("a@x.example", [BOB], letter(b"From: a@x.example\r\n\r\n" + b"x\r\n" * 500))
        too_big = fates[BOB]
        assert isinstance(too_big, Refused) and (too_big.code, too_big.status) == (552, "5.3.4")
        eric = Mailbox("éric", "isp.example")
        fates = await smarthost.carry("a@x.example", [eric, BOB], letter(b"From: a@x.example\r\n\r\nx\r\n"))
        assert isinstance(fates[BOB], Sent) and isinstance(fates[eric], Refused)
