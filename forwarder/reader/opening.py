"""me.toml to objects: the notebook, the sessions, the way to stores. What `daemon/build.py` is for a node."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from forwarder.config.certificates import believe
from forwarder.config.lines import ConfigError, ConfigErrors
from forwarder.config.settings import Networking, Resolve
from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter, may_log_in
from forwarder.net.client import Client
from forwarder.net.dial import Dialer
from forwarder.net.locate import NO_CARRIERS, Locator, Takes
from forwarder.net.resolve import Dns
from forwarder.net.texts import TextRecords
from forwarder.net.tls import Trust, system_context, system_trust
from forwarder.net.tls_policy import TlsPolicy
from forwarder.ports import Agent, ServiceName
from forwarder.reader import me as me_file
from forwarder.reader.calls import Calls, Connect, Talk
from forwarder.reader.desk import Desk
from forwarder.reader.me import Me
from forwarder.reader.notebook import Notebook
from forwarder.wire.session import MSOAP, MSRAP, RNAQP

_PROTOCOLS = {"rnaqp": RNAQP, "msrap": MSRAP, "msoap": MSOAP}
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@asynccontextmanager
async def opened(me: str | None, config: str | None) -> AsyncIterator[Desk]:
    """The desk of the person whose me.toml this is. Raises ConfigErrors, NotebookError."""
    person = me_file.load(me, config)
    notebook = Notebook(person.notebook)
    try:
        yield Desk(person, notebook, _calls(person))
    finally:
        notebook.close()


def locator(resolve: Resolve, network: Networking, carriers: Mapping[str, Takes] = NO_CARRIERS) -> Locator:
    """Where others are, for somebody who listens nowhere himself. carriers: who reaches the rest, for node verbs."""
    static = {domain: services.places for domain, services in resolve.static.items()}
    names = Dns(resolve.nameservers, resolve.zones)
    policy = TlsPolicy(frozenset(network.require_tls), frozenset(network.clear_fallback))
    return Locator(
        AddressFilter(network.allow, _nobody),
        names,
        static=static,
        literals=network.literals,
        policy=policy,
        carriers=carriers,
        via=resolve.via,
    )


def _calls(me: Me) -> Calls:
    trust = _trust(me)
    return Calls(
        connect_own=_connect(Dialer(AddressFilter(_EVERYWHERE, _nobody)), trust),
        connect=_connect(Dialer(AddressFilter(me.network.allow, _nobody)), trust),
        locator=locator(me.resolve, me.network),
        now=time.time,
        password=me.password,
        clear_login=partial(may_log_in, allowed=me.network.clear_login),
        texts=TextRecords(Dns(me.resolve.nameservers, me.resolve.zones)),
    )


def _trust(me: Me) -> Trust:
    """The system's authorities are read when the first TLS service is met, a file of my own now."""
    if me.ca is None:
        return system_trust
    context = system_context()
    try:
        believe(context, me.ca)
    except ValueError as error:
        raise ConfigErrors([ConfigError(str(me.file), 0, "network.ca", str(error))]) from None
    return lambda: context


def _connect(dialer: Dialer, trust: Trust) -> Connect:
    async def connect(agent: Agent, service: ServiceName) -> Talk:
        return await Client.connect(dialer.connect, agent, _PROTOCOLS[service], trust)

    return connect


def _nobody(endpoint: Endpoint) -> bool:
    """A reader listens nowhere."""
    return False
