"""The stores that notifications name, asked by MSRAP (ports.Sources): look, fetch in slices, silence, un-pin.

* At most SESSIONS to one store, idle ones closed after IDLE_SECONDS; a store of ours is asked in process.
* A store, at an address, has *proved itself* once it had a message there that was named. Before that it is a stranger's
  word: connections to it are counted as such (net/destinations.py), and none is kept.
* errornosuchmessage is Gone; every other error status, and every loss, is a PeerError.
* A peer that does not know QuerySize says so by an abort: then Retrieve(nothing) tells whether the message is there,
  and the peer is remembered for a day (5.0).
* A fetch that is torn goes on where it ended, once for each slice, and ends in any case in good time (8.9).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any

import trio

from forwarder.agent.limits import Strangers
from forwarder.model import Endpoint, Notification, Peer, ServiceLocation
from forwarder.net.client import Client, Dial
from forwarder.net.tls import Trust, note_fall_back, system_trust
from forwarder.plugin import PeerError
from forwarder.ports import Agent, BodySize, Clock, Conversation, Gone, Locator, Service, ServiceName
from forwarder.wire import msrap
from forwarder.wire.session import MSRAP

SESSIONS = 4
IDLE_SECONDS = 60.0
SLICE = 1 << 20
LEGACY_SECONDS = 86400
SLOWEST = 32 << 10
"""Octets a second that a store must give on average..."""
FETCH_SECONDS = 300.0
"""... and the time it has beside."""
STORES = 1000
"""Stores remembered at most; further ones that are not in use are forgotten first."""
PROVED = 10_000
"""Stores of which it is remembered that they proved themselves, those that did so last."""

INNER = Peer("", inner=True)


class StoreSources:
    """`run` closes idle sessions; `aclose` all. ours: whether a store's name is our own; local: then asked instead."""

    def __init__(
        self,
        locator: Locator,
        dial: Dial,
        clock: Clock,
        ours: Callable[[str], bool],
        local: Service,
        trust: Trust = system_trust,
        strangers: Strangers | None = None,
        dial_strange: Dial | None = None,
        missed: Callable[[Endpoint], None] = lambda _: None,
    ) -> None:
        """dial_strange: for stores that have not proved themselves. missed: hears where one had not what was named."""
        self._locator = locator
        self._dial = dial
        self._dial_strange = dial_strange or dial
        self._missed = missed
        self._proved: OrderedDict[tuple[Place, Endpoint], None] = OrderedDict()
        self._trust = trust
        self._strangers = strangers
        self._clock = clock
        self._ours = ours
        self._local = local
        self._stores: dict[Place, _Store] = {}
        self._used = trio.Event()

    async def run(self) -> None:
        """Closes what has been idle for IDLE_SECONDS. Sleeps while there is nothing to close."""
        while True:
            used = self._used
            oldest = min((store.oldest for store in self._stores.values()), default=math.inf)
            if oldest == math.inf:
                await used.wait()
            else:
                await trio.sleep_until(oldest + IDLE_SECONDS)
                for store in self._stores.values():
                    await store.close_idle(trio.current_time() - IDLE_SECONDS)

    async def aclose(self) -> None:
        for store in self._stores.values():
            await store.close_idle(math.inf)

    async def look(self, notification: Notification) -> BodySize:
        async with self._line(notification) as line:
            return await line.look(notification.identifier)

    async def head(self, notification: Notification, limit: int) -> bytes:
        head = bytearray()
        key, view = notification.identifier, msrap.View.headersonly
        async with self._line(notification) as line, aclosing(line.octets(key, view, limit)) as slices:
            async for piece in slices:
                head += piece
        return bytes(head[:limit])

    def body(self, notification: Notification, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._body(notification, limit)

    async def silence(self, notification: Notification) -> None:
        async with self._line(notification) as line:
            line.there(await line.ask(msrap.Silence(notification.identifier)))

    async def unpin(self, notification: Notification) -> None:
        async with self._line(notification) as line:
            line.there(await line.ask(msrap.UnPin(notification.identifier)))

    @asynccontextmanager
    async def _body(self, notification: Notification, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        key, view = notification.identifier, msrap.View.all
        async with self._line(notification) as line, aclosing(line.octets(key, view, limit, strict=True)) as slices:
            yield slices

    @asynccontextmanager
    async def _line(self, notification: Notification) -> AsyncIterator[_Line]:
        if self._ours(notification.store):
            conversation = self._local.open(INNER)
            try:
                yield _Line(_inside(conversation), _Store(self._clock))
            finally:
                await conversation.close()
            return
        place = place_of(notification)
        store = self._stores.get(place) or self._remember(place)
        async with store.limiter:
            agent = await self._placed(place)
            client = await store.take(partial(self._dial_to, place), agent, self._trust)
            try:
                yield _Line(client.ask, store, lambda: self._prove(place, client.endpoint))
            except Gone:
                if (place, client.endpoint) not in self._proved:
                    self._missed(client.endpoint)
                raise
            finally:
                with trio.CancelScope(shield=True):
                    await store.give(client, keep=(place, client.endpoint) in self._proved)
                self._used.set()
                self._used = trio.Event()

    async def _dial_to(self, place: Place, endpoint: Endpoint) -> trio.abc.Stream:
        return await (self._dial if (place, endpoint) in self._proved else self._dial_strange)(endpoint)

    def _prove(self, place: Place, endpoint: Endpoint) -> None:
        self._proved[place, endpoint] = None
        self._proved.move_to_end((place, endpoint))
        if len(self._proved) > PROVED:
            self._proved.popitem(last=False)

    async def _placed(self, place: Place) -> Agent:
        """Where a store is; a name that we have never found costs a look-up of those that strangers may cause."""
        location, service = place
        domain = location.domain
        if domain is None or self._strangers is None or self._locator.known(domain, service) is not None:
            return await self._locator.place(location, service)
        if not self._strangers.admit(domain):
            raise PeerError(f"{domain}: over the limit look-ups of strange names")
        agent = await self._locator.place(location, service)
        self._strangers.good(domain)
        return agent

    def _remember(self, place: Place) -> _Store:
        if len(self._stores) >= STORES:
            unused = [known for known, store in self._stores.items() if store.unused]
            for known in unused[: STORES // 2]:
                del self._stores[known]
        return self._stores.setdefault(place, _Store(self._clock))


class _Store:
    """What we know of one store: its sessions that are free, and whether it is one of 2004."""

    def __init__(self, clock: Clock) -> None:
        self.limiter = trio.CapacityLimiter(SESSIONS)
        self._clock = clock
        self._idle: list[tuple[float, Client]] = []
        self._legacy_until = 0.0

    @property
    def unused(self) -> bool:
        return not self._idle and not self.limiter.borrowed_tokens and not self.limiter.statistics().tasks_waiting

    @property
    def oldest(self) -> float:
        return self._idle[0][0] if self._idle else math.inf

    @property
    def legacy(self) -> bool:
        return self._clock() < self._legacy_until

    def is_legacy(self) -> None:
        self._legacy_until = self._clock() + LEGACY_SECONDS

    async def take(self, dial: Dial, agent: Agent, trust: Trust) -> Client:
        while self._idle:
            client = self._idle.pop()[1]
            if client.open and client.agent == agent:
                return client
            await client.aclose()
        client = await Client.connect(dial, agent, MSRAP, trust)
        if client.fell_back:
            note_fall_back(agent.name, client.fell_back)
        return client

    async def give(self, client: Client, *, keep: bool) -> None:
        if client.open and keep:
            self._idle.append((trio.current_time(), client))
        else:
            await client.aclose()

    async def close_idle(self, before: float) -> None:
        while self._idle and self._idle[0][0] <= before:
            await self._idle.pop(0)[1].aclose()


class _Line:
    """One conversation with a store, over a socket or in process. had_it is called when the message named was there."""

    def __init__(
        self, ask: Callable[[Any], Awaitable[Any]], store: _Store, had_it: Callable[[], None] = lambda: None
    ) -> None:
        self.ask = ask
        self._store = store
        self._had_it = had_it

    def there(self, response: Any) -> Any:
        """The response's data. Raises Gone, PeerError."""
        data = _checked(response)
        self._had_it()
        return data

    async def look(self, key: bytes) -> BodySize:
        if not self._store.legacy:
            response = await self.ask(msrap.QuerySize(key))
            if not _unknown_arm(response):
                size = self.there(response)
                if not isinstance(size, msrap.Size):
                    raise PeerError("the answer is to another question")
                return BodySize(size.size, size.digest, size.expires)
            self._store.is_legacy()
        self.there(await self.ask(msrap.Retrieve(key, msrap.View.nothing, 0, 0)))
        return BodySize(None, None, None)

    async def octets(
        self, key: bytes, view: msrap.View, limit: int, *, strict: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """A view from its start, in slices. strict: PeerError beyond `limit`; else it ends there."""
        offset = 0
        deadline = trio.current_time() + FETCH_SECONDS + limit / SLOWEST
        while offset < limit or strict:
            if trio.current_time() > deadline:
                raise PeerError("the store gives its octets too slowly")
            wanted = min(SLICE, limit - offset) or 1
            got = await self._slice(msrap.Retrieve(key, view, offset, wanted))
            offset += len(got.data)
            if len(got.data) > wanted or offset > limit:
                raise PeerError(f"more than {limit} octets")
            if got.data:
                yield got.data
            if not got.data or offset == got.size:
                return

    async def _slice(self, command: msrap.Retrieve) -> msrap.Retrieved:
        try:
            response = await self.ask(command)
        except PeerError:  # the session is over; the next `ask` opens another and goes on where this one ended
            response = await self.ask(command)
        got = self.there(response)
        if not isinstance(got, msrap.Retrieved):
            raise PeerError("the answer is to another question")
        return got


def _inside(conversation: Conversation) -> Callable[[Any], Awaitable[Any]]:
    async def ask(command: Any) -> Any:
        try:
            return await conversation.answer(command)
        except Exception as error:  # the server would say errorinternalproblem
            raise PeerError(f"our own store failed: {error!r}") from error

    return ask


Place = tuple[ServiceLocation, ServiceName]


def place_of(notification: Notification) -> Place:
    """Where to ask for a message: over TLS where the notification names that (protocol 8.6)."""
    ssl = notification.storessl
    if ssl is not None and (ssl.domain or ssl.literals):
        return ssl, "msraps"
    return notification.storeclear, "msrap"


def _unknown_arm(response: Any) -> bool:
    return bool(response.abort) and response.status.name in ("errormalformedpdu", "errorunexpectedcommand")


def _checked(response: Any) -> Any:
    """The response's data. Raises Gone, PeerError."""
    if response.status.name == "errornosuchmessage":
        raise Gone
    if response.abort or response.status.name != "noerror":
        raise PeerError(f"the store says {response.status.name}")
    return response.data
