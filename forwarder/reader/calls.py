"""A reader's talks with his own services and with the stores that notifications name: opened, asked, judged.

Our own services are where me.toml says, and are dialled directly; stores out of notifications go by the locator and the
address filter. Abort is judged by the flag alone (protocol 2). What is harmless when repeated is repeated once, in a
new session, when an answer was lost.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import trio

from forwarder.config.tables import HostPort
from forwarder.model import Endpoint, Notification
from forwarder.net.sources import place_of
from forwarder.plugin import PeerError, Texts
from forwarder.ports import Agent, Clock, Gone, Locator, NoService, ServiceName
from forwarder.reader.me import Login, Where
from forwarder.wire.rnaqp import Authenticate, Authenticated

T = TypeVar("T")

GOODBYE = 2.0
"""Seconds for a session to close."""

_LEGACY = frozenset({"errormalformedpdu", "errorunexpectedcommand"})


class Talk(Protocol):
    """A session: one command, one response at a time. Raises PeerError when it ends before the answer."""

    async def ask(self, command: Any, /) -> Any: ...

    async def aclose(self) -> None: ...


Connect = Callable[[Agent, ServiceName], Awaitable[Talk]]


class Refused(PeerError):
    """The peer answered, and the answer is no. legacy: it does not know this command (protocol 5.0, detection)."""

    def __init__(self, text: str, *, status: str = "", abort: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.legacy = abort and status in _LEGACY


@dataclass(frozen=True, slots=True)
class Calls:
    """What the talks need of the world. connect_own: to services of mine, unfiltered; connect: to stores.

    clear_login: whether a password may go to this address without TLS.
    """

    connect_own: Connect
    connect: Connect
    locator: Locator
    now: Clock
    password: Callable[[Login], str]
    clear_login: Callable[[str], bool]
    texts: Texts

    @asynccontextmanager
    async def own(self, where: Where, service: ServiceName, me: Login) -> AsyncIterator[Talk]:
        """A session with a service of mine, logged in if I have an account there. Raises PeerError."""
        agent = (await resolve(where.place))._replace(name=where.name, tls=where.tls)
        safe = where.tls or all(self.clear_login(endpoint.address) for endpoint in agent.endpoints)
        if me.account is not None and not safe:
            text = f"the password would go to {where} in clear: use {service}_tls, or allow it by [network] clear_login"
            raise NoService("forbidden", text)
        async with _open(self.connect_own, agent, service) as talk:
            if me.account is not None:
                login = Authenticate(me.account, self.password(me))
                expect(await talk.ask(login), Authenticated, f"{me.account} at {where}")
            yield talk

    @asynccontextmanager
    async def store(self, notification: Notification) -> AsyncIterator[Talk]:
        """A session with the store that a notification names."""
        async with _open(self.connect, await self.locator.place(*place_of(notification)), "msrap") as talk:
            yield talk


@asynccontextmanager
async def _open(connect: Connect, agent: Agent, service: ServiceName) -> AsyncIterator[Talk]:
    talk = await connect(agent, service)
    try:
        yield talk
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE):
            await talk.aclose()


def expect(response: Any, kind: type[T], who: str) -> T:
    """The data of a good response. Raises Gone for errornosuchmessage, Refused for any other no."""
    status = response.status.name
    if status == "errornosuchmessage":
        raise Gone
    if status == "errornotauthenticated":
        raise Refused(f"{who}: not logged in (unknown account, wrong password, or TLS wanted)", status=status)
    if response.abort or status != "noerror":
        raise Refused(f"{who}: {status}", status=status, abort=response.abort)
    if not isinstance(response.data, kind):
        raise Refused(f"{who}: an answer to another question")
    return response.data


async def twice(deed: Callable[[], Awaitable[T]]) -> T:
    """A harmless deed; once more if its answer was lost on the way."""
    try:
        return await deed()
    except (Refused, NoService):
        raise
    except PeerError:
        return await deed()


async def resolve(where: HostPort) -> Agent:
    """A service of mine, as me.toml names it; a host name is asked of the system. Raises NoService."""
    try:
        return Agent((Endpoint(str(ipaddress.ip_address(where.host)), where.port),), where.host)
    except ValueError:
        pass
    try:
        found = await trio.socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoService("noserver", f"{where.host}: {error.strerror}") from None
    return Agent(tuple(dict.fromkeys(Endpoint(str(entry[4][0]), where.port) for entry in found)), where.host)
