"""A message inside an answer, un-stuffed by poplib as the oracle: what went in comes out, whatever its slices."""

from __future__ import annotations

import io
import poplib
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forwarder_pop3_door.stuffing import END, Stuffing

BODIES = st.lists(
    st.sampled_from(
        [b".", b"..", b"\r\n", b"\r\n.", b".\r\n", b"\r", b"\n", b"x", b"\0", b"\xff", b"Subject: y", b" "]
    ),
    max_size=40,
).map(b"".join)
EDGES = st.lists(st.integers(0, 80), max_size=20)


def sliced(body: bytes, edges: list[int]) -> list[bytes]:
    cuts = sorted({0, len(body), *(edge for edge in edges if edge < len(body))})
    return [body[at:to] for at, to in pairwise(cuts)]


def sent(body: bytes, edges: list[int], lines: int | None = None) -> bytes:
    stuffing = Stuffing(lines)
    return b"".join(map(stuffing.feed, sliced(body, edges))) + stuffing.end()


def read_by_poplib(octets: bytes) -> tuple[bytes, bytes]:
    """The message as Python's own client takes it, and what it left unread."""
    client: Any = poplib.POP3.__new__(poplib.POP3)
    client.file = io.BytesIO(b"+OK\r\n" + octets)
    client._debugging = 0
    _, lines, _ = client._getlongresp()
    return b"".join(line + b"\r\n" for line in lines), client.file.read()


def as_mail(body: bytes) -> bytes:
    """With CRLF at every line's end, the last one's too."""
    body = re.sub(rb"(?<!\r)\n", b"\r\n", body)
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


@given(BODIES, EDGES)
@example(b".", [])
@example(b"\r\n.\r\n", [2])
@example(b"a\r\n.b", [3])
@example(b"a\r", [])
@example(b"\n.\nQUIT\n", [1])
def test_what_poplib_reads_is_the_message(body: bytes, edges: list[int]) -> None:
    assert read_by_poplib(sent(body, edges)) == (as_mail(body), b"")


@given(BODIES, EDGES)
def test_a_message_of_crlf_lines_is_the_same_octet_for_octet(body: bytes, edges: list[int]) -> None:
    body = body.replace(b"\n", b"").replace(b"\r", b"\r\n")
    octets = sent(body, edges)
    assert octets.endswith(END)
    unstuffed = re.sub(rb"(?m)^\.", b"", octets.removesuffix(END))
    assert unstuffed == (body if not body or body.endswith(b"\r\n") else body + b"\r\n")


@given(BODIES, EDGES)
def test_the_edges_of_slices_are_not_seen(body: bytes, edges: list[int]) -> None:
    assert sent(body, edges) == sent(body, [])


@given(BODIES, EDGES, st.integers(0, 12))
def test_top_is_the_header_section_and_so_many_lines(body: bytes, edges: list[int], most: int) -> None:
    message = as_mail(body)
    head, end, rest = (b"", b"\r\n", message[2:]) if message.startswith(b"\r\n") else message.partition(b"\r\n\r\n")
    expected = head + end + b"".join(re.findall(rb"[^\n]*\n", rest)[:most])
    assert read_by_poplib(sent(body, edges, most)) == (expected, b"")


def test_top_says_when_it_has_enough() -> None:
    stuffing = Stuffing(1)
    stuffing.feed(b"Subject: x\r\n\r\none")
    assert not stuffing.full
    assert stuffing.feed(b"\r\ntwo\r\n") == b"\r\n"
    assert stuffing.full


@pytest.mark.parametrize("line", [b"x" * 70_000, b"." * 70_000])
def test_lines_of_70_000_octets_stay_whole(line: bytes) -> None:
    octets = sent(line + b"\r\n", [4096, 65536])
    assert octets == (b"." if line.startswith(b".") else b"") + line + b"\r\n" + END


def test_an_empty_message_is_the_dot_alone() -> None:
    assert sent(b"", []) == END
