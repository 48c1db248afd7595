"""A reader at work: refresh the list, take an item's message, be done with it (protocol 4, recipient side; 5.1).

What the notebook has committed comes first, the peers' side second; a step that a peer did not hear is told again at
the next refresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from forwarder.config.lines import ConfigError, ConfigErrors
from forwarder.ports import Gone
from forwarder.reader import agents, signatures
from forwarder.reader.calls import Calls
from forwarder.reader.me import Me
from forwarder.reader.notebook import Item, Notebook
from forwarder.reader.originate import Originator
from forwarder.reader.stores import Stores


class Refreshed(NamedTuple):
    """waiting: the list. dead: what left it, dealt with by somebody or withdrawn. faults: a line for each peer."""

    waiting: list[Item]
    dead: list[Item]
    faults: list[str]


class Desk:
    """One person, his notebook and his peers."""

    def __init__(self, me: Me, notebook: Notebook, calls: Calls) -> None:
        self.me, self.notebook = me, notebook
        self._calls, self._stores = calls, Stores(calls, notebook, me)

    async def refresh(self) -> Refreshed:
        """Polls, silences what is saved, drops what is dead, verifies what is signed, clears what is closed."""
        polled = await agents.poll(self._calls, self.notebook, self.me)
        dead = await self._stores.settle(polled.missing)
        for item in dead:
            self.notebook.closed(item.number, self.now())
        await signatures.verify(self.notebook, self._calls.texts, self.now())
        polled.faults.extend(await agents.clear(self._calls, self.notebook, self.me))
        return Refreshed(self.notebook.items(), dead, list(dict.fromkeys(polled.faults)))

    async def fetch(self, item: Item, write: Callable[[bytes], object], limit: int) -> int:
        """The message, to `write`; its octets. An item whose store has it no more leaves the list: then raises Gone.

        Raises PeerError otherwise (TooLarge, WrongDigest among them).
        """
        try:
            return await self._stores.fetch(item, write, limit)
        except Gone:
            await self._close(item)
            raise

    async def done(self, item: Item) -> tuple[bool, list[str]]:
        """Un-pins and clears. False: it was closed before, perhaps by us. Raises PeerError: nothing has changed."""
        unpinned = await self._stores.unpin(item)
        return unpinned, await self._close(item)

    def originator(self) -> Originator:
        """My store. Raises ConfigErrors where me.toml names none."""
        if self.me.store is None:
            raise ConfigErrors([ConfigError(str(self.me.file), 0, "store", "is missing: the store to originate at")])
        return Originator(self._calls, self.me.store)

    async def _close(self, item: Item) -> list[str]:
        self.notebook.closed(item.number, self.now())
        return await agents.clear(self._calls, self.notebook, self.me, [item.number])

    def now(self) -> int:
        """Unix seconds."""
        return int(self._calls.now())
