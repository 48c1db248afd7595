"""What follows 354: nothing is touched but what SMTP forbids, and no message can end itself."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder_smtp_bridge.octets import PIECE, data, pieces, survey

octets_ = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\xff", b"\0"]), max_size=40).map(
    b"".join
)


def sent(*message: bytes) -> bytes:
    return b"".join(data(message))


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
    wire = sent(*parts)
    whole = received(wire)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    expected = re.sub(rb"(?<!\r)\n", b"\r\n", re.sub(rb"\r(?!\n)", b" ", octets))
    assert whole == expected + (b"" if expected.endswith(b"\n") or not expected else b"\r\n")
    seen = survey(parts)
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


def test_the_dot_is_in_the_last_piece() -> None:
    wire = list(data([b"a\r\n" * 1000, b"b\r\n", b""]))
    assert wire[-1] == b"b\r\n.\r\n" and len(wire) == 2
    assert list(data([b""])) == [b".\r\n"]


def test_a_return_path_from_outside_goes_and_nothing_else() -> None:
    rest = b"Delivered-To: x@y.example\r\nReturn-Path: <b@c>\r\n\r\nReturn-Path: <d@e>\r\n"
    message = b"Return-Path:\r\n <a@b.example>\r\n" + rest
    assert b"".join(pieces(io.BytesIO(message), return_path=False)) == rest
    assert b"".join(pieces(io.BytesIO(message), front=b"Received: here\r\n")) == b"Received: here\r\n" + message
    assert b"".join(pieces(io.BytesIO(rest), return_path=False)) == rest
    endless = b"Return-Path: x\r\n" + b" y\r\n" * PIECE  # its end is not in the first piece
    assert len(b"Return-Path: x\r\n") % 4 == PIECE % 4
    assert b"".join(pieces(io.BytesIO(endless), return_path=False)) == endless
