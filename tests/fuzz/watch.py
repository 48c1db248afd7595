"""What no input may do beside raising: take a second of the processor, or leave memory behind."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import structlog

from .target import Once

SECONDS = 1.0
GROWTH = 96 << 20
"""Octets that a run may grow by once the bounded memories of the codec are full (speed 6)."""


class Hang(Exception):
    """One execution took over SECONDS of processor time."""


def watched(once: Once) -> Once:
    """The same, under a timer. Signals: this belongs to the main thread."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Hang(f"one execution took over {SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, late)
    arm: Callable[..., object] = signal.setitimer
    timer = signal.ITIMER_PROF

    def run(octets: bytes) -> None:
        arm(timer, SECONDS)
        try:
            once(octets)
        finally:
            arm(timer, 0)

    return run


def quiet() -> None:
    """What the rooms log of hostile input is no news here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def resident() -> int:
    """Octets of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
