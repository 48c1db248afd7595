"""Those whom the daemon calls: the targets' agents, the sender's store, a nameserver that knows nobody."""

from __future__ import annotations

import random
from collections.abc import Callable

import trio

from forwarder.model import Endpoint, Notification, Outcome, Peer, Redirect, ServiceLocation, parse_mailbox
from forwarder.net.server import Limits, PduServer, bound, listen
from forwarder.testing import MemoryLog
from forwarder.wire import msrap, rnasp
from forwarder.wire.notification import encode_notification
from forwarder.wire.outcome import ACCEPTED, DEFERRED, MOVED, NOUSER, REDIRECTED
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.rnasp import Capabilities, NotifyAnswer, Status
from forwarder.wire.session import MSRAP, RNASP

from .truth import BEYOND, COPIES, Sent, Truth

FEATURES = frozenset({"results", "redirect", "trace"})
PERMANENT, COPY = 0, 2
TROUBLE = 0.25


class Agents:
    """All targets at one domain. extended: else it speaks as in 2004. calm: nobody is put off."""

    def __init__(self, truth: Truth, chance: random.Random, *, extended: bool) -> None:
        self._truth = truth
        self._chance = chance
        self._extended = extended
        self._late: set[bytes] = set()
        self.calm = False
        self.told = trio.Event()

    def receive(self, command: rnasp.Notify, peer: Peer, answer: Callable[[rnasp.Response], None], /) -> None:
        outcomes = tuple(self._take(notification) for notification in command.notifications)
        if self._extended and command.capabilities is not None:
            told = NotifyAnswer(outcomes, Capabilities(1, FEATURES, "mx.ext.test"))
            answer(rnasp.Response(False, Status.noerror, told))
        else:
            answer(rnasp.Response(False, Status.noerror, NotifyAnswer()))

    def _take(self, notification: Notification) -> Outcome:
        mailbox, key = str(notification.recipient), notification.identifier
        name = notification.recipient.localpart
        if name == "late" and not self.calm and key not in self._late and self._chance.random() < 0.5:
            self._late.add(key)
            return Outcome(DEFERRED, retryafter=300)
        if mailbox == "no@ext.test":
            return Outcome(NOUSER)
        if mailbox == "moved@ext.test":
            return Outcome(REDIRECTED, (Redirect(parse_mailbox(BEYOND[mailbox][0]), None, PERMANENT, 86400),))
        self._truth.arrived(key, mailbox, notification.store)
        if mailbox == "copy@ext.test":
            return Outcome(MOVED, (Redirect(parse_mailbox(BEYOND[mailbox][1]), None, COPY),))
        return Outcome(ACCEPTED)


class Source:
    """The sender's store, as those who pull from it see it."""

    def __init__(self, truth: Truth, chance: random.Random) -> None:
        self._truth = truth
        self._chance = chance

    def open(self, peer: Peer) -> Source:
        return self

    async def close(self) -> None:
        """Nothing is open."""

    async def answer(self, command: msrap.Command, /) -> msrap.Response:
        if isinstance(command, msrap.ScanList | msrap.Split | Authenticate):
            unexpected: msrap.Response = MSRAP.error("errorunexpectedcommand")
            return unexpected
        sent = self._truth.sent.get(command.identifier)
        if sent is None or sent.gone:
            none: msrap.Response = MSRAP.error("errornosuchmessage")
            return none
        match command:
            case msrap.QuerySize():
                return _fine(msrap.Size(len(sent.body)))
            case msrap.Retrieve(_, view, offset, length):
                octets = sent.body if view is msrap.View.all else b""
                return _fine(msrap.Retrieved(octets[offset : offset + length], len(octets)))
            case _:
                return self._close(command, sent)

    def _close(self, command: msrap.Silence | msrap.UnPin, sent: Sent) -> msrap.Response:
        if sent.name not in COPIES:
            self._truth.fault("the daemon closes", sent.name, "at its store, which is not its own")
        if self._chance.random() < TROUBLE:
            trouble: msrap.Response = MSRAP.error("errorinternalproblem")
            return trouble
        sent.silenced = True
        if isinstance(command, msrap.UnPin):
            sent.unpinned = True
            return _fine(msrap.UnPinned())
        return _fine(msrap.Silenced())


def _fine(data: msrap.Size | msrap.Retrieved | msrap.Silenced | msrap.UnPinned) -> msrap.Response:
    return msrap.Response(False, Status.noerror, data)


def notification(sent: Sent, *, sized: bool = True) -> Notification:
    made = Notification(
        ServiceLocation("isp.test"),
        None,
        parse_mailbox(f"{sent.name}@pobox.test"),
        sent.key,
        "toby",
        size=len(sent.body) if sized else None,
    )
    return made._replace(raw=encode_notification(made))


async def serve_agents(agents: Agents, nursery: trio.Nursery) -> Endpoint:
    listener = await listen(Endpoint("127.0.0.1", 0))
    server = PduServer(RNASP, agents, Limits(500, 500, lambda address: True), MemoryLog())
    nursery.start_soon(server.run, [listener])
    return bound(listener)


async def serve_source(source: Source, nursery: trio.Nursery) -> Endpoint:
    listener = await listen(Endpoint("127.0.0.1", 0))
    server = PduServer(MSRAP, source, Limits(500, 500, lambda address: True), MemoryLog())
    nursery.start_soon(server.run, [listener])
    return bound(listener)


async def serve_names(nursery: trio.Nursery) -> Endpoint:
    """Nobody has records of his own: NXDOMAIN, the question back."""
    udp = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await udp.bind(("127.0.0.1", 0))

    async def run() -> None:
        with udp:
            while True:
                packet, client = await udp.recvfrom(4096)
                end = packet.index(b"\0", 12) + 5
                head = packet[:2] + b"\x85\x83" + b"\0\1" + bytes(6)
                await udp.sendto(head + packet[12:end], client)

    nursery.start_soon(run)
    return Endpoint(*udp.getsockname())
