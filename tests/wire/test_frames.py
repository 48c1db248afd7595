"""Frames come out as they went in, however the stream is cut (protocol 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.wire.der import MalformedPDU
from forwarder.wire.frames import Frames, frame

pdus = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def drain(frames: Frames) -> list[bytes]:
    found = []
    while (pdu := frames.next_pdu()) is not None:
        found.append(pdu)
    return found


@given(pdus, st.data())
def test_any_cutting_gives_the_same_pdus(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, sent))
    frames, found = Frames(100), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        frames.receive_data(stream[:cut])
        stream = stream[cut:]
        if data.draw(st.booleans()):  # not every piece is followed by a look
            found += drain(frames)
            assert frames.inside is not frames.empty
    found += drain(frames)
    assert found == sent
    assert frames.empty
    assert not frames.inside


@pytest.mark.parametrize("count", [0, 101, 2**32 - 1])
def test_a_length_of_zero_or_over_the_limit_is_refused_before_its_octets_come(count: int) -> None:
    frames = Frames(100)
    frames.receive_data(frame(b"x") + count.to_bytes(4, "big"))
    assert frames.next_pdu() == b"x"
    for _ in range(2):
        with pytest.raises(MalformedPDU):
            frames.next_pdu()


def test_the_limit_itself_passes() -> None:
    frames = Frames(100)
    frames.receive_data(frame(bytes(100)))
    assert frames.next_pdu() == bytes(100)


def test_a_pdu_that_waits_is_not_one_that_is_torn() -> None:
    frames = Frames(100)
    frames.receive_data(frame(b"abc"))
    assert not frames.inside
    assert not frames.empty
    frames.next_pdu()
    frames.receive_data(b"\0\0")
    assert frames.inside
