"""Hostile packets: dropped or answered with an error, never an exception, never an answer longer than is due."""

from __future__ import annotations

import random

import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.dns.answer import Answerer
from forwarder.dns.zone import Zone, ZoneFacts

QUESTION = b"\4mx1x\5pobox\7example\0\0\1\0\1".replace(b"\4mx1x", b"\3mx1")
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def packet(question: bytes, counts: tuple[int, int, int, int] = (1, 0, 0, 0), flags: bytes = b"\1\0") -> bytes:
    return b"id" + flags + b"".join(count.to_bytes(2, "big") for count in counts) + question


GOOD = packet(QUESTION + OPT, (1, 0, 0, 1))


@pytest.fixture(scope="module")
def answerer(facts: ZoneFacts) -> Answerer:
    return Answerer([Zone(facts)])


def rcode(answerer: Answerer, octets: bytes) -> int | None:
    answer = answerer.answer_udp(octets)
    assert answer == answerer.answer_tcp(octets)
    return None if answer is None else dns.message.from_wire(answer).rcode()


def test_the_good_one(answerer: Answerer) -> None:
    assert rcode(answerer, GOOD) == rcode(answerer, packet(QUESTION)) == dns.rcode.NOERROR


@pytest.mark.parametrize("octets", [b"", b"id", GOOD[:11], packet(QUESTION, flags=b"\x81\0")])
def test_what_is_no_query_is_dropped(answerer: Answerer, octets: bytes) -> None:
    assert rcode(answerer, octets) is None


@pytest.mark.parametrize(
    "octets",
    [
        packet(b"", (0, 0, 0, 0)),
        packet(QUESTION + QUESTION, (2, 0, 0, 0)),
        packet(QUESTION, (1, 1, 0, 0)),
        packet(QUESTION, (1, 0, 1, 0)),
        packet(QUESTION, (1, 0, 0, 65535)),
        packet(QUESTION[:-1]),
        packet(QUESTION + b"x"),
        packet(b"\xc0\x0c\0\1\0\1"),
        packet(b"\3mx1\xc0\x0c\0\1\0\1"),
        packet(b"\x40" + b"a" * 64 + QUESTION),
        packet((b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"),
        packet(b"\1a" * 128 + b"\0\0\1\0\1"),
        packet(QUESTION + OPT + OPT, (1, 0, 0, 2)),
        packet(QUESTION + b"\1a" + OPT, (1, 0, 0, 1)),
        packet(QUESTION + OPT[:-1] + b"\1", (1, 0, 0, 1)),
        packet(QUESTION + OPT[:-3], (1, 0, 0, 1)),
        packet(QUESTION + b"\x80" + OPT, (1, 0, 0, 1)),
    ],
)
def test_what_is_no_good_query_is_formerr(answerer: Answerer, octets: bytes) -> None:
    assert rcode(answerer, octets) == dns.rcode.FORMERR


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_operations_are_not_implemented(answerer: Answerer, opcode: int) -> None:
    octets = packet(QUESTION, flags=bytes([opcode << 3, 0]))
    answer = answerer.answer_udp(octets)
    assert answer is not None
    parsed = dns.message.from_wire(answer)
    assert (parsed.rcode(), parsed.opcode()) == (dns.rcode.NOTIMP, dns.opcode.from_flags(opcode << 11))


def test_a_record_beside_the_opt_is_passed_over(answerer: Answerer) -> None:
    signature = b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\3abc"
    assert rcode(answerer, packet(QUESTION + signature + OPT, (1, 0, 0, 2))) == dns.rcode.NOERROR


@given(st.binary(max_size=80))
def test_noise(answerer: Answerer, octets: bytes) -> None:
    for candidate in (octets, GOOD[:12] + octets, GOOD + octets):
        answer = answerer.answer_udp(candidate)
        assert answer is None or dns.message.from_wire(answer).rcode() in range(17)
        slip = answerer.truncated(candidate)
        assert slip is None or len(slip) <= len(candidate)


def test_damaged_queries(answerer: Answerer) -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        octets = bytearray(GOOD)
        for _ in range(chance.randrange(1, 5)):
            octets[chance.randrange(2, len(octets))] = chance.randrange(256)
        damaged = bytes(octets[: chance.randrange(len(octets) + 1)] if chance.random() < 0.2 else octets)
        answer = answerer.answer_udp(damaged)
        assert answer is None or len(answer) <= 1232
