"""What we add to a notification that passes through us, where no compiled entry has it ready (5.3)."""

from __future__ import annotations

from forwarder.agent.repeats import Repeats
from forwarder.agent.routes import Leg
from forwarder.model import Hop, Mailbox, Notification
from forwarder.ports import Addresses, Clock
from forwarder.wire.notification import hop_tlv, original_tlv, recipient_tlv, splice


class Marks:
    """name: our node's, in every Hop. `how` is a hop code."""

    def __init__(self, repeats: Repeats, addresses: Addresses, clock: Clock, *, name: str) -> None:
        self._repeats = repeats
        self._addresses = addresses
        self._clock = clock
        self._name = name

    def leg(self, mailbox: Mailbox) -> Leg:
        return Leg(mailbox, recipient_tlv(mailbox), self._addresses.hosted(mailbox.domain), ())

    def hop(self, mailbox: Mailbox, how: int) -> bytes:
        """Our Hop for a notification that came to this mailbox."""
        return hop_tlv(Hop(self._name, self._repeats.mark(mailbox.folded), int(self._clock()), how))

    def spliced(self, notification: Notification, mailbox: Mailbox, leg: Leg, how: int) -> bytes:
        """What came to `mailbox`, for `leg`. Raises MalformedPDU."""
        return splice(notification, leg.recipient, original=original_tlv(mailbox), hop=self.hop(mailbox, how))
