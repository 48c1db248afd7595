"""One target under the seeded mutator, in this process."""

from __future__ import annotations

import time
import traceback
from typing import NamedTuple

from .corpus import kept, store_finding
from .mutate import Mutator
from .target import Target, closed
from .watch import GROWTH, resident, watched

WARM = 0.3  # of the time: until then memories fill


class Ran(NamedTuple):
    """octets: of memory when warm, and at the end."""

    executions: int
    finding: str | None
    warm: int
    end: int


def seeded(target: Target, seed: int, *, seconds: float = 0.0, executions: int = 0) -> Ran:
    """So many seconds, or so many executions. The first inputs are the good and the kept ones as they are."""
    made = target.make()
    once, pool = watched(made), kept(target)
    mutations = Mutator(seed, pool, target.words, target.most)
    start, count, warm = time.monotonic(), 0, 0
    try:
        while count < executions if executions else time.monotonic() < start + seconds:
            octets = pool[count] if count < len(pool) else next(mutations)
            try:
                once(octets)
            except Exception:
                return Ran(count, f"{traceback.format_exc()}{store_finding(target, octets)}", warm, resident())
            count += 1
            if not warm and time.monotonic() > start + WARM * seconds:
                warm = resident()
    finally:
        closed(made)
    end = resident()
    grown = f"memory grew from {warm >> 20} to {end >> 20} MiB" if warm and end - warm > GROWTH else None
    return Ran(count, grown, warm, end)
