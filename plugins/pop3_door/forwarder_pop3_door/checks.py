"""Who is alive: before a message is shown, its store is asked for its size. List only what can be had.

* What a store said is kept KEPT seconds for the account that asked, over sessions, and told to no other account; what
  we have un-pinned is gone for all.
* At most STORES stores at once for an account, LINES questions at once to a store; a question under way is not asked
  again. A store that failed FAILS times in a row is left alone until the account's next login.
* `look` stops waiting after `wait` seconds; the questions go on in the background, for the next session.
* What failed last time is asked last, so neither a dead store nor a broken message stands before the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum

import trio

from forwarder.bridges import Gone, Item, Reader
from forwarder.model import handle
from forwarder.plugin import Log, PeerError

KEPT = 600.0
STORES = 20
LINES = 4
FAILS = 3
QUESTION = 60.0  # seconds


class Dead(Enum):
    """errornosuchmessage."""

    GONE = "gone"


GONE = Dead.GONE
Answer = int | Dead
Key = tuple[str, bytes]


def key_of(item: Item) -> Key:
    return item.notification.store, item.notification.identifier


class Checks:
    """All accounts' answers. The nursery must outlive the sessions."""

    def __init__(self, nursery: trio.Nursery, wait: float, log: Log) -> None:
        self._nursery = nursery
        self._wait = wait
        self._log = log
        self._accounts: dict[str, _Account] = {}

    async def look(self, reader: Reader, items: Sequence[Item]) -> Mapping[Key, Answer]:
        """What is known after `wait` seconds at most. Who is missing gave no answer (yet)."""
        account = self._account(reader.account)
        asked = account.ask(reader, items)
        with trio.move_on_after(self._wait):
            await asked.wait()
        return account.known()

    def again(self, reader: Reader, item: Item) -> None:
        """It could not be had after all: asked afresh, in the background."""
        account = self._account(reader.account)
        account.fail(key_of(item))
        account.ask(reader, [item])

    def gone(self, reader: Reader, item: Item) -> None:
        """Its store said so meanwhile."""
        self._account(reader.account).learn(key_of(item), GONE)

    def done(self, items: Sequence[Item]) -> None:
        """An un-pin of each is on the disk, so none is ever alive again, whoever had heard that it was.

        A notification that was still on its way may show one again; it is not listed then.
        """
        for account in self._accounts.values():
            for key in map(key_of, items):
                if account.heard(key):
                    account.learn(key, GONE)

    def _account(self, name: str) -> _Account:
        for old in [other for other, account in self._accounts.items() if account.idle and other != name]:
            del self._accounts[old]
        if name not in self._accounts:
            self._accounts[name] = _Account(self._nursery, self._log)
        return self._accounts[name]


class _Wait:
    """Somebody waits for these answers."""

    def __init__(self, keys: set[Key]) -> None:
        self._keys = keys
        self._event = trio.Event()
        if not keys:
            self._event.set()

    @property
    def is_over(self) -> bool:
        return self._event.is_set()

    def over(self, key: Key) -> None:
        self._keys.discard(key)
        if not self._keys:
            self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


class _Store:
    """What an account has to ask one store. failed: when the best of it failed last; 0: never."""

    __slots__ = ("failed", "fails", "name", "queue")

    def __init__(self, name: str, failed: float) -> None:
        self.name, self.failed = name, failed
        self.fails = 0
        self.queue: deque[tuple[Reader, Item]] = deque()

    @property
    def to_ask(self) -> bool:
        return bool(self.queue) and self.fails < FAILS


class _Account:
    def __init__(self, nursery: trio.Nursery, log: Log) -> None:
        self._nursery = nursery
        self._log = log
        self._answers: dict[Key, tuple[float, Answer]] = {}
        self._failed: dict[Key, float] = {}
        self._under_way: set[Key] = set()
        self._stores: dict[str, _Store] = {}
        self._lined_up: list[_Store] = []
        self._running = 0
        self._waits: list[_Wait] = []

    @property
    def idle(self) -> bool:
        """Nothing under way, nothing worth keeping."""
        self._expire()
        return not (self._under_way or self._answers or self._failed)

    def known(self) -> Mapping[Key, Answer]:
        self._expire()
        return {key: answer for key, (_, answer) in self._answers.items()}

    def heard(self, key: Key) -> bool:
        return key in self._answers

    def learn(self, key: Key, answer: Answer) -> None:
        self._answers.pop(key, None)  # the oldest stand first
        self._answers[key] = trio.current_time(), answer
        self._failed.pop(key, None)
        self._over(key)

    def fail(self, key: Key) -> None:
        self._answers.pop(key, None)
        self._failed.pop(key, None)
        self._failed[key] = trio.current_time()
        self._over(key)

    def ask(self, reader: Reader, items: Sequence[Item]) -> _Wait:
        """Asks what is neither known nor under way; the answer is a wait for all of `items` that are not known."""
        self._expire()
        missing = {key_of(item): item for item in items if key_of(item) not in self._answers}
        wait = _Wait(set(missing))
        self._waits = [*(other for other in self._waits if not other.is_over), wait]
        for key in sorted(missing.keys() - self._under_way, key=self._last_failed):
            store = self._stores.get(key[0]) or self._line_up(key)
            store.queue.append((reader, missing[key]))
        self._under_way |= missing.keys()
        self._go_on()
        return wait

    def _last_failed(self, key: Key) -> tuple[float, Key]:
        return self._failed.get(key, 0.0), key

    def _line_up(self, key: Key) -> _Store:
        store = self._stores[key[0]] = _Store(key[0], self._failed.get(key, 0.0))
        self._lined_up.append(store)
        self._lined_up.sort(key=lambda store: store.failed)
        return store

    def _go_on(self) -> None:
        while self._lined_up and self._running < STORES:
            self._running += 1
            self._nursery.start_soon(self._ask_store, self._lined_up.pop(0))

    async def _ask_store(self, store: _Store) -> None:
        while store.to_ask:
            async with trio.open_nursery() as lines:
                for _ in range(min(LINES, len(store.queue))):
                    lines.start_soon(self._line, store)
        del self._stores[store.name]
        for _, item in store.queue:
            self.fail(key_of(item))
        self._running -= 1
        self._go_on()

    async def _line(self, store: _Store) -> None:
        while store.to_ask:
            reader, item = store.queue.popleft()
            try:
                with trio.fail_after(QUESTION):
                    self.learn(key_of(item), await reader.size(item))
                store.fails = 0
            except Gone:
                self.learn(key_of(item), GONE)
                store.fails = 0
            except Exception as error:
                store.fails += 1
                self.fail(key_of(item))
                why = str(error) if isinstance(error, PeerError) else f"{type(error).__name__}: {error}"
                key = handle(item.notification.identifier)
                self._log.info("message hidden", store=store.name, key=key, account=reader.account, error=why)

    def _over(self, key: Key) -> None:
        self._under_way.discard(key)
        for wait in self._waits:
            wait.over(key)

    def _expire(self) -> None:
        """Both tables stand in the order of their times."""
        old = trio.current_time() - KEPT
        for key, (at, _) in list(self._answers.items()):
            if at > old:
                break
            del self._answers[key]
        for key, at in list(self._failed.items()):
            if at > old:
                break
            del self._failed[key]
