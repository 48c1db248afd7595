"""Whether an endpoint is a listener of our own, under whatever name it was found (protocol 8.3).

A listener on all addresses of the machine is reached by each of them, and by no other machine's: most nodes of the
world listen on the same few ports.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

from forwarder.model import Endpoint

ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104  # looked for, not bound


def is_own(listeners: Collection[Endpoint], endpoint: Endpoint) -> bool:
    """endpoint: an address as `ipaddress` prints it, and a port."""
    if endpoint in listeners:
        return True
    wide = any(listener.port == endpoint.port and listener.address in ALL for listener in listeners)
    return wide and is_here(endpoint.address)


def is_here(address: str) -> bool:
    """Whether it is an address of this machine: the kernel lets nobody stand on another's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
