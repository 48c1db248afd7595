"""The one place that opens a connection to a peer: the address filter is asked about the very address dialled."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from forwarder.model import Endpoint
from forwarder.net.address_filter import AddressFilter
from forwarder.net.destinations import Destinations
from forwarder.ports import NoService

CONNECT_SECONDS = 15.0  # protocol 2, "Idle"


class Dialer:
    """Connects to addresses, never to names: nothing is looked up between the check and the connect."""

    def __init__(
        self,
        address_filter: AddressFilter,
        destinations: Destinations | None = None,
        exempt: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """destinations: how often each may be connected to. exempt: our own machines, as often as we like."""
        self._filter = address_filter
        self._destinations = destinations
        self._exempt = exempt

    async def connect(self, endpoint: Endpoint, *, strange: bool = False) -> trio.SocketStream:
        """A stream that sends at once (TCP_NODELAY). Raises NoService: forbidden, or noserver within 15 s.

        strange: nothing but a stranger's word asks for it.
        """
        refusal = self._filter.refusal(endpoint)
        if refusal:
            raise NoService("forbidden", refusal)
        if self._destinations is None or self._exempt(endpoint.address):
            return await self._open(endpoint)
        self._destinations.admit(endpoint, strange=strange)
        well = False
        try:
            async with self._destinations.opening(strange=strange):
                stream = await self._open(endpoint)
            well = True
        except trio.Cancelled:
            well = True  # the caller's end, not theirs
            raise
        finally:
            self._destinations.ended(endpoint, well=well)
        return stream

    def missed(self, endpoint: Endpoint) -> None:
        """A stranger's word led there, and what it named was not there."""
        if self._destinations is not None:
            self._destinations.missed(endpoint)

    async def _open(self, endpoint: Endpoint) -> trio.SocketStream:
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        try:
            opened = trio.socket.socket(family, socket.SOCK_STREAM)
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    await opened.connect((endpoint.address, endpoint.port))
                stream = trio.SocketStream(opened)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                opened.close()
                raise
        except trio.TooSlowError:
            raise NoService("noserver", f"{endpoint} did not answer within {CONNECT_SECONDS:.0f} s") from None
        except OSError as error:
            raise NoService("noserver", f"{endpoint}: {error.strerror or error}") from None
        return stream
