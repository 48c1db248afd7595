"""Where the nodes listen: each on a loopback address of its own with the usual ports, as far as they are free."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import NamedTuple

USUAL = {"rnasp": 7101, "msrap": 7102, "rnaqp": 7103, "msoap": 7104, "dns": 7153}
LOOPBACK = "127.0.0.1"
LOWEST, HANDED_OUT = 10_240, 32_768
"""Linux hands out ports from the second on to whoever connects; other systems from higher ones."""


class Place(NamedTuple):
    """One node's address, and its ports by service."""

    address: str
    ports: Mapping[str, int]

    def at(self, service: str) -> str:
        return f"{self.address}:{self.ports[service]}"


def place(number: int, *, usual: bool, taken: set[tuple[str, int]]) -> Place:
    """The number-th node's. usual: try the usual ports first. What is given is added to `taken`. Raises OSError."""
    address = f"127.0.0.{1 + number}"
    if not _free(address, 0):  # systems whose loopback is one address only
        address = LOOPBACK
    ports = {}
    for service, port in USUAL.items():
        wanted = port if usual and (address, port) not in taken else 0
        found = _free(address, wanted) or _free(address, 0)
        while (address, found) in taken:
            found = _free(address, 0)
        taken.add((address, found))
        ports[service] = found
    return Place(address, ports)


def quiet_port(taken: set[int]) -> int:
    """A free port of LOOPBACK that no system hands out by itself. What is given is added to `taken`. Raises OSError."""
    while True:
        port = LOWEST + secrets.randbelow(HANDED_OUT - LOWEST)
        if port not in taken and _free(LOOPBACK, port):
            taken.add(port)
            return port


def _free(address: str, port: int) -> int:
    """This port, or for 0 any, if it can be bound for TCP and UDP; else 0."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind((address, port))
            found = int(stream.getsockname()[1])
            datagram.bind((address, found))
        except OSError:
            return 0
        return found
