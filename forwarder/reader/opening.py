"""me.toml to objects: the notebook, the sessions, the way to stores. What `daemon/build.py` is for a node."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forwarder.config.settings import Networking, Resolve
from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter
from forwarder.net.client import Client
from forwarder.net.dial import Dialer
from forwarder.net.locate import Locator
from forwarder.net.resolve import Dns
from forwarder.ports import Agent, ServiceName
from forwarder.reader import me as me_file
from forwarder.reader.calls import Calls, Connect, Talk
from forwarder.reader.desk import Desk
from forwarder.reader.me import Me
from forwarder.reader.notebook import Notebook
from forwarder.wire.session import MSOAP, MSRAP, RNAQP

_PROTOCOLS = {"rnaqp": RNAQP, "msrap": MSRAP, "msoap": MSOAP}
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_SERVICES: tuple[ServiceName, ...] = ("rnasp", "msrap", "rnaqp", "msoap")


@asynccontextmanager
async def opened(me: str | None, config: str | None) -> AsyncIterator[Desk]:
    """The desk of the person whose me.toml this is. Raises ConfigErrors, NotebookError."""
    person = me_file.load(me, config)
    notebook = Notebook(person.notebook)
    try:
        yield Desk(person, notebook, _calls(person))
    finally:
        notebook.close()


def locator(resolve: Resolve, network: Networking) -> Locator:
    """Where others are, for somebody who listens nowhere himself."""
    static = {domain: _static(services) for domain, services in resolve.static.items()}
    names = Dns(resolve.nameservers, resolve.zones)
    return Locator(AddressFilter(network.allow, _nobody), names, static=static, literals=network.literals)


def _calls(me: Me) -> Calls:
    return Calls(
        connect_own=_connect(Dialer(AddressFilter(_EVERYWHERE, _nobody))),
        connect=_connect(Dialer(AddressFilter(me.network.allow, _nobody))),
        locator=locator(me.resolve, me.network),
        now=time.time,
        password=me.password,
    )


def _connect(dialer: Dialer) -> Connect:
    async def connect(agent: Agent, service: ServiceName) -> Talk:
        return await Client.connect(dialer.connect, agent, _PROTOCOLS[service])

    return connect


def _static(services: object) -> dict[ServiceName, tuple[str, int]]:
    found: dict[ServiceName, Endpoint | None] = {name: getattr(services, name) for name in _SERVICES}
    return {name: (place.address, place.port) for name, place in found.items() if place}


def _nobody(endpoint: Endpoint) -> bool:
    """A reader listens nowhere."""
    return False
