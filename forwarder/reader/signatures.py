"""A reader verifies for himself: his agent may be somebody else's (protocol 5.0, 8.7).

Once for each item, soon after it came, while its key is still published; what was found is written down. Without an
answer from the DNS, or without such a key, nothing is: it is tried again at the next `read`.
"""

from __future__ import annotations

import trio

from forwarder.model import Notification
from forwarder.plugin import PeerError, Texts
from forwarder.reader.notebook import Item, Notebook
from forwarder.reader.stores import notification_of
from forwarder.signature import WrongSignature, judge, question

SECONDS = 10.0
"""For all that is verified before `read` prints."""
AT_ONCE = 16


async def verify(notebook: Notebook, texts: Texts, now: int) -> None:
    """Every waiting item that bears a signature and has no verdict."""
    gate = trio.CapacityLimiter(AT_ONCE)
    with trio.move_on_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for item in notebook.items():
                notification = notification_of(item) if item.signature is None else None
                if notification is not None and notification.signature is not None:
                    nursery.start_soon(_verify, gate, notebook, texts, item, notification, now)


async def _verify(
    gate: trio.CapacityLimiter, notebook: Notebook, texts: Texts, item: Item, notification: Notification, now: int
) -> None:
    async with gate:
        try:
            name = question(notification)
            verdict = judge(notification, await texts.find(name)) if name is not None else "unknown"
        except WrongSignature:
            verdict = "wrong"
        except PeerError:
            return
    if verdict != "unknown":
        replayed = verdict == "good" and notification.expires is not None and notification.expires <= now
        notebook.judged(item.number, "expired" if replayed else verdict)
