"""kill -9 around the dot and around QUIT: what was answered counts, what was not may come again, nothing twice."""

from __future__ import annotations

import random
import socket
import threading
import time
from io import BufferedRWPair

import pytest

from ..program.node import PASSWORD  # noqa: TID252  # the real daemons that other tests have too
from ..program.peers import eventually  # noqa: TID252
from .edge import Edge

MAIL = b"From: ann@x.example\r\nMessage-ID: <%d@x.example>\r\nSubject: hello\r\n\r\nwords\r\n"
MOMENTS = (0.0, 0.002, 0.004, 0.006, 0.01, 0.02, 0.05)
ROUNDS, MAILS = 5, 30


def say(peer: BufferedRWPair, words: bytes) -> bytes:
    """The last line of the answer."""
    peer.write(words + b"\r\n")
    peer.flush()
    answer = peer.readline()
    while answer[3:4] == b"-":
        answer = peer.readline()
    return answer


def hand_over(edge: Edge, octets: bytes, kill_after: float | None = None) -> bytes:
    """As an MTA that speaks LMTP; the answer after the dot, if it came."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(30)
        plain.connect(str(edge.folder / "queue" / "forwarder" / "lmtp"))
        with plain.makefile("rwb") as peer:
            peer.readline()
            for words in (b"LHLO x", b"MAIL FROM:<ann@x.example>", b"RCPT TO:<brian@pobox.example>"):
                assert say(peer, words).startswith(b"250")
            assert say(peer, b"DATA").startswith(b"354")
            peer.write(octets + b".\r\n")
            peer.flush()
            if kill_after is not None:
                time.sleep(kill_after)
                edge.node.kill()
            try:
                return peer.readline()
            except ConnectionResetError:
                return b""


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_around_the_dot(edge: Edge, moment: float) -> None:
    """The MTA repeats what it heard no answer to: exactly one mail, whatever was on the disk already."""
    octets = MAIL % int(moment * 1000)
    answer = hand_over(edge, octets, moment)
    edge.node.start()
    if answer.startswith(b"250"):
        eventually(lambda: edge.waiting("brian") == 1)
    assert hand_over(edge, octets).startswith(b"250")
    assert edge.retrieves("brian") == [octets]
    assert hand_over(edge, octets).startswith(b"250")
    assert edge.waiting("brian") == 0


def test_killed_again_and_again_under_postfix_each_mail_comes_exactly_once(edge: Edge) -> None:
    chance = random.Random(2029)
    for turn in range(ROUNDS):
        numbers = range(turn * MAILS, (turn + 1) * MAILS)
        sending = threading.Thread(target=send_all, args=(edge, numbers))
        sending.start()
        time.sleep(chance.uniform(0.05, 0.6))
        edge.node.kill()
        edge.node.start()
        sending.join(60)
        assert not sending.is_alive()
    edge.is_empty()
    read = edge.retrieves("brian", ROUNDS * MAILS)
    assert sorted(map(number_of, read)) == list(range(ROUNDS * MAILS))


def send_all(edge: Edge, numbers: range) -> None:
    """Each until Postfix has it, as an MTA does."""
    for number in numbers:
        while True:
            try:
                edge.send("ann@x.example", "brian@pobox.example", MAIL % number)
                break
            except OSError:  # every exception of smtplib is one
                time.sleep(0.05)


def number_of(octets: bytes) -> int:
    return int(octets.partition(b"Message-ID: <")[2].partition(b"@")[0])


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_around_quit(edge: Edge, moment: float) -> None:
    """What +OK was said to stays away; without it the mail is there still, or is not: never half."""
    octets = MAIL % (1000 + int(moment * 1000))
    assert hand_over(edge, octets).startswith(b"250")
    eventually(lambda: edge.waiting("brian") == 1)
    with socket.create_connection(("127.0.0.1", edge.node.port("pop3")), 30) as plain, plain.makefile("rwb") as peer:
        peer.readline()
        for words in (b"USER brian", b"PASS " + PASSWORD.encode(), b"DELE 1"):
            assert say(peer, words).startswith(b"+OK")
        peer.write(b"QUIT\r\n")
        peer.flush()
        time.sleep(moment)
        edge.node.kill()
        try:
            answer = peer.readline()
        except ConnectionResetError:
            answer = b""
    edge.node.start()
    left = edge.waiting("brian")
    assert left == 0 or not answer.startswith(b"+OK")
    if left:
        assert edge.retrieves("brian") == [octets]
    eventually(lambda: edge.node.ask("status")["kept"]["messages"] == 0)
