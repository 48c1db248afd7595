"""RNASP: notifications in, the dispatcher's outcomes out (protocol 5.0). Decides nothing.

Results go only to a PDU that came with the `results` capability; a peer of 2004 gets one status for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forwarder.agent.dispatch import Dispatcher
from forwarder.model import FEATURES, Outcome, Peer
from forwarder.wire.rnasp import Capabilities, Notify, NotifyAnswer, Response, Status

RECEIVED = Response(False, Status.noerror, NotifyAnswer())
FAILED = Response(True, Status.errorinternalproblem)


class Rnasp:
    """The service. `name`: our node's, told to peers as `notifier` is."""

    def __init__(self, dispatcher: Dispatcher, *, name: str) -> None:
        self._dispatcher = dispatcher
        self._ours = Capabilities(1, FEATURES, name)

    def receive(self, command: Notify, peer: Peer, answer: Callable[[Response], None], /) -> None:
        capabilities = command.capabilities
        if capabilities is None:
            self._dispatcher.receive(
                command.notifications, peer, lambda outcomes, failed: answer(FAILED if failed else RECEIVED)
            )
            return
        results = "results" in capabilities.features

        def decided(outcomes: Sequence[Outcome], failed: bool) -> None:
            if failed:
                answer(FAILED)
            else:
                told = tuple(outcomes) if results else None
                answer(Response(False, Status.noerror, NotifyAnswer(told, self._ours)))

        # who takes no results cannot be told where to notify instead
        features = capabilities.features if results else capabilities.features - {"redirect"}
        known = Peer(peer.address, peer.port, capabilities.notifier, features)
        self._dispatcher.receive(command.notifications, known, decided)
