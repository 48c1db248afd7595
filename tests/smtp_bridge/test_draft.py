"""A message on its way out: what is small costs no disk, what is large no memory, and nothing stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forwarder_smtp_bridge.draft import KEPT, Draft
from forwarder_smtp_bridge.headers import HEAD


@pytest.mark.parametrize("pieces", [[b""], [b"small"], [b"x" * KEPT], [b"y" * KEPT, b"z"], [b"a" * 1000] * 500])
async def test_it_reads_as_it_was_written_each_time(tmp_path: Path, pieces: list[bytes]) -> None:
    draft = Draft(tmp_path)
    for piece in pieces:
        await draft.write(piece)
    for _ in range(2):
        with draft.open() as file:
            assert file.read() == b"".join(pieces)
    assert draft.head == b"".join(pieces)[:HEAD]
    assert len(os.listdir(tmp_path)) == (sum(map(len, pieces)) > KEPT)
    await draft.close()
    assert os.listdir(tmp_path) == []
