"""ports.Notifier: one notification of our own store to a mailbox, in process if its domain is hosted here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import trio

from forwarder.agent.dispatch import Dispatcher
from forwarder.agent.item import Item
from forwarder.agent.links import Links
from forwarder.agent.perform import Performer
from forwarder.model import FEATURES, Mailbox, Outcome, Peer
from forwarder.plugin import PeerError
from forwarder.ports import Addresses, ByCarrier, Clock, Proven
from forwarder.wire.notification import decode_notification

PATIENCE = 60.0


class OwnNotifier:
    """Through the links' queues like everything else; the caller waits for its own outcome only."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        performer: Performer,
        links: Links,
        addresses: Addresses,
        clock: Clock,
        *,
        name: str,
    ) -> None:
        self._dispatcher = dispatcher
        self._performer = performer
        self._clock = clock
        self._links = links
        self._addresses = addresses
        self._peers = {
            redirect: Peer("127.0.0.1", name=name, features=FEATURES if redirect else FEATURES - {"redirect"})
            for redirect in (False, True)
        }

    async def notify(
        self, recipient: Mailbox, notification: bytes, *, rna: str | None = None, redirect: bool = True
    ) -> Outcome:
        done, heard = trio.Event(), list[Outcome | PeerError]()

        def told(answer: Outcome | PeerError) -> None:
            heard.append(answer)
            done.set()

        self._start(recipient, notification, told, rna, redirect)
        await done.wait()
        [answer] = heard
        if isinstance(answer, PeerError):
            raise answer
        return answer

    def _start(
        self,
        recipient: Mailbox,
        notification: bytes,
        told: Callable[[Outcome | PeerError], None],
        rna: str | None,
        redirect: bool,
    ) -> None:
        if self._addresses.hosted(recipient.domain):
            self._dispatcher.receive_inner(notification, lambda o: told(_ours(o)), self._peers[redirect])
        else:
            deadline = trio.current_time() + PATIENCE

            def heard(answer: Outcome | PeerError) -> None:
                if isinstance(answer, ByCarrier):
                    self._carry(notification, answer.carrier, told)
                else:
                    told(answer)

            self._links.offer(recipient, notification, heard, deadline=deadline, rna=rna, redirect=redirect)

    def _carry(self, octets: bytes, carrier: str, told: Callable[[Outcome | PeerError], None]) -> None:
        """Its recipient has no agent: owed to a carrier, once, for as long as the repeats memory knows of it."""
        notification = decode_notification(octets)
        at = datetime.fromtimestamp(self._clock(), UTC)
        item = Item(notification, self._peers[False], at, lambda item, outcome: told(outcome))
        item.identity = (notification.store, notification.identifier, notification.recipient.folded)
        self._performer.carry(item, carrier)


def _ours(outcome: Outcome) -> Outcome:
    """Proven, but nothing to be remembered: asking ourselves again costs nothing, and a changed file counts at once."""
    return Proven(outcome.code, tuple(r._replace(ttl=None) for r in outcome.redirects), *outcome[2:])
