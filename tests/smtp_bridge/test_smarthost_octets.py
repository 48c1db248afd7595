"""What follows 354: nothing is touched but what SMTP forbids, and no message can end itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder_smtp_bridge.octets import PIECE, Stuffing

octets_ = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\xff", b"\0"]), max_size=40).map(
    b"".join
)


def sent(*message: bytes, stuffing: Stuffing | None = None) -> bytes:
    stuffing = stuffing or Stuffing()
    return b"".join(map(stuffing.feed, message)) + stuffing.finish() + b".\r\n"


def received(wire: bytes) -> bytes:
    """By the letter of RFC 5321 4.5.2: the first CRLF . CRLF ends it, and it must be the last."""
    end = (b"\r\n" + wire).index(b"\r\n.\r\n")
    assert end + 3 == len(wire), "the message ended itself"
    return (b"\r\n" + wire[:end]).replace(b"\r\n.", b"\r\n")[2:]


@given(octets_, st.data())
def test_lines_of_crlf_pass_unchanged_however_they_are_cut(octets: bytes, cuts: st.DataObject) -> None:
    clean = re.sub(rb"\r(?!\n)|(?<!\r)\n", b"x", octets) + b"\r\n"
    assert received(sent(*_cut(clean, cuts))) == clean


@given(octets_, st.data())
def test_whatever_it_holds_it_neither_ends_early_nor_has_a_bare_cr_or_lf(octets: bytes, cuts: st.DataObject) -> None:
    parts = _cut(octets, cuts)
    seen = Stuffing()
    wire = sent(*parts, stuffing=seen)
    whole = received(wire)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    expected = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", octets))
    assert whole == expected + (b"" if expected.endswith(b"\n") or not expected else b"\r\n")
    assert (seen.size, seen.eight_bit) == (len(whole), b"\xff" in octets)
    assert seen.changed == len(re.findall(rb"\r(?!\n)|(?<!\r)\n", octets))


def _cut(octets: bytes, cuts: st.DataObject) -> list[bytes]:
    at = sorted(cuts.draw(st.lists(st.integers(0, len(octets)), max_size=6)))
    return [octets[a:b] for a, b in zip([0, *at], [*at, len(octets)], strict=True)]


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\n\0.\r\n"]
)
def test_nothing_is_smuggled(end: bytes) -> None:
    smuggled = b"Subject: x\r\n\r\none" + end + b"MAIL FROM:<a@b.example>\r\n"
    for at in range(len(smuggled)):
        assert b"MAIL FROM" in received(sent(smuggled[:at], smuggled[at:]))


@given(octets_, st.data())
def test_a_return_path_from_outside_goes_and_nothing_else(octets: bytes, cuts: st.DataObject) -> None:
    rest = b"Delivered-To: x@y.example\r\nReturn-Path: <b@c>\r\n\r\nReturn-Path: <d@e>\r\n"
    message = b"Return-Path:\r\n <a@b.example>\r\n" + rest
    assert _without(*_cut(message, cuts)) == rest
    assert _without(*_cut(b"RETURN-path : x\n\t y\r\n" + rest, cuts)) == rest
    assert _without(*_cut(rest, cuts)) == rest
    here = Stuffing(b"Received: here\r\n")
    assert received(sent(*_cut(message, cuts), stuffing=here)) == b"Received: here\r\n" + message
    assert here.size == len(b"Received: here\r\n" + message)
    assert _without(*_cut(octets, cuts)) == received(sent(octets))


@pytest.mark.parametrize("whole", [b"", b"Ret", b"return-path", b"Return-Path: <a@b>\r\n", b"Return-Path: a\r\n b"])
def test_a_return_path_that_nothing_follows_stays(whole: bytes) -> None:
    assert _without(*[whole[at : at + 1] for at in range(len(whole))]) == received(sent(whole))


def test_a_return_path_without_end_stays() -> None:
    endless = b"Return-Path: x\r\n" + b" y\r\n" * PIECE
    assert _without(*[endless[at : at + 1000] for at in range(0, len(endless), 1000)]) == endless
    assert _without(b"Return-Path: " + b"x" * PIECE, b"x\r\n") == b"Return-Path: " + b"x" * (PIECE + 1) + b"\r\n"


def _without(*parts: bytes) -> bytes:
    return received(sent(*parts, stuffing=Stuffing(return_path=False)))
