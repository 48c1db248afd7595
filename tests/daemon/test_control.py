"""The control socket: whatever is asked, an answer in one line, and the daemon lives on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from forwarder.daemon.control import SOCKET, Control


async def _well(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"said": "well"}


async def _refuses(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ValueError("nobody there")


async def _fails(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    raise OSError("the disk has gone")


async def ask(folder: Path, line: bytes) -> Any:
    async with await trio.open_unix_socket(folder / SOCKET) as stream:
        await stream.send_all(line)
        with trio.fail_after(10):
            return json.loads(b"".join([some async for some in stream]))


@pytest.fixture
def control(tmp_path: Path, nursery: trio.Nursery) -> Path:
    control = Control(tmp_path, {"well": _well, "refuses": _refuses, "fails": _fails})
    nursery.start_soon(control.run, control.listen())
    return tmp_path


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b"{}\n", b'{"verb": []}\n', b"\xff\n", b"[" * 5000 + b"\n", b"1" * 5000 + b"\n"]
)
async def test_what_is_no_request_is_told_so_and_the_next_is_served(control: Path, line: bytes) -> None:
    assert await ask(control, line) == {"ok": False, "error": "not a request"}
    assert await ask(control, b'{"verb": "well"}\n') == {"ok": True, "said": "well"}


async def test_a_verb_that_says_no_and_one_that_fails(control: Path) -> None:
    assert await ask(control, b'{"verb": "refuses"}\n') == {"ok": False, "error": "nobody there"}
    assert await ask(control, b'{"verb": "fails"}\n') == {
        "ok": False,
        "error": "failed; the log of the daemon says why",
    }
    assert await ask(control, b'{"verb": "well"}\n') == {"ok": True, "said": "well"}
