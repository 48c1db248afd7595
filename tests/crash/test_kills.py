"""The short mode: the real daemon is killed at every marked point of docs/states.md, and nothing acknowledged is lost.

The long mode is a command: `python tests/crash/harness.py --kills 2000 --seed N`.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from .campaign import campaign, marked_points
from .house import ROOT

KILLS = 150
SECONDS = 180  # on a machine that others share; alone it takes a seventh


@pytest.mark.timeout(SECONDS)
async def test_killed_at_every_marked_point_it_loses_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    made = await campaign(tmp_path, KILLS, seed, eager=True, progress=False)
    assert not made.lost, (seed, made.lost)
    assert not made.truth.wrong, (seed, made.truth.wrong)
    assert not made.unreached, (seed, made.unreached)


def test_each_marked_point_has_its_place_in_the_tables() -> None:
    text = (ROOT / "docs" / "states.md").read_text()
    named = set(re.findall(r"`([^`\n]+)`", text))
    assert not [point for point in marked_points() if point not in named]
