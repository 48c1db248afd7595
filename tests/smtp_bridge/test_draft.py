"""A message on its way out: what is small costs no disk, what is large no memory, and nothing stays behind."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from forwarder_smtp_bridge.draft import KEPT, Draft
from forwarder_smtp_bridge.headers import HEAD
from forwarder_smtp_bridge.octets import Letter


async def read(letter: Letter) -> bytes:
    async with aclosing(letter.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize(
    "pieces", [[b"\r\n"], [b"small\r\n"], [b"x" * KEPT], [b"y" * KEPT, b"z"], [b"a" * 998 + b"\r\n"] * 500]
)
async def test_it_reads_as_it_was_written_each_time(tmp_path: Path, pieces: list[bytes]) -> None:
    draft, whole = Draft(tmp_path), b"".join(pieces)
    for piece in pieces:
        await draft.write(piece)
    letter = draft.finish()
    for _ in range(2):
        assert await read(letter) == whole.removesuffix(b"\r\n") + b"\r\n"
    assert letter.size == len(whole.removesuffix(b"\r\n") + b"\r\n")
    assert draft.head == whole[:HEAD]
    assert len(os.listdir(tmp_path)) == (len(whole) > KEPT)
    await draft.close()
    assert os.listdir(tmp_path) == []


async def test_what_is_small_needs_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", none)
    draft = Draft(tmp_path, front=b"Received: here\r\n")
    await draft.write(b"x" * (KEPT - 1000))
    assert len(await read(draft.finish())) == KEPT - 1000 + 18
    await draft.close()


async def test_several_read_a_large_one_at_once_a_piece_at_a_time(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    for number in range(100):
        await draft.write(b"%07d\r\n" % number * 1000)
    letter = draft.finish()
    one, other = letter.pieces(), letter.pieces()
    async with aclosing(one), aclosing(other):
        first = await anext(one)
        assert len(first) <= KEPT
        assert first == await anext(other)
        assert b"".join([first, *[piece async for piece in one]]) == b"".join(
            [first, *[piece async for piece in other]]
        )
    await draft.close()


async def test_what_was_cut_on_the_disk_is_no_message(tmp_path: Path) -> None:
    draft = Draft(tmp_path)
    for _ in range(4):
        await draft.write(b"x" * KEPT)
    letter = draft.finish()
    os.truncate(tmp_path / os.listdir(tmp_path)[0], KEPT + 5)
    with pytest.raises(OSError, match="octets are there"):
        await read(letter)
    await draft.close()
