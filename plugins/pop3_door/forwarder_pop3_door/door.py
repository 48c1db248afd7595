"""The service: clients come to its listeners, so many at once and from one address, and are seen off at a drain.

Memory: SESSIONS times `buffer`, or a slice of the reader's where that is more. Who is over a cap is told so and closed.
"""

from __future__ import annotations

import errno
import ipaddress
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import trio
from pydantic import Field

from forwarder.bridges import Login
from forwarder.model import Peer, client_block
from forwarder.plugin import Duration, Log, Options, Size
from forwarder_pop3_door.checks import Checks
from forwarder_pop3_door.visit import STREAM_ENDS, CutOff, House, Visit

SESSIONS = 200
PER_ADDRESS = 50
"""Of one address or IPv6 /64, but for our own machine: there a proxy may stand before us."""
OVERLOADED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
FULL = b"-ERR [SYS/TEMP] too many sessions, try again later\r\n"


class Pop3Options(Options):
    """The table [bridge.pop3]."""

    check_wait: Duration = Field(
        default=timedelta(seconds=5),
        le=timedelta(seconds=30),
        description="how long a login asks whether messages are alive",
    )
    buffer: Size = Field(default=1 << 20, le=64 << 20, description="smaller messages are fetched whole before +OK")


class Caps:
    """How many are here, in all and from each address."""

    def __init__(self, most: int, per_address: int = PER_ADDRESS) -> None:
        self._most, self._per_address = most, per_address
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """False: over a cap."""
        block, ours = client_block(address), ipaddress.ip_address(address).is_loopback
        if self._by_address.total() >= self._most or (self._by_address[block] >= self._per_address and not ours):
            return False
        self._by_address[block] += 1
        return True

    def leave(self, address: str) -> None:
        self._by_address -= Counter((client_block(address),))


class Door:
    """One service of the node: POP3 on these listeners. secure: TLS from the first octet, else STLS where `tls` is."""

    def __init__(
        self,
        options: Pop3Options,
        login: Login,
        listeners: Sequence[trio.SocketListener],
        *,
        log: Log,
        tls: Callable[[], ssl.SSLContext] | None = None,
        secure: bool = False,
        sessions: int = SESSIONS,
    ) -> None:
        self._options = options
        self._login = login
        self._listeners = listeners
        self._log = log
        self._tls = tls
        self._secure = secure
        self._caps = Caps(sessions)
        self._visits: set[Visit] = set()
        self._accepting = trio.CancelScope()
        self._draining = False
        self._left = trio.Event()

    async def run(self, ready: Callable[[], None], /) -> None:
        """Serves until `drain` has been called and the last client has gone."""
        async with trio.open_nursery() as nursery:
            wait = self._options.check_wait.total_seconds()
            checks = Checks(nursery, wait, self._log)
            house = House(self._login, checks, self._tls, self._options.buffer, self._log)
            try:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for listener in self._listeners:
                            accepting.start_soon(self._accept, listener, nursery, house)
                        ready()
            finally:
                for listener in self._listeners:
                    listener.socket.close()
            while self._visits:
                self._left = trio.Event()
                await self._left.wait()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Nobody new; who is idle ends now, the others after their answer."""
        self._draining = True
        self._accepting.cancel()
        for visit in self._visits:
            visit.drain()

    @property
    def sessions(self) -> int:
        return len(self._visits)

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery, house: House) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OVERLOADED:
                    raise
                self._log.info("cannot accept", error=str(error))
                await trio.sleep(0.1)
                continue
            peer = _peer(stream, tls=self._secure)
            if self._caps.enter(peer.address):
                visit = Visit(house, stream, peer)
                self._visits.add(visit)
                if self._draining:  # it knocked in the very moment
                    visit.drain()
                nursery.start_soon(self._serve, visit, peer.address)
            else:
                self._log.info("too many sessions", peer=peer.address)
                await self._send_off(stream)

    async def _send_off(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(1.0), suppress(trio.BrokenResourceError):
            if not self._secure:
                await stream.send_all(FULL)
        await trio.aclose_forcefully(stream)

    async def _serve(self, visit: Visit, address: str) -> None:
        try:
            await visit.run()
            with trio.move_on_after(1.0):
                await visit.stream.aclose()
        except (CutOff, *STREAM_ENDS) as error:
            self._log.info("session ended", peer=address, why=type(error).__name__)
        except Exception as error:
            self._log.info("session failed", peer=address, error=f"{type(error).__name__}: {error}")
        finally:
            self._visits.discard(visit)
            self._caps.leave(address)
            self._left.set()
            await trio.aclose_forcefully(visit.stream)


def _peer(stream: trio.SocketStream, *, tls: bool) -> Peer:
    """Who came. Over a Unix socket, or gone already: somebody on this machine."""
    try:
        name: Any = stream.socket.getpeername()
    except OSError:
        name = ""
    if not isinstance(name, tuple):
        return Peer("127.0.0.1", tls=tls)
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    return Peer(str(getattr(address, "ipv4_mapped", None) or address), int(name[1]), tls=tls)
