"""Smarthosts that others wrote: Postfix's smtp-sink, aiosmtpd; and dkimpy, which notices any octet that was touched."""

from __future__ import annotations

import base64
import functools
import os
import shutil
import socket
import subprocess
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dkim
import pytest
import trio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from forwarder.model import Mailbox
from forwarder_smtp_bridge.draft import Draft
from forwarder_smtp_bridge.fates import Sent
from forwarder_smtp_bridge.octets import PIECE
from forwarder_smtp_bridge.smarthost import Smarthost

from .scripted_smarthost import Script, Told, letter, smarthost_of

BOB = Mailbox("bob", "isp.example")
SINK = shutil.which("smtp-sink", path="/usr/sbin")
HARD = [
    b"",
    b".\r\n",
    b"..\r\n.\r\n...\r\n",
    b"Subject: trailing \t \r\n\r\nx \t\r\n\r\n\r\n\r\n",
    b"Subject: raw \xe9\xff\r\n\r\n\x00\x01\x1b\x7f\xff\r\n",
    b"Subject: x\r\n\r\n" + b"y" * 70_000 + b"\r\n",
    b"Subject: x\r\n\r\n" + b"z" * (PIECE - 14 - 2) + b"\r\n.\r\nafter the edge\r\n",
    b"Subject: x\r\n\r\n" + b"z" * (PIECE - 14 - 1) + b"\r\n.\r\nafter the edge\r\n",
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def smtp_sink(*arguments: str) -> AsyncIterator[Smarthost]:
    port = free_port()
    process = _start(*arguments, f"127.0.0.1:{port}", "64")
    try:
        with trio.fail_after(60):
            await _listening(port)
            smarthost = Smarthost("127.0.0.1", port, name="node.example", log=Told())
            yield smarthost
            await smarthost.close()
    finally:
        process.terminate()
        process.wait(10)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    if not SINK:
        pytest.skip("smtp-sink is not installed: apt-get install postfix")
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return subprocess.Popen([SINK, *user, *arguments])


async def _listening(port: int) -> None:
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.lowlevel.checkpoint()
        else:
            return


@pytest.fixture
def dump(open_folder: Path) -> Path:
    folder = open_folder / "sink"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    return folder


def _dumped(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.iterdir()]


async def test_smtp_sink_reads_every_octet_as_it_was(dump: Path) -> None:
    async with smtp_sink("-d", f"{dump}/m.") as smarthost:
        for octets in HARD:
            front = b"X-Begin: here\r\n"
            fates = await smarthost.carry("ann@x.example", [BOB], letter(octets, front=front))
            assert isinstance(fates[BOB], Sent)
    got = {dumped.split(b"X-Begin: here\n", 1)[1] for dumped in _dumped(dump)}
    assert got == {octets.replace(b"\r\n", b"\n") + b"\n" for octets in HARD}


async def test_many_go_over_four_sessions_and_none_twice(dump: Path) -> None:
    async with smtp_sink("-d", f"{dump}/m.", "-m", "4") as smarthost, trio.open_nursery() as nursery:
        for number in range(200):
            octets = b"X-Number: %d.\r\n\r\nx\r\n" % number
            nursery.start_soon(functools.partial(smarthost.carry, "ann@x.example", [BOB], letter(octets)))
    numbers = sorted(int(dumped.split(b"X-Number: ")[1].split(b".")[0]) for dumped in _dumped(dump))
    assert numbers == list(range(200))


async def test_a_sink_that_loses_its_last_answer_is_not_asked_again() -> None:
    async with smtp_sink("-M", "1") as smarthost:
        fates = await smarthost.carry("ann@x.example", [BOB], letter(HARD[3]))
    assert not isinstance(fates[BOB], Sent)


async def test_25_mib_cost_pieces_of_memory(tmp_path: Path) -> None:
    some = (b"0123456789abcdef" * 4 + b"\r\n") * 1000
    big = Draft(tmp_path)
    async with smtp_sink() as smarthost:
        await smarthost.carry("ann@x.example", [BOB], letter(HARD[3]))
        tracemalloc.start()
        try:
            await big.write(b"Subject: x\r\n\r\n")
            for _ in range(25 * 2**20 // len(some)):
                await big.write(some)
            fates = await smarthost.carry("ann@x.example", [BOB], big.finish())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await big.close()
    assert isinstance(fates[BOB], Sent)
    assert peak < 16 * PIECE, f"{peak} octets"


class _Kept:
    """aiosmtpd's handler: what it took for the message."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.messages.append(envelope.content)
        return "250 OK"


@pytest.fixture
def aiosmtpd() -> Iterator[Controller]:
    controller = Controller(_Kept(), hostname="127.0.0.1", port=free_port(), server_hostname="smart.example")
    controller.start()
    yield controller
    controller.stop()


async def test_aiosmtpd_reads_every_octet_as_it_was(aiosmtpd: Controller) -> None:
    short = [octets for octets in HARD if len(octets) < 50_000]  # it refuses long lines
    smarthost = Smarthost("127.0.0.1", aiosmtpd.port, name="node.example", log=Told())
    with trio.fail_after(30):
        for octets in short:
            assert isinstance((await smarthost.carry("", [BOB], letter(octets)))[BOB], Sent)
    await smarthost.close()
    assert aiosmtpd.handler.messages == short


@pytest.mark.parametrize("body", [octets for octets in HARD if b"Subject" in octets])
async def test_dkim_is_valid_still(body: bytes) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; p=" + base64.b64encode(public)
    message = b"From: ann@x.example\r\n" + body
    strict = (b"simple", b"simple")
    message = (
        dkim.sign(message, b"s", b"x.example", pem, canonicalize=strict, include_headers=[b"from", b"subject"])
        + message
    )
    script = Script()
    script.then("EHLO", b"250-smart.example\r\n250 8BITMIME")
    async with smarthost_of(script) as smarthost:
        arrived = b"Return-Path: <ann@x.example>\r\n" + message
        front = b"Delivered-To: bob@pobox.example\r\n"
        await smarthost.carry("ann@x.example", [BOB], letter(arrived, front=front, return_path=False))
    assert script.messages == [front + message]
    assert dkim.verify(script.messages[0], dnsfunc=lambda *_, **__: record)
