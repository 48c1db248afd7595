"""The DNS on sockets: UDP and TCP on the same port, answers from an Answerer.

UDP is read and written directly while there is something to read, at most BURST packets between two turns of the loop:
a Trio wait costs more than an answer. TCP (RFC 7766) has bounded connections, each with deadlines.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
import trio

from forwarder.dns.answer import Answerer
from forwarder.dns.rate import AnswerRate, network_of
from forwarder.model import Endpoint

BURST = 64  # packets of one socket before others get their turn
PACKET_OCTETS = 4096  # the longest query read; honest ones have under 512
PORT_TRIES = 20  # to find a port that is free for UDP and TCP alike
PER_SECOND = 500  # answers by UDP to one /24 or /56: a big resolver's share
QUEUE = 128  # connections waiting to be accepted
SECONDS_AT_ONE = 1  # a packet that cannot be read (no memory) must not spin

log = structlog.get_logger("forwarder.dns")


@dataclass(frozen=True, slots=True)
class Limits:
    """connections: at once, and of one /24 or /56. Seconds between queries (idle), to read or write one (deadline)."""

    connections: int = 200
    connections_per_network: int = 20
    idle: float = 10.0
    deadline: float = 5.0


@dataclass(frozen=True, slots=True)
class DnsListener:
    """One address and port, by UDP and by TCP."""

    udp: socket.socket
    tcp: trio.SocketListener
    endpoint: Endpoint

    def close(self) -> None:
        self.udp.close()
        self.tcp.socket.close()


async def open_listeners(endpoints: Sequence[Endpoint]) -> list[DnsListener]:
    """Binds each address; port 0 picks one that is free for both. Raises OSError, then nothing stays bound."""
    with ExitStack() as undo:
        listeners = []
        for endpoint in endpoints:
            listeners.append(await _open(endpoint))
            undo.callback(listeners[-1].close)
        undo.pop_all()
        return listeners


async def serve(
    answerer: Answerer,
    listeners: Sequence[DnsListener],
    *,
    limits: Limits | None = None,
    rate: AnswerRate | None = None,
    task_status: trio.TaskStatus[tuple[Endpoint, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers until cancelled, then closes the listeners. Reports the endpoints bound."""
    rate = rate or AnswerRate(PER_SECOND)
    connections = _Connections(answerer, limits or Limits())
    with ExitStack() as closing:
        for listener in listeners:
            closing.callback(listener.close)
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(_serve_udp, answerer, listener.udp, rate)
                nursery.start_soon(_serve_tcp, listener.tcp, connections, nursery)
            task_status.started(tuple(listener.endpoint for listener in listeners))


async def _open(endpoint: Endpoint) -> DnsListener:
    for tries_left in reversed(range(PORT_TRIES)):
        tcp, udp = _socket(endpoint, socket.SOCK_STREAM), _socket(endpoint, socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((endpoint.address, endpoint.port))
            port = tcp.getsockname()[1]
            udp.bind((endpoint.address, port))
            tcp.listen(QUEUE)
        except OSError as error:
            tcp.close()
            udp.close()
            if endpoint.port or error.errno != errno.EADDRINUSE or not tries_left:
                raise
        else:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(tcp))
            return DnsListener(udp, listener, Endpoint(endpoint.address, port))
    raise AssertionError("the last try returns or raises")


def _socket(endpoint: Endpoint, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    opened = socket.socket(family, kind)
    opened.setblocking(False)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return opened


# -- UDP


async def _serve_udp(answerer: Answerer, udp: socket.socket, rate: AnswerRate) -> None:
    while True:
        await trio.lowlevel.wait_readable(udp)
        try:
            _answer_burst(answerer, udp, rate)
        except OSError as error:
            log.warning("dns udp socket", error=str(error))
            await trio.sleep(SECONDS_AT_ONE)
        except Exception:  # a bug of ours must cost one packet, not the service
            log.exception("dns answer failed")


def _answer_burst(answerer: Answerer, udp: socket.socket, rate: AnswerRate) -> None:
    """Answers what is there, at most BURST packets. Raises OSError where nothing can be read."""
    now = time.monotonic()
    for _ in range(BURST):
        try:
            packet, client = udp.recvfrom(PACKET_OCTETS)
        except (BlockingIOError, InterruptedError):
            return
        verdict = rate.verdict(client[0], now)
        if verdict == "drop" or not client[1]:
            continue
        answer = answerer.answer_udp(packet) if verdict == "answer" else answerer.truncated(packet)
        if answer is not None:
            _send(udp, answer, client)


def _send(udp: socket.socket, answer: bytes, client: tuple[str, int]) -> None:
    """An answer that cannot be sent (no route, full buffer) is lost, as any packet may be: its client asks again."""
    try:
        udp.sendto(answer, client)
    except OSError as error:
        log.debug("dns answer not sent", client=client[0], error=str(error))


# -- TCP


async def _serve_tcp(listener: trio.SocketListener, connections: _Connections, nursery: trio.Nursery) -> None:
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:  # EMFILE and its like: others must end first
            log.warning("dns tcp accept", error=str(error))
            await trio.sleep(SECONDS_AT_ONE)
        else:
            nursery.start_soon(connections.serve, stream)


class _Connections:
    """All clients by TCP. Those beyond the limits are closed at once, before any work."""

    def __init__(self, answerer: Answerer, limits: Limits) -> None:
        self._answerer = answerer
        self._limits = limits
        self._open: Counter[str | bytes] = Counter()

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                network = network_of(stream.socket.getpeername()[0])
            except OSError:  # gone already
                return
            limits = self._limits
            if self._open.total() >= limits.connections or self._open[network] >= limits.connections_per_network:
                return
            self._open[network] += 1
            try:
                await self._converse(stream)
            except (trio.BrokenResourceError, trio.TooSlowError):
                pass
            except Exception:  # a bug of ours must cost one connection, not the service
                log.exception("dns answer failed")
            finally:
                self._open[network] -= 1
                self._open += Counter()  # drops the zeros

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Queries one after another, each framed by its length (RFC 1035 4.2.2)."""
        octets = bytearray()
        while await self._fill(stream, octets, 2, self._limits.idle):
            length = int.from_bytes(octets[:2], "big")
            if length > PACKET_OCTETS or not await self._fill(stream, octets, 2 + length, self._limits.deadline):
                return
            answer = self._answerer.answer_tcp(bytes(octets[2 : 2 + length]))
            del octets[: 2 + length]
            if answer is None:
                return
            with trio.fail_after(self._limits.deadline):
                await stream.send_all(len(answer).to_bytes(2, "big") + answer)

    async def _fill(self, stream: trio.SocketStream, octets: bytearray, wanted: int, deadline: float) -> bool:
        """Reads until `wanted` octets are there; False where the client has ended."""
        if len(octets) >= wanted:
            return True
        with trio.fail_after(deadline):
            while len(octets) < wanted:
                more = await stream.receive_some(PACKET_OCTETS)
                if not more:
                    return False
                octets += more
        return True
