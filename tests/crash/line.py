"""A client's session as simple as it can be: one command, one answer, and the truth about which answers came."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import trio

from forwarder.wire.session import NEED_DATA, ClientSession, LocalError, Protocol

LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""The daemon is gone or takes nothing more, and what became of the command is unknown."""


GIVEN_UP = ("errorserviceshutdown", "errorcommandtimeout")


class Line:
    """An async context: the session."""

    def __init__(self, address: str, port: int, protocol: Protocol) -> None:
        self._place = (address, port)
        self._session = ClientSession(protocol)

    async def __aenter__(self) -> Line:
        self._stream = await trio.open_tcp_stream(*self._place)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await trio.aclose_forcefully(self._stream)

    async def ask(self, command: Any) -> Any:
        """The response. Raises what is in LOST."""
        try:
            octets = self._session.send(command)
        except LocalError as error:  # it has said good-bye, unasked
            raise trio.BrokenResourceError(str(error)) from None
        await self._stream.send_all(octets)
        while (response := self._session.next_event()) is NEED_DATA:
            data = await self._stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("it ended before the answer")
            self._session.receive_data(bytes(data))
        if response.abort and response.status.name in GIVEN_UP:  # it takes nothing more, and has done nothing
            raise trio.BrokenResourceError(response.status.name)
        return response
