"""Which errands run at once: neither one slow store nor many that nobody knows keep the rest waiting (protocol 8.9).

Anybody may name a store that drips for minutes. So pulls have PER_STORE of a store, and half of all places while the
store never gave us a message; other deeds have places of their own.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

AT_ONCE = 20
"""Of one kind of deed."""
PER_STORE = 4
KNOWN = 10_000
"""Stores that gave us a message, those that did so last."""


class Slots:
    """`of` waits for a place and holds it; first come, first served, among those of one sort."""

    def __init__(self) -> None:
        self._kinds: defaultdict[str, trio.CapacityLimiter] = defaultdict(lambda: trio.CapacityLimiter(AT_ONCE))
        self._strange = trio.CapacityLimiter(AT_ONCE // 2)
        self._stores: dict[str, trio.CapacityLimiter] = {}
        self._known: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def of(self, kind: str, store: str) -> AsyncGenerator[None]:
        """kind: of the debt; only a pull is one more of its store's."""
        async with AsyncExitStack() as held:
            if kind == "pull":
                await held.enter_async_context(self._of_store(store))
                if store not in self._known:
                    await held.enter_async_context(self._strange)
            await held.enter_async_context(self._kinds[kind])
            yield

    def gave(self, store: str) -> None:
        """A message of it was fetched."""
        self._known[store] = None
        self._known.move_to_end(store)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def _of_store(self, store: str) -> AsyncGenerator[None]:
        places = self._stores.setdefault(store, trio.CapacityLimiter(PER_STORE))
        try:
            async with places:
                yield
        finally:
            if not places.borrowed_tokens and not places.statistics().tasks_waiting:
                self._stores.pop(store, None)
