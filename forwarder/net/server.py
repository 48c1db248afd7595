"""The one PDU server all four protocols share: it only shuttles. Limits, deadlines, drain; no policy.

A service is either a conversation with each client (`ports.Service`: one command awaited after the other) or takes
its commands at once and answers when it can (`Immediate`: RNASP, no task is parked for a PDU).
Over a cap: errorserviceshutdown unasked, then closed; over TLS closed without a word, for a handshake costs more than
the session that there is no room for. Idle or slow: errorcommandtimeout, then closed. Draining: errorserviceshutdown,
then closed, to the idle at once, to the busy after their answer or in its place. Deadlines are numbers on the session,
read by one clock a second, which stands still while nobody is connected.
"""

from __future__ import annotations

import errno
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from typing import Protocol as Shape

import trio

from forwarder.agent.limits import Struck, network, unheard
from forwarder.model import Endpoint, Peer
from forwarder.net.channel import Channel
from forwarder.net.tls import serve_tls
from forwarder.plugin import Log
from forwarder.ports import Conversation, Service
from forwarder.wire.session import NEED_DATA, Bad, Protocol, ServerSession, State

READ = 30.0  # for a PDU, and for the TLS handshake
CLOCK = 1.0
BACKLOG = 1024
SENT_AHEAD = 128 * 1024
"""Octets over one PDU that a client may send before its answer is out, and of answers that it may leave unread; who
does more is cut off."""
OVERLOADED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


NETWORK_SHARE = 0.25
SHUTDOWN = "errorserviceshutdown"


class Immediate(Shape):
    """A service that answers by callback, perhaps before `receive` returns."""

    def receive(self, command: Any, peer: Peer, answer: Callable[[Any], None], /) -> None: ...


class Limits:
    """`[limits]` sessions and sessions_per_address, shared by all servers of the daemon; 0 = none."""

    def __init__(
        self, sessions: int, per_address: int, exempt: Callable[[str], bool], struck: Struck = unheard
    ) -> None:
        self.capacity = sessions
        self._per_address = per_address
        self._exempt = exempt
        self.open = 0
        self._by_address: Counter[str] = Counter()
        self._by_network: Counter[str] = Counter()
        self.struck = struck

    def enter(self, address: str) -> bool:
        """False: over a cap, which is counted by its name."""
        if self.capacity and self.open >= self.capacity:
            self.struck("sessions", address)
            return False
        if limit := self._struck_by(address):
            self.struck(limit, address)
            return False
        self.open += 1
        self._by_address[address] += 1
        self._by_network[network(address)] += 1
        return True

    def _struck_by(self, address: str) -> str:
        """A network may hold NETWORK_SHARE of all sessions: a /24 has more addresses than we have room."""
        if not self._per_address or self._exempt(address):
            return ""
        if self._by_address[address] >= self._per_address:
            return "sessions_per_address"
        most = max(self._per_address, int(self.capacity * NETWORK_SHARE))
        return "sessions of a network" if self.capacity and self._by_network[network(address)] >= most else ""

    def leave(self, address: str) -> None:
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        net = network(address)
        self._by_network[net] -= 1
        if not self._by_network[net]:
            del self._by_network[net]


class _Session:
    """pumping: somebody hands its commands over now and goes on by himself, an answer need not hand over the next."""

    __slots__ = ("channel", "conversation", "peer", "pumping", "server", "since", "wire")

    def __init__(self, server: PduServer, channel: Channel, peer: Peer) -> None:
        self.server = server
        self.channel = channel
        self.wire = ServerSession(server.protocol)
        self.peer = peer
        self.since = server.now
        self.conversation: Conversation | None = None
        self.pumping = False

    def answer(self, response: Any) -> None:
        """The response to the command under way, whoever decided it. Too late for one that was given up."""
        if self.wire.state is not State.BUSY:
            return
        self.channel.send(self.wire.send(response))
        self.since = self.server.now
        if self.server.draining:
            self.dismiss()
        elif not self.pumping:
            self.server.pump(self)

    def dismiss(self, word: str = SHUTDOWN) -> None:
        """The last word, where it has not been said, and the end: asked or not, a client reads it as an answer."""
        if self.wire.state is not State.CLOSED:
            self.channel.send(self.wire.send(self.server.protocol.error(word)))
        self.channel.close_when_sent()


class PduServer:
    """One protocol on its listeners."""

    def __init__(self, protocol: Protocol, service: Service | Immediate, limits: Limits, log: Log) -> None:
        self.protocol = protocol
        self._service = service
        self._limits = limits
        self._log = log
        self._no_room = ServerSession(protocol).send(protocol.error(SHUTDOWN))
        self._sessions: set[_Session] = set()
        self._awake = trio.Event()
        self.now = 0.0
        self._accepting = trio.CancelScope()
        self.draining = False
        self._empty = trio.Event()
        self.commands = 0

    async def run(
        self,
        listeners: Sequence[trio.SocketListener],
        secure: Sequence[trio.SocketListener] = (),
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """Serves until `drain` has been called and the last session has ended. secure: by TLS, with this context."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._clock)
            try:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in listeners:
                            accepting.start_soon(self._accept, listener, nursery, None)
                        for listener in secure:
                            accepting.start_soon(self._accept, listener, nursery, context)
            finally:
                # who knocks now is refused, not left waiting for the drain to end
                for listener in (*listeners, *secure):
                    listener.socket.close()
            await self.empty()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Takes nothing new; idle sessions end now, busy ones after their answer."""
        self.draining = True
        self._accepting.cancel()
        for session in list(self._sessions):
            if session.wire.state is not State.BUSY:
                session.dismiss()

    def give_up(self) -> None:
        """When the drain may last no longer: who still waits is told that the answer does not come."""
        for session in list(self._sessions):
            session.dismiss()

    async def empty(self) -> None:
        """After `drain`: until the last session has ended."""
        if self._sessions:
            await self._empty.wait()

    async def _accept(
        self, listener: trio.SocketListener, nursery: trio.Nursery, context: Callable[[], ssl.SSLContext] | None
    ) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OVERLOADED:
                    raise
                self._log.info("cannot accept", protocol=self.protocol.name, error=str(error))
                await trio.sleep(0.1)
                continue
            self._admit(stream, nursery, context)

    def _admit(
        self, stream: trio.SocketStream, nursery: trio.Nursery, context: Callable[[], ssl.SSLContext] | None
    ) -> None:
        channel = Channel.of(stream, nursery) if context is None else serve_tls(stream, nursery, context())
        peer = _peer(channel.peer, tls=context is not None)
        if not self._limits.enter(peer.address):
            channel.send(self._no_room)
            channel.close_when_sent()
            return
        if not self._awake.is_set():
            self.now = trio.current_time()
            self._awake.set()
        session = _Session(self, channel, peer)
        self._sessions.add(session)
        nursery.start_soon(self._serve, session)

    async def _serve(self, session: _Session) -> None:
        """A session's whole life."""
        try:
            if hasattr(self._service, "receive"):
                await self._shuttle(session)
            else:
                session.conversation = self._service.open(session.peer)
                await self._converse(session, session.conversation)
        except Exception as error:
            self._log.info("session failed", protocol=self.protocol.name, error=f"{type(error).__name__}: {error}")
        finally:
            session.channel.close()
            if session.channel.failure:
                self._log.info(
                    "no TLS", protocol=self.protocol.name, peer=session.peer.address, why=session.channel.failure
                )
            self._sessions.discard(session)
            self._limits.leave(session.peer.address)
            if self.draining and not self._sessions:
                self._empty.set()
            if session.conversation is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await session.conversation.close()

    # -- services that answer by callback

    async def _shuttle(self, session: _Session) -> None:
        def take(data: bytes) -> bool:
            if not session.wire.inside:  # else the deadline is the PDU's, however it drips
                session.since = self.now
            session.wire.receive_data(data)
            self.pump(session)
            if session.wire.held <= most and session.channel.unsent <= SENT_AHEAD:
                return True
            self._limits.struck("octets ahead", session.peer.address)
            return False

        most = self.protocol.command_limit + SENT_AHEAD
        await session.channel.listen(take)

    def pump(self, session: _Session) -> None:
        """Hands over every command that may be read now. While one is being answered, none may."""
        session.pumping = True
        while (event := session.wire.next_event()) is not NEED_DATA:
            if type(event) is Bad:
                self._refuse(session, event)
            else:
                self._hand_over(session, event)
        session.pumping = False

    def _hand_over(self, session: _Session, command: Any) -> None:
        self.commands += 1
        service: Immediate = self._service  # type: ignore[assignment]
        try:
            service.receive(command, session.peer, session.answer)
        except Exception as error:
            self._failed(command, error)
            if session.wire.state is State.BUSY:
                session.answer(self.protocol.error("errorinternalproblem"))

    # -- services that converse

    async def _converse(self, session: _Session, conversation: Conversation) -> None:
        channel, wire = session.channel, session.wire
        session.pumping = True
        while not channel.closed:
            event = wire.next_event()
            if event is NEED_DATA:
                await channel.readable()
                data = channel.receive()
                if data is None:
                    continue
                if not data:
                    return
                if not wire.inside:
                    session.since = self.now
                wire.receive_data(data)
            elif type(event) is Bad:
                self._refuse(session, event)
            else:
                self.commands += 1
                session.answer(await self._answer(conversation, event))
                await channel.sent()  # no next command is taken before the peer has taken this answer

    async def _answer(self, conversation: Conversation, command: Any) -> Any:
        try:
            return await conversation.answer(command)
        except Exception as error:
            self._failed(command, error)
            return self.protocol.error("errorinternalproblem")

    def _failed(self, command: Any, error: Exception) -> None:
        name, what = type(command).__name__, f"{type(error).__name__}: {error}"
        self._log.info("command failed", protocol=self.protocol.name, command=name, error=what)

    # -- both

    def _refuse(self, session: _Session, bad: Bad) -> None:
        self._log.info("bad command", protocol=self.protocol.name, peer=session.peer.address, closed=bad.close)
        if bad.oversize:
            self._limits.struck("PDU size", session.peer.address)
        session.channel.send(bad.reply)
        if bad.close:
            session.channel.close_when_sent()

    async def _clock(self) -> None:
        while True:
            await self._awake.wait()
            await trio.sleep(CLOCK)
            self.now = trio.current_time()
            for session in list(self._sessions):
                if session.wire.state is State.IDLE:
                    waiting = session.channel.ready and not session.wire.inside
                    patience = self.protocol.idle if waiting else READ
                    if self.now - session.since > patience:
                        self._limits.struck("idle time" if waiting else "time for a PDU", session.peer.address)
                        session.dismiss("errorcommandtimeout")
                elif session.wire.state is State.CLOSED and self.now - session.since > READ:
                    self._limits.struck("time for an answer", session.peer.address)
                    session.channel.close()  # it does not take its last answer
            if not self._sessions:
                self._awake = trio.Event()

    @property
    def sessions(self) -> int:
        return len(self._sessions)


def _peer(name: tuple[Any, ...], *, tls: bool) -> Peer:
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return Peer(str(mapped or address), int(name[1]), tls=tls)


async def listen(endpoint: Endpoint) -> trio.SocketListener:
    """A listener on exactly this address; port 0 picks a free one. Raises OSError."""
    [listener] = await trio.open_tcp_listeners(endpoint.port, host=endpoint.address, backlog=BACKLOG)
    return listener


def bound(listener: trio.SocketListener) -> Endpoint:
    name = listener.socket.getsockname()
    return Endpoint(str(name[0]), int(name[1]))
