"""What the one PDU server serves."""

from __future__ import annotations

from typing import Any, Protocol

from forwarder.model import Peer


class Conversation(Protocol):
    """One client's session with a service: who logged in, a submission under way."""

    async def answer(self, command: Any, /) -> Any:
        """A wire command in, a wire response out. An exception becomes errorinternalproblem."""
        ...

    async def close(self) -> None:
        """The client has gone: abort what is open."""
        ...


class Service(Protocol):
    """A protocol's service. New conversations are opened by the server as clients come."""

    def open(self, peer: Peer) -> Conversation: ...
