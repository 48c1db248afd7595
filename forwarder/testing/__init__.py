"""For plugin authors: makers of values, the ports in memory, and `check_strategy`, which holds a strategy to its laws.

What strategies and screens get is in `memory`, what services and carriers get in `doors`; all of it is here by name.
"""

from __future__ import annotations

from forwarder.testing.check import check_strategy
from forwarder.testing.doors import (
    Carriage,
    MemoryCarryFailed,
    MemoryFailures,
    MemoryLook,
    MemoryMailbag,
    MemoryReader,
    MemorySpool,
    MemorySubmit,
    make_item,
    make_load,
    make_service_ports,
)
from forwarder.testing.memory import MemoryLog, MemorySource, MemoryTexts, TurnedClock, make_ports
from forwarder.testing.values import EXTENDED, KEY, NOON, make_case, make_notification, make_route

__all__ = [
    "EXTENDED",
    "KEY",
    "NOON",
    "Carriage",
    "MemoryCarryFailed",
    "MemoryFailures",
    "MemoryLog",
    "MemoryLook",
    "MemoryMailbag",
    "MemoryReader",
    "MemorySource",
    "MemorySpool",
    "MemorySubmit",
    "MemoryTexts",
    "TurnedClock",
    "check_strategy",
    "make_case",
    "make_item",
    "make_load",
    "make_notification",
    "make_ports",
    "make_route",
    "make_service_ports",
]
