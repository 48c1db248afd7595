"""What one session sees: a snapshot, numbered from 1, with its marks. Nothing here changes anything but marks.

A message is shown, or deleted (by this session, until RSET), or hidden (its store gives it not, for now) or removed
(dealt with or withdrawn since). Numbers never move. Sizes are those of the check, exact but for bare LFs (`stuffing`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import Enum

from forwarder.bridges import Item

MESSAGES = 10_000
"""Of one session at most, the oldest; the rest is shown when these are done."""


class Mark(Enum):
    SHOWN = "shown"
    DELETED = "deleted"
    HIDDEN = "hidden"
    REMOVED = "removed"


class Message:
    """One number. `mark` is the visit's to turn."""

    __slots__ = ("before", "item", "mark", "number", "size")

    def __init__(self, number: int, item: Item, size: int) -> None:
        self.number, self.item, self.size = number, item, size
        self.mark = self.before = Mark.SHOWN

    def delete(self) -> None:
        self.before, self.mark = self.mark, Mark.DELETED


class NoMessage(Exception):  # an answer, not a fault
    """No message has this number (any more)."""


class Maildrop:
    def __init__(self, found: Iterable[tuple[Item, int]]) -> None:
        self._messages = [Message(number, item, size) for number, (item, size) in enumerate(found, 1)]

    def get(self, number: int) -> Message:
        """Whatever its mark, but for deleted ones. Raises NoMessage."""
        if not 1 <= number <= len(self._messages) or self._messages[number - 1].mark is Mark.DELETED:
            raise NoMessage
        return self._messages[number - 1]

    def shown(self, number: int | None = None) -> Iterator[Message]:
        """All that are shown, or the one. Raises NoMessage."""
        if number is None:
            return (message for message in self._messages if message.mark is Mark.SHOWN)
        message = self.get(number)
        if message.mark is not Mark.SHOWN:
            raise NoMessage
        return iter([message])

    @property
    def count(self) -> int:
        return sum(1 for _ in self.shown())

    @property
    def octets(self) -> int:
        return sum(message.size for message in self.shown())

    def reset(self) -> None:
        for message in self._messages:
            if message.mark is Mark.DELETED:
                message.mark = message.before

    def deleted(self) -> list[Item]:
        """What QUIT shall clear; what had been removed by others is cleared already."""
        return [one.item for one in self._messages if one.mark is Mark.DELETED and one.before is not Mark.REMOVED]


def unique_name(item: Item) -> str:
    """UIDL: the same in all sessions, and never the key: clients keep these in plain files."""
    parts = (
        b"im2000-uidl-1",
        item.notification.store.encode(),
        item.notification.identifier,
        str(item.mailbox).encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
