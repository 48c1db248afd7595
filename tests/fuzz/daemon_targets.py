"""What an operator's programs say to the daemon, and the trace they search."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import trio
from trio.testing import memory_stream_pair

from forwarder.daemon.control import Control
from forwarder.model import parse_mailbox
from forwarder.storage.trace import Trace, search

from .loop import Loop
from .target import Choices, Target, torn

DAY = "2027-01-15"
NOW = 1_800_000_000.0
FOUND_MOST = 5


async def _changed(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"address": str(parse_mailbox(str(asked.get("address", ""))))}


async def _status(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"asked": sorted(map(str, asked))}


async def _control(nursery: trio.Nursery, folder: Path) -> Callable[[bytes], Awaitable[None]]:
    control = Control(folder, {"changed": _changed, "status": _status})

    async def once(octets: bytes) -> None:
        """One line of JSON back, or the end of the stream: never of the daemon."""
        choices, line = Choices(octets[:4]), octets[4:]
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as talk:
            talk.start_soon(control._talk, cast(trio.SocketStream, theirs))
            with contextlib.suppress(trio.BrokenResourceError):  # he has heard enough
                for piece in torn(line, choices):
                    await ours.send_all(piece)
                await ours.send_eof()
            said = b"".join([piece async for piece in ours])
        if said:
            answer = json.loads(said)
            assert said.endswith(b"\n")
            assert said.count(b"\n") == 1
            assert answer["ok"] is True or isinstance(answer["error"], str)
        else:
            assert not line.endswith(b"\n") or not line

    return once


class Searches:
    """A segment that holds whatever it is given."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._segment = Path(self._folder.name, f"{DAY}.log")

    def __call__(self, octets: bytes) -> None:
        """The last whole lines with the needle are found, and nothing else."""
        needle, _, text = octets.partition(b"\n")
        self._segment.write_bytes(text)
        if not needle:
            return
        whole = text[: text.rfind(b"\n") + 1].split(b"\n")[:-1]
        wanted = [line.decode("utf-8", "replace") for line in whole if needle in line][-FOUND_MOST:]
        assert list(search(self._segment.parent, needle, FOUND_MOST)) == wanted

    def close(self) -> None:
        self._folder.cleanup()


async def _traced(nursery: trio.Nursery, root: Path) -> Callable[[bytes], Awaitable[None]]:
    numbers = itertools.count()

    async def once(octets: bytes) -> None:
        """Each line written is found as one line, whoever chose its words, behind an end that a crash tore."""
        folder = root / str(next(numbers) % 8)
        folder.mkdir(exist_ok=True)
        torn_end, *lines = (part.decode("utf-8", "replace") for part in octets.split(b"\0"))
        (folder / f"{DAY}.log").write_text(torn_end.replace("mark", ""))
        trace = Trace(folder, timedelta(days=1), lambda: NOW)
        for line in lines:
            trace.write(f"mark {line}")
        trace.close()
        await trace.run()
        found = [line for line in search(folder, b"mark", len(lines) + 1) if line.startswith("mark ")]
        assert len(found) == len(lines), (found, lines)

    return once


WORDS = [
    b'{"verb": "changed", "address": "a@b.example"}\n',
    b'"verb"',
    b"[",
    b"{",
    b"}",
    b'"',
    b":",
    b"\\ud800",
    b"\n",
    b"1e999",
]
TARGETS = [
    Target(
        "control",
        lambda: Loop(_control, 20_000),
        [b"\5\6\7\x08" + WORDS[0], bytes(4) + b"[" * 4000, b'\xff\0\0\0{"verb": ["status"]}\n'],
        WORDS,
    ),
    Target("search", Searches, [b"a\nxa\nb\nya", b"mark\nmark\n\nmark"], [b"\n", b"a", b"mark", b"\n\n"], 1024),
    Target(
        "trace", lambda: Loop(_traced, 20_000), [b"torn\0line\0two\nlines", b"\n\0\r"], [b"\0", b"\n", b"\r", b"mark "]
    ),
]
