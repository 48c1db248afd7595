"""The un-pin of what a carrier has brought, where our own store holds the pin: done in the COMMIT that closes the row.

Implements ledger.Pins. Whoever holds a row for the message of another store owes the un-pin instead, by a row.
"""

from __future__ import annotations

from collections.abc import Callable

import apsw

from forwarder.ports import Debt
from forwarder.storage import keys
from forwarder.storage.messages import StoredMessages


class OwnPins:
    """ours: whether a store's name is our own."""

    def __init__(self, messages: StoredMessages, ours: Callable[[str], bool]) -> None:
        self._messages = messages
        self._ours = ours

    def unpin(self, c: apsw.Connection, debt: Debt) -> bool | None:
        """None: it is not ours. What is gone already, dealt with or withdrawn, is as good as un-pinned.

        Else whether its source may be owed one now.
        """
        if not self._ours(debt.store):
            return None
        held = keys.find(c, debt.key)
        if held is None or not self._messages.opens(held) or held.public:
            return False
        keys.unpin(c, held, self._messages.now, None)
        return held.copied

    def owes(self) -> None:
        """After COMMIT."""
        self._messages.tell()
