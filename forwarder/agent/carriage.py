"""Targets without an agent: a plugin's carrier brings them the message itself (bridges.md 5).

* All targets of one row that are due at the same time go as one load; at most AT_ONCE loads are out, and as many
  again of native messages, whose stores are strangers and may be slow on purpose: OF_STORE from each.
* A carrier that raises, hangs or says nothing of a target has said "later" for it. Nothing here is on the disk: the
  courier writes what a target became.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import trio

from forwarder.agent.owed import Member, Owed
from forwarder.agent.tick import Tick
from forwarder.bridges import Carried, Carry, Later, Load, Never, Taken
from forwarder.model import Notification
from forwarder.plugin import Log, PeerError
from forwarder.ports import Clock, Sources

AT_ONCE = 50
OF_STORE = 10
PATIENCE = 3600.0
"""Seconds: a carrier has deadlines of its own; this ends one that has not."""

Told = Callable[[Owed, Member, Carried | PeerError], None]
Sender = Callable[[Notification], Awaitable[str | None]]
"""The envelope sender of what came by other mail, None for native messages. hosts: whether its domain is ours."""


class Carriage:
    """carriers: by name. `told` hears of each target; the courier gives it."""

    def __init__(
        self,
        carriers: Mapping[str, Carry],
        nursery: trio.Nursery,
        tick: Tick,
        sources: Sources,
        sender: Sender,
        hosts: Callable[[str], bool],
        clock: Clock,
        log: Log,
    ) -> None:
        self._carriers = carriers
        self._nursery = nursery
        self._tick = tick
        self._sources = sources
        self._sender = sender
        self._hosts = hosts
        self._clock = clock
        self._log = log
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._native = trio.CapacityLimiter(AT_ONCE)
        self._of_store: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()
        self._waiting: dict[tuple[int, str], tuple[Owed, list[Member]]] = {}
        self.told: Told = _unheard

    def has(self, carrier: str) -> bool:
        return carrier in self._carriers

    def put(self, owed: Owed, member: Member, carrier: str) -> None:
        """At the end of this tick."""
        if not self._waiting:
            self._tick.soon(self._start)
        self._waiting.setdefault((owed.debt.number, carrier), (owed, []))[1].append(member)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for (_, carrier), (owed, members) in waiting.items():
            self._nursery.start_soon(self._carry, owed, members, carrier)

    async def _carry(self, owed: Owed, members: list[Member], carrier: str) -> None:
        answers: Mapping[Any, Carried] = {}
        fault: PeerError = PeerError(f"the carrier {carrier} did not say")
        try:
            if not self.has(carrier):
                raise PeerError(f"no carrier {carrier} is configured")
            load = await self._load(owed, members)
            async with self._turn(load):
                with trio.fail_after(PATIENCE):
                    answers = await self._carriers[carrier](load)
        except PeerError as error:
            fault = error
            self._log.info("not carried", number=owed.debt.number, carrier=carrier, why=str(error))
        except Exception as error:  # a plugin's fault is its own
            fault = PeerError(f"{type(error).__name__}: {error}")
            self._log.info("carrier failed", number=owed.debt.number, carrier=carrier, error=str(fault), exc_info=error)
        for member in members:
            answer = answers.get(member.mailbox)
            self.told(owed, member, answer if isinstance(answer, Taken | Later | Never) else fault)

    @asynccontextmanager
    async def _turn(self, load: Load) -> AsyncIterator[None]:
        if load.returns is not None:
            async with self._limiter:
                yield
            return
        store = load.notification.store
        of_store = self._of_store.get(store) or trio.CapacityLimiter(OF_STORE)
        self._of_store[store] = of_store
        async with of_store, self._native:
            yield

    async def _load(self, owed: Owed, members: list[Member]) -> Load:
        notification = owed.notification
        returns = await self._sender(notification)
        return Load(
            number=owed.debt.number,
            notification=notification,
            to=tuple(member.mailbox for member in members),
            returns=returns,
            local=returns is not None and self._hosts(returns),
            since=datetime.fromtimestamp(owed.debt.accepted, UTC),
            tries=min(member.tries for member in members),
            body=partial(self._body, notification),
        )

    def _body(self, notification: Notification, limit: int) -> AbstractAsyncContextManager[Any]:
        return self._sources.body(notification, limit)


def _unheard(owed: Owed, member: Member, answer: Carried | PeerError) -> None:
    raise AssertionError("the courier was not wired to the carriage")
