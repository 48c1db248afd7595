"""What comes before what when a node starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwarder.cli.errors import peel
from forwarder.config.fresh import write_fresh
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import load_settings
from forwarder.daemon import build, run


async def test_nothing_is_sent_before_the_memory_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own store repeats at once what was not settled: unknown, it would be owed, and carried, a second time."""
    folder = tmp_path / "config"
    doors = [f"listen.{name}=[]" for name in ("rnasp", "msrap", "rnaqp", "msoap", "dns")]
    write_fresh(folder, "mx1.pobox.example", "pobox.example", doors)
    steps: list[str] = []
    recall, start = build.recall, build.start

    async def recalled(node: Any) -> None:
        await recall(node)
        steps.append("recalled")

    def started(node: Any, nursery: Any) -> None:
        steps.append("started")
        start(node, nursery)

    async def served(*_: Any) -> None:
        steps.append("served")

    monkeypatch.setattr(run, "recall", recalled)
    monkeypatch.setattr(run, "start", started)
    monkeypatch.setattr(run, "_serve", served)
    await run.serve(load_settings(folder))
    assert steps == ["recalled", "started", "served"]


async def test_a_place_that_cannot_be_had_is_told_with_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    doors = [f"listen.{name}=[]" for name in ("rnasp", "msrap", "rnaqp", "msoap", "dns")]
    write_fresh(folder, "mx1.pobox.example", "pobox.example", [*doors, 'listen.lmtp=["unix:/nowhere/at/all"]'])
    lines = (folder / "forwarder.toml").read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if "/nowhere/at/all" in text]
    with pytest.RaisesGroup(ConfigErrors) as raised:
        await run.serve(load_settings(folder))
    errors = peel(raised.value)
    assert isinstance(errors, ConfigErrors)
    [error] = errors.errors
    assert str(error).startswith(f"forwarder.toml:{line}: listen.lmtp: cannot listen on unix:/nowhere/at/all: ")
