"""Postfix at the edge asks us and hands mail over: its own smtpd and lmtp against our services."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from forwarder.model import Mailbox
from forwarder.testing import MemoryLog
from forwarder_smtp_bridge.events import Mail
from forwarder_smtp_bridge.outcomes import Kind, Reply
from forwarder_smtp_bridge.postfix import postfix_auth, postfix_map
from forwarder_smtp_bridge.serve import Envelope, Lmtp, Sink

from .private_postfix import postfix

MAIN = """
relay_domains = pobox.example
relay_transport = im2000:unix:{folder}/lmtp
im2000_destination_recipient_limit = 1
edge_recipients = permit_sasl_authenticated, reject_unauth_destination,
    check_recipient_access socketmap:unix:{folder}/map:access
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/auth
smtpd_sender_login_maps = socketmap:unix:{folder}/map:logins
smtpd_sender_restrictions = reject_sender_login_mismatch
smtpd_forbid_bare_newline = normalize
disable_mime_output_conversion = yes
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=yes -o mynetworks= -o local_header_rewrite_clients=
  -o smtpd_recipient_restrictions=$edge_recipients
im2000 unix - - n - 10 lmtp -o lmtp_line_length_limit=0 flags=DR
many unix - - n - 10 lmtp -o lmtp_line_length_limit=0
flush unix n - n 1000? 0 flush
"""
OK = Reply(250, "2.0.0", "ok")
ROWS: dict[str, tuple[Kind, str]] = {
    "b": ("taken", ""),
    "c": ("taken", ""),
    "full": ("full", ""),
    "off": ("off", ""),
    "broken": ("broken", ""),
    "loop": ("loop", ""),
    "moved": ("moved to", "try <new@x.example>"),
    "secret": ("refused", ""),
}


async def access(mailbox: Mailbox) -> tuple[Kind, str]:
    if mailbox.localpart == "hang":
        await trio.sleep_forever()
    return ROWS.get(mailbox.localpart, ("unknown", ""))


async def logins(mailbox: Mailbox) -> Sequence[str]:
    return ["bob"] if mailbox.localpart == "b" else []


async def verify(login: str, password: str, address: str) -> bool | None:
    assert address == "127.0.0.1"
    return None if login == "unsure" else (login, password) == ("bob", "right")


class Taker:
    """Keeps each message; the first is closed upon without an answer if `lose`."""

    def __init__(self) -> None:
        self.got: list[tuple[Envelope, bytes]] = []
        self.lose = False
        self.arrived = trio.Event()

    async def mail(self, mail: Mail) -> Reply:
        return OK

    async def rcpt(self, envelope: Envelope, mailbox: Mailbox) -> Reply:
        return Reply(550, "5.1.1", "gone since") if mailbox.localpart == "c" else OK

    async def data(self, envelope: Envelope) -> Sink | Reply:
        return Keeper(self, envelope)


class Keeper:
    def __init__(self, taker: Taker, envelope: Envelope) -> None:
        self._taker, self._envelope, self._octets = taker, envelope, b""

    async def write(self, octets: bytes) -> None:
        self._octets += octets

    async def commit(self) -> Sequence[Reply]:
        self._taker.got.append((self._envelope, self._octets))
        if self._taker.lose:
            self._taker.lose = False
            raise RuntimeError("the answer is lost")
        self._taker.arrived.set()
        return [OK] * len(self._envelope.recipients)

    async def abort(self) -> None:
        pass


class Edge(NamedTuple):
    port: int
    folder: Path

    async def flush(self) -> None:
        await trio.run_process(["postqueue", "-c", str(self.folder / "etc"), "-f"])

    async def log_of(self, count: int) -> list[str]:
        """What its lmtp client says of so many recipients, as soon as it has."""
        while True:
            lines = await trio.Path(self.folder / "maillog").read_text()
            if len(said := [line for line in lines.splitlines() if "/lmtp[" in line and "to=<" in line]) >= count:
                return said
            await trio.sleep(0.05)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listener(path: Path) -> trio.SocketListener:
    """On a unix socket that everybody may connect to."""
    plain = socket.socket(socket.AF_UNIX)
    plain.bind(str(path))
    path.chmod(0o666)
    plain.listen()
    plain.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))


@asynccontextmanager
async def edge(folder: Path, taker: Taker, *main: str) -> AsyncIterator[Edge]:
    log, port = MemoryLog(), free_port()
    services = {
        "map": postfix_map(access, logins, log).serve,
        "auth": postfix_auth(verify, log).serve,
        "lmtp": Lmtp("mx.pobox.example", taker, log, sessions=10, max_size=30 << 20).serve,
    }
    lines = [MAIN.format(folder=folder), *main], [MASTER.format(port=port)]
    async with trio.open_nursery() as nursery:
        for name, serve in services.items():
            nursery.start_soon(trio.serve_listeners, serve, [listener(folder / name)])
        with postfix(folder, free_port(), *lines):
            with trio.fail_after(20):
                yield Edge(port, folder)
        nursery.cancel_scope.cancel()


async def test_smtpd_says_what_we_say_of_a_recipient(open_folder: Path) -> None:
    expected = {
        "b": (250, b"2.1.5 Ok"),
        "B": (250, b"2.1.5 Ok"),
        "full": (250, b"2.1.5 Ok"),
        "loop": (250, b"2.1.5 Ok"),
        "nobody": (550, b"5.1.1 <nobody@pobox.example>: Recipient address rejected: no such mailbox"),
        "off": (450, b"4.2.1 <off@pobox.example>: Recipient address rejected: mailbox is switched off for now"),
        "moved": (551, b"5.1.6 <moved@pobox.example>: Recipient address rejected: try <new@x.example>"),
        "secret": (550, b"5.7.1 <secret@pobox.example>: Recipient address rejected: refused"),
        '"a b"': (550, b"5.1.1 <a b@pobox.example>: Recipient address rejected: no such mailbox"),
        "broken": (451, b"4.3.5 <broken@pobox.example>: Recipient address rejected: Server configuration problem"),
        "hang": (451, b""),
    }

    def ask(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo("x.example")
            client.docmd("MAIL", "FROM:<a@x.example>")
            return {name: client.docmd("RCPT", f"TO:<{name}@pobox.example>") for name in expected}

    async with edge(open_folder, Taker()) as running:
        answers = await trio.to_thread.run_sync(ask, running.port)
    assert {name: code for name, (code, _) in answers.items()} == {name: code for name, (code, _) in expected.items()}
    for name, (code, text) in expected.items():
        assert code == 451 or answers[name] == (code, text)


async def test_smtpd_lets_in_who_we_say_and_only_as_himself(open_folder: Path) -> None:
    def ask(port: int) -> list[tuple[int, bytes]]:
        answers: list[tuple[int, bytes]] = []
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo("x.example")
            for login, password in (("bob", "wrong"), ("unsure", "x"), ("bob", "right")):
                client.user, client.password = login, password
                code, text = (
                    client.auth("PLAIN", client.auth_plain, initial_response_ok=login != "unsure")
                    if (password == "right")
                    else refused(client, login)
                )
                answers.append((code, text))
            for sender in ("b@pobox.example", "c@pobox.example"):
                client.docmd("RSET")
                client.docmd("MAIL", f"FROM:<{sender}>")
                answers.append(client.docmd("RCPT", "TO:<x@world.example>"))
        return answers

    def refused(client: smtplib.SMTP, login: str) -> tuple[int, bytes]:
        with pytest.raises(smtplib.SMTPAuthenticationError) as error:
            client.auth("PLAIN", client.auth_plain, initial_response_ok=login != "unsure")
        assert isinstance(error.value.smtp_error, bytes)
        return error.value.smtp_code, error.value.smtp_error

    async with edge(open_folder, Taker()) as running:
        answers = await trio.to_thread.run_sync(ask, running.port)
    assert [code for code, _ in answers] == [535, 535, 235, 250, 553]
    assert answers[0][1].endswith(b"wrong login or password")
    assert answers[1][1].endswith(b"try again later")  # 3.7.11 knows no 454 here: the text is all it passes on
    assert b"not owned by user bob" in answers[4][1]


BODY = b"Subject: x\r\n\r\n.\r\n..\r\n.x\r\n\x00\x80\xff " + b"y" * 70_000 + b"\r\n\r\n\r\n"


def _send(port: int, recipients: list[str]) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@x.example", recipients, BODY)


async def test_postfix_hands_a_message_over_octet_by_octet(open_folder: Path) -> None:
    taker = Taker()
    async with edge(open_folder, taker) as running:
        await trio.to_thread.run_sync(_send, running.port, ["b@pobox.example"])
        await taker.arrived.wait()
    [(envelope, octets)] = taker.got
    assert envelope.mail.sender == "a@x.example"
    assert envelope.recipients == (Mailbox("b", "pobox.example"),)
    assert octets.startswith(b"Return-Path: <a@x.example>\r\nDelivered-To: b@pobox.example\r\nReceived: ")
    assert octets.endswith(b"\r\n" + BODY)


async def test_postfix_comes_again_with_the_same_octets_after_a_lost_answer(open_folder: Path) -> None:
    taker = Taker()
    taker.lose = True
    async with edge(open_folder, taker) as running:
        await trio.to_thread.run_sync(_send, running.port, ["b@pobox.example"])
        while not taker.arrived.is_set():
            await running.flush()
            with trio.move_on_after(0.5):
                await taker.arrived.wait()
    assert len(taker.got) == 2
    assert taker.got[0] == taker.got[1]


async def test_of_two_recipients_each_gets_his_own_answer(open_folder: Path) -> None:
    taker = Taker()
    async with edge(open_folder, taker, f"relay_transport = many:unix:{open_folder}/lmtp") as running:
        await trio.to_thread.run_sync(_send, running.port, ["c@pobox.example", "b@pobox.example"])
        await taker.arrived.wait()
        log = await running.log_of(2)
    assert [envelope.recipients for envelope, _ in taker.got] == [(Mailbox("b", "pobox.example"),)]
    assert any("to=<b@pobox.example>" in line and "status=sent (250 2.0.0 ok)" in line for line in log)
    assert any("to=<c@pobox.example>" in line and "status=bounced" in line and "gone since" in line for line in log)
