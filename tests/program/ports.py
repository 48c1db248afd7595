"""Ports on loopback that a test must know before somebody listens there, or that shall stay closed.

The system hands out ports of its own range only, for port 0 and to whoever connects; one from below that range stays
free until it is asked for by number. Tests that run at the same time draw from twenty thousand.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST = 10_240
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
TRIES = 100

_given: set[int] = set()
_chance = random.SystemRandom()


def free_port() -> int:
    """Free for TCP and for UDP, and given to nobody else in this process."""
    beyond = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    for _ in range(TRIES):
        port = _chance.randrange(LOWEST, beyond)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        try:
            stream.bind((LOOPBACK, port))
            datagram.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
