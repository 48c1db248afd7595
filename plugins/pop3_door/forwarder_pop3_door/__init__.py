"""A POP3 door: an account's mailboxes, read with the mail programs people have (docs/bridges.md).

Two services, `pop3` (with STLS where there is a certificate) and `pop3_tls`; their options are `[bridge.pop3]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from pydantic import Field

from forwarder.bridges import Service, ServicePorts, ServiceSpec
from forwarder.plugin import Options, hookimpl
from forwarder_pop3_door.door import Door, Pop3Options

OTHERS = "read by the other bridges"


class BridgeOptions(Options):
    """The table [bridge], of which the door reads `pop3`."""

    pop3: Pop3Options = Field(default_factory=Pop3Options, description="the POP3 door")
    group: Any = Field(None, description=OTHERS)
    smtp_in: Any = Field(None, description=OTHERS)
    smtp_out: Any = Field(None, description=OTHERS)
    returns: Any = Field(None, description=OTHERS)
    submission: Any = Field(None, description=OTHERS)


def make(options: BridgeOptions, ports: ServicePorts, listeners: Sequence[trio.SocketListener]) -> Service:
    return Door(options.pop3, ports.login, listeners, log=ports.log, tls=ports.tls)


def make_tls(options: BridgeOptions, ports: ServicePorts, listeners: Sequence[trio.SocketListener]) -> Service:
    return Door(options.pop3, ports.login, listeners, log=ports.log, tls=ports.tls, secure=True)


@hookimpl
def forwarder_services() -> Sequence[ServiceSpec[BridgeOptions]]:
    return (
        ServiceSpec("pop3", "bridge", BridgeOptions, make),
        ServiceSpec("pop3_tls", "bridge", BridgeOptions, make_tls),
    )
