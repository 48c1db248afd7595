"""One session as a client of any of the four protocols: connect, ask, hear (protocol 2).

* Endpoints are tried in order; connecting has CONNECT_SECONDS each, an answer ANSWER_SECONDS in all.
* A response that cannot be read, a lost stream, a deadline: PeerError, and the session is over; what became of the
  command is unknown. An error status is an answer and is returned as it is.
* A session that had served before may have been closed under our feet: then the command goes out once more on a new
  one, unless somebody had logged in on it (a submission under way must not be split over two sessions).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from forwarder.model import Endpoint
from forwarder.net.tls import Trust, secured_stream, system_trust
from forwarder.plugin import PeerError
from forwarder.ports import Agent
from forwarder.wire.der import MalformedPDU
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.session import NEED_DATA, ClientSession, Protocol, State

CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 60.0
PIECE = 1 << 18

Dial = Callable[[Endpoint], Awaitable[trio.abc.Stream]]
"""Connects, through the address filter. Raises OSError, PeerError."""


class Client:
    """One command at a time. Made by `connect`, ended by `aclose`. endpoint: where it is connected to.

    fell_back: why it speaks in clear instead of TLS."""

    def __init__(self, dial: Dial, agent: Agent, protocol: Protocol, trust: Trust) -> None:
        self._dial = dial
        self._trust = trust
        self.agent = agent
        self._protocol = protocol
        self._stream: trio.abc.Stream | None = None
        self._session = ClientSession(protocol)
        self._answers = 0
        self._known = False
        self.fell_back = ""
        self.endpoint: Endpoint

    @classmethod
    async def connect(cls, dial: Dial, agent: Agent, protocol: Protocol, trust: Trust = system_trust) -> Client:
        """Raises PeerError where no endpoint answers, or none proves its name where it has to."""
        client = cls(dial, agent, protocol, trust)
        await client._open()
        return client

    @property
    def open(self) -> bool:
        """Whether another command may be asked on this session."""
        return self._stream is not None and self._session.state is State.IDLE

    async def ask(self, command: Any) -> Any:
        """The wire response to a wire command. Raises PeerError."""
        reused = self._answers > 0
        try:
            if not self.open:
                await self._again()
                reused = False
            response = await self._exchange(command)
            if not (reused and not self._known and _went_away(response)):
                return self._heard(command, response)
        except trio.BrokenResourceError as error:
            if not reused or self._known:
                raise PeerError(f"{self.agent.name}: {error}") from error
        await self._again()
        try:
            return self._heard(command, await self._exchange(command))
        except trio.BrokenResourceError as error:
            raise PeerError(f"{self.agent.name}: {error}") from error

    async def aclose(self) -> None:
        """Ends the session between transactions. Harmless when it is over."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    def _heard(self, command: Any, response: Any) -> Any:
        self._answers += 1
        self._known = self._known or isinstance(command, Authenticate)
        return response

    async def _exchange(self, command: Any) -> Any:
        """Raises BrokenResourceError where the stream ended before an answer, PeerError else."""
        assert self._stream is not None
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self._stream.send_all(self._session.send(command))
                response = await self._receive(self._stream)
        except trio.TooSlowError:
            await self.aclose()
            raise PeerError(f"{self.agent.name}: no answer in {ANSWER_SECONDS:.0f} s") from None
        except MalformedPDU as error:
            await self.aclose()
            raise PeerError(f"{self.agent.name}: bad response: {error}") from error
        except BaseException:  # cancelled or lost in the middle: the session is of no more use
            await self.aclose()
            raise
        if self._session.state is State.CLOSED:
            await self.aclose()
        return response

    async def _receive(self, stream: trio.abc.Stream) -> Any:
        while (response := self._session.next_event()) is NEED_DATA:
            data = await stream.receive_some(PIECE)
            if not data:
                raise trio.BrokenResourceError("the session ended before the answer")
            self._session.receive_data(bytes(data))
        return response

    async def _again(self) -> None:
        if self._known:
            raise PeerError(f"{self.agent.name}: the session is over")
        await self.aclose()
        self._session = ClientSession(self._protocol)
        self._answers = 0
        await self._open()

    async def _open(self) -> None:
        wrong = "no endpoint"
        for endpoint, tls in self.agent.ways:
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    stream = await self._dial(endpoint)
                self._stream = await secured_stream(stream, self._trust, self.agent.name) if tls else stream
                self.endpoint = endpoint
                self.fell_back = wrong if self.agent.tls and not tls else ""
                return
            except trio.TooSlowError:
                wrong = f"{endpoint}: no connection in {CONNECT_SECONDS:.0f} s"
            except (OSError, PeerError) as error:
                wrong = f"{endpoint}: {error}"
        raise PeerError(f"{self.agent.name}: {wrong}")


def _went_away(response: Any) -> bool:
    """Whether the server had already given this session up when our command came."""
    return bool(response.abort) and response.status.name in ("errorcommandtimeout", "errorserviceshutdown")
