"""The pool of RNASP client sessions behind the core's links. One task a session, none a notification.

A batch lost on a session that had served before, or that its server gave up, is repeated once on a new one. An idle
session that becomes readable is closed: a late last word would pass for the next answer. Deadlines are numbers, read by
one clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from forwarder.model import FEATURES, Endpoint
from forwarder.net.channel import Channel
from forwarder.net.tls import Trust, note_fall_back, secured, system_trust
from forwarder.plugin import PeerError
from forwarder.ports import Agent, Heard, Lost, Results, Status2004
from forwarder.wire.der import MalformedPDU
from forwarder.wire.rnasp import Capabilities, NotifyAnswer, Response, Status, encode_batch, encode_capabilities
from forwarder.wire.session import NEED_DATA, RNASP, ClientSession, State

ANSWER = 60.0
IDLE = 50.0
CLOCK = 1.0

GIVEN_UP = frozenset({Status.errorcommandtimeout, Status.errorserviceshutdown})
"""What a server says of a session that it ends by itself, perhaps while our next command is on its way (protocol 2)."""

Dial = Callable[[Endpoint], Awaitable[trio.SocketStream]]
Done = Callable[[Heard], None]
LaneName = tuple[tuple[Endpoint, ...], str, str | bool]
"""Endpoints, lane, and what TLS proved: a server that two domains share is two agents where it must prove both."""

log = structlog.get_logger("forwarder.net")


class _Errand:
    """A batch on its way. `again`: it may be repeated on a new session."""

    __slots__ = ("_done", "again", "pdu")

    def __init__(self, pdu: bytes, done: Done) -> None:
        self.pdu = pdu
        self._done = done
        self.again = True

    def tell(self, heard: Heard) -> None:
        """A bug in what follows ends with this batch, not with the session that carried it."""
        try:
            self._done(heard)
        except Exception as error:
            log.error("answer not handled", error=f"{type(error).__name__}: {error}", exc_info=error)


class _Session:
    __slots__ = ("channel", "errand", "served", "since", "wire")

    def __init__(self, channel: Channel, now: float) -> None:
        self.channel = channel
        self.wire = ClientSession(RNASP)
        self.errand: _Errand | None = None
        self.served = False
        self.since = now

    def carry(self, errand: _Errand, now: float) -> None:
        self.errand = errand
        self.since = now
        self.channel.send(self.wire.send_pdu(errand.pdu))


class _Lane:
    __slots__ = ("connecting", "idle", "live")

    def __init__(self) -> None:
        self.idle: list[_Session] = []
        self.live: set[_Session] = set()
        self.connecting = 0


class Pool:
    """Implements ports.Sessions. `dial` connects to one endpoint and has a deadline of its own."""

    def __init__(self, dial: Dial, nursery: trio.Nursery, *, name: str, trust: Trust = system_trust) -> None:
        self._dial = dial
        self._trust = trust
        self._nursery = nursery
        self._lanes: dict[LaneName, _Lane] = {}
        self._awake = trio.Event()
        self._now = 0.0
        self._offer = {
            redirect: encode_capabilities(Capabilities(1, FEATURES if redirect else FEATURES - {"redirect"}, name))
            for redirect in (False, True)
        }

    def idle(self, agent: Agent, lane: str) -> int:
        known = self._lanes.get((agent.endpoints, lane, agent.tls and agent.name))
        return len(known.idle) if known is not None else 0

    def count(self, agent: Agent, lane: str) -> int:
        known = self._lanes.get((agent.endpoints, lane, agent.tls and agent.name))
        return len(known.live) + known.connecting if known is not None else 0

    def send(self, agent: Agent, lane: str, notifications: Sequence[bytes], done: Done, *, redirect: bool) -> None:
        errand = _Errand(encode_batch(notifications, self._offer[redirect]), done)
        known = self._lanes.get((agent.endpoints, lane, agent.tls and agent.name))
        if known is not None and known.idle:
            known.idle.pop().carry(errand, self._now)
        else:
            self._open(agent, lane, errand)

    def _open(self, agent: Agent, lane: str, errand: _Errand) -> None:
        self._lanes.setdefault((agent.endpoints, lane, agent.tls and agent.name), _Lane()).connecting += 1
        self._nursery.start_soon(self._live, agent, lane, errand)
        if not self._awake.is_set():
            self._now = trio.current_time()
            self._awake.set()

    async def _live(self, agent: Agent, lane: str, errand: _Errand) -> None:
        """A session's whole life."""
        home = self._lanes[agent.endpoints, lane, agent.tls and agent.name]
        try:
            channel = await self._connect(agent)
        except Exception as error:
            errand.tell(Lost(f"no connection to {agent.name}: {error}", connected=False))
            return
        finally:
            home.connecting -= 1
        session = _Session(channel, self._now)
        home.live.add(session)
        try:
            session.carry(errand, self._now)
            await self._listen(session, home)
        except Exception as error:
            log.error("session failed", agent=agent.name, error=f"{type(error).__name__}: {error}", exc_info=error)
            session.served = False
        finally:
            home.live.discard(session)
            if session in home.idle:
                home.idle.remove(session)
            session.channel.close()
        self._ended(session, agent, lane)

    async def _connect(self, agent: Agent) -> Channel:
        failure: Exception = PeerError("it has no address")
        for endpoint, tls in agent.ways:
            try:
                stream = await self._dial(endpoint)
                if tls:
                    return await secured(stream, self._nursery, self._trust, agent.name)
                if agent.tls:
                    note_fall_back(agent.name, failure)
                return Channel.of(stream, self._nursery)
            except (OSError, PeerError, trio.TooSlowError) as error:
                failure = error
        raise failure

    async def _listen(self, session: _Session, home: _Lane) -> None:
        def take(data: bytes) -> bool:
            if session.errand is None:
                return False
            session.wire.receive_data(data)
            try:
                event = session.wire.next_event()
            except MalformedPDU:
                session.served = False
                return False
            return event is NEED_DATA or self._answered(session, event, home)

        await session.channel.listen(take)

    def _answered(self, session: _Session, response: Response, home: _Lane) -> bool:
        """False: the session ends here."""
        errand, session.errand = session.errand, None
        assert errand is not None
        if response.abort and response.status in GIVEN_UP and session.served and errand.again:
            session.errand = errand
            return False
        session.served = True
        session.since = self._now
        keeps = not response.abort and session.wire.state is State.IDLE
        if keeps:
            home.idle.append(session)
        errand.tell(_heard(response))
        return keeps

    def _ended(self, session: _Session, agent: Agent, lane: str) -> None:
        errand, session.errand = session.errand, None
        if errand is None:
            return
        if session.served and errand.again:
            errand.again = False
            self._open(agent, lane, errand)
        else:
            errand.tell(Lost(f"{agent.name} ended the session without an answer"))

    async def run(self) -> None:
        """The one clock: answers that do not come, sessions idle too long. Stands still without sessions."""
        while True:
            await self._awake.wait()
            await trio.sleep(CLOCK)
            self._now = trio.current_time()
            for name, lane in list(self._lanes.items()):
                for session in list(lane.live):
                    if session.errand is None and self._now - session.since > IDLE:
                        session.channel.close()
                    elif session.errand is not None and self._now - session.since > ANSWER:
                        session.served = False
                        session.channel.close()
                if not lane.live and not lane.connecting:
                    del self._lanes[name]
            if not self._lanes:
                self._awake = trio.Event()

    def close_idle(self) -> None:
        """For the drain: nothing new will be sent."""
        for lane in self._lanes.values():
            for session in list(lane.idle):
                session.channel.close()

    @property
    def sessions(self) -> int:
        return sum(len(lane.live) + lane.connecting for lane in self._lanes.values())


def _heard(response: Response) -> Heard:
    """A server that shuts down, or has no room for us, says nothing of the batch, nor of what it is able to."""
    if response.status is Status.errorserviceshutdown:
        return Lost("the agent takes nothing now: errorserviceshutdown")
    if response.abort or response.status is not Status.noerror or not isinstance(response.data, NotifyAnswer):
        return Status2004(received=False)
    if response.data.results is None:
        return Status2004(received=True)
    return Results(response.data.results)
