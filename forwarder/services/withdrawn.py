"""Before a copy is served whose source's pin we hold: has its sender taken it back? (protocol 5.4)

Asked at most once in EVERY seconds for a message; who comes meanwhile waits for the same answer. A source that cannot
be reached, or is slow, is no reason to keep our copy from its reader.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog
import trio

from forwarder.model import Notification
from forwarder.plugin import PeerError
from forwarder.ports import Clock, Gone
from forwarder.storage.copies import StoredCopies
from forwarder.storage.keys import Held
from forwarder.storage.messages import StoredMessages
from forwarder.wire.notification import decode_notification

EVERY = 60.0
PATIENCE = 20.0
"""Seconds a reader waits for the source; his client gives us 60."""
REMEMBERED = 10_000

log = structlog.get_logger("forwarder.store")


class Withdrawn:
    """look: asks a source without marking anything as read; raises Gone, PeerError."""

    def __init__(
        self,
        messages: StoredMessages,
        copies: StoredCopies,
        look: Callable[[Notification], Awaitable[object]],
        clock: Clock,
    ) -> None:
        self._messages = messages
        self._copies = copies
        self._look = look
        self._clock = clock
        self._asked: OrderedDict[int, float] = OrderedDict()
        self._asking: dict[int, trio.Lock] = {}

    async def withdrawn(self, held: Held) -> bool:
        """True: and our copy has gone with it."""
        if not held.held or self._asked.get(held.message, 0.0) > self._clock() - EVERY:
            return False
        lock = self._asking.setdefault(held.message, trio.Lock())
        async with lock:
            try:
                if self._asked.get(held.message, 0.0) > self._clock() - EVERY:
                    current = await self._messages.find(held.identifier)
                    return current is None or not self._messages.opens(current)
                return await self._ask(held)
            finally:
                if not lock.statistics().tasks_waiting:
                    self._asking.pop(held.message, None)

    async def _ask(self, held: Held) -> bool:
        source = await self._copies.source_of(held.message)
        if source is None:
            return False
        try:
            with trio.move_on_after(PATIENCE):
                await self._look(decode_notification(source))
        except Gone:
            log.info("withdrawn by its sender", message=held.message)
            await self._messages.withdraw(held.message)
            return True
        except PeerError as error:
            log.info("source not reached, copy served", message=held.message, detail=str(error))
        self._asked[held.message] = self._clock()
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        return False
