"""Debts that take a task: pulls (options 4 and 5), plugins' Work, un-pins that our readers gave.

At least once, with back-off, across restarts. A Work's time is in its row, that of another try it asked for too: it is
not before it, and once due, once in a process.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import trio

from forwarder.agent.item import Item
from forwarder.agent.slots import Slots
from forwarder.agent.tick import Tick
from forwarder.model import Mailbox, Notification, Outcome, Peer, parse_mailbox
from forwarder.plugin import Again, Case, Log, PeerError, Plan, Pull, Work
from forwarder.ports import Addresses, Clock, Debt, Full, Gone, Ledger, NoService, Puller, PullOrder, Strategies
from forwarder.wire.outcome import ACCEPTED, DEFERRED, DUPLICATE, OVERQUOTA, REFUSED, code_class

A_DAY = 86400
Ended = Callable[[Debt, Outcome], None]
Perform = Callable[[Case, Plan, str, int, Callable[[Outcome], None]], None]


class Errands:
    """`perform` does the plan that a Work led to; the dispatcher gives it when it is built.

    `pulled` hears of each pull that ended: its address, and when its order was accepted.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        tick: Tick,
        puller: Puller,
        strategies: Strategies,
        addresses: Addresses,
        ledger: Ledger,
        wait: Callable[[int, int | None], float],
        give_up: float,
        clock: Clock,
        log: Log,
    ) -> None:
        self._nursery = nursery
        self._tick = tick
        self._puller = puller
        self._strategies = strategies
        self._addresses = addresses
        self._ledger = ledger
        self._wait = wait
        self._give_up = give_up
        self._clock = clock
        self._log = log
        self._slots = Slots()
        self.perform: Perform | None = None
        self.pulled: Callable[[Mailbox, int], None] = _unheard
        self.unpin: Callable[[Notification], Awaitable[None]] = _no_store
        self.waiting = 0

    def at_tick(self, call: Callable[[], None]) -> None:
        self._tick.soon(call)

    def soon(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """A small task of the courier's own; what goes wrong in it is logged, not fatal."""
        self._nursery.start_soon(self._guarded, task, args)

    async def _guarded(self, task: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
        try:
            await task(*args)
        except Exception as error:
            self._log.info("courier task failed", error=f"{type(error).__name__}: {error}")

    # -- rows

    def pull_state(self, item: Item, step: Pull) -> bytes:
        assert item.entry is not None
        return _pack(
            address=str(item.entry.route.address),
            to=[str(mailbox) for mailbox in step.to],
            readers=list(step.readers),
            linked=step.linked,
            unpin=step.unpin,
            max_size=step.max_size,
            keep=int(step.keep.total_seconds()) if step.keep is not None else None,
        )

    def work_state(self, item: Item, step: Work) -> bytes:
        assert item.entry is not None
        return _pack(
            strategy=item.strategy,
            name=step.name,
            payload=base64.b64encode(step.payload).decode(),
            at=step.at.timestamp() if step.at else 0,
        )

    # -- deeds

    def take(self, debt: Debt, notification: Notification, ended: Ended) -> None:
        self.waiting += 1
        self._nursery.start_soon(self._attempts, debt, notification, ended)

    async def _attempts(self, debt: Debt, notification: Notification, ended: Ended) -> None:
        """Until it is done, refused, or has failed for `[retry] give_up` since it was due."""
        state = json.loads(debt.state)
        attempt = {"pull": self._pull, "unpin": self._unpin}.get(debt.kind, self._work)
        tries = 0
        try:
            while True:
                await self._until(state.get("at", 0))
                outcome, again = await self._once(attempt, debt, notification, state)
                if again:
                    tries, state["at"] = 0, again
                    self._ledger.settle_soon(debt.number, _pack(**state), closed=False)
                    continue
                if code_class(outcome.code) != 2:
                    break
                tries += 1
                if self._clock() - max(debt.accepted, state.get("at", 0)) > self._give_up:
                    outcome = Outcome(REFUSED, text=outcome.text or "given up")
                    break
                await self._until(self._clock() + self._wait(tries, outcome.retryafter))
        finally:
            self.waiting -= 1
        state["ended"] = outcome.code
        self._ledger.settle_soon(debt.number, _pack(**state), closed=True)
        ended(debt, outcome)

    async def _once(
        self,
        attempt: Callable[..., Awaitable[tuple[Outcome, float]]],
        debt: Debt,
        notification: Notification,
        state: Any,
    ) -> tuple[Outcome, float]:
        try:
            async with self._slots.of(debt.kind, debt.store):
                return await attempt(debt, notification, state)
        except PeerError as error:
            self._log.info("errand put off", kind=debt.kind, entry=debt.entry, error=str(error))
            if isinstance(error, NoService) and error.kind == "baddomain":  # protocol 4: at most once a day
                return Outcome(DEFERRED, retryafter=A_DAY), 0.0
            if isinstance(error, Full):  # told to the store if it is given up
                return Outcome(OVERQUOTA, text=str(error)), 0.0
        except Exception as error:
            self._log.info("errand failed", kind=debt.kind, entry=debt.entry, error=f"{type(error).__name__}: {error}")
        return Outcome(DEFERRED), 0.0

    async def _pull(self, debt: Debt, notification: Notification, state: Any) -> tuple[Outcome, float]:
        order = PullOrder(
            notification,
            debt.entry,
            parse_mailbox(state["address"]),
            tuple(parse_mailbox(text) for text in state["to"]),
            tuple(state["readers"]),
            state["linked"],
            state["unpin"],
            state["max_size"],
            state["keep"],
            shared=notification.shared,
        )
        outcome = await self._puller.pull(order)
        if outcome.code == ACCEPTED:
            self._slots.gave(debt.store)
        self.pulled(order.address, debt.accepted)
        return outcome, 0.0

    async def _unpin(self, debt: Debt, notification: Notification, state: Any) -> tuple[Outcome, float]:
        try:
            await self.unpin(notification)
        except Gone:  # by another, or withdrawn: as good as done
            return Outcome(DUPLICATE), 0.0
        return Outcome(ACCEPTED), 0.0

    async def _work(self, debt: Debt, notification: Notification, state: Any) -> tuple[Outcome, float]:
        route = await self._addresses.entry(debt.entry)
        if route is None:
            return Outcome(REFUSED, text="the address is gone"), 0.0
        try:
            strategy = self._strategies.make(state["strategy"], route)
        except KeyError:
            return Outcome(DEFERRED), 0.0
        memory = await self._ledger.memory(debt.entry, state["strategy"])
        now = datetime.fromtimestamp(self._clock(), UTC)
        case = Case(notification, route, Peer("", inner=True), now, (), memory)
        at = datetime.fromtimestamp(state["at"], UTC) if state["at"] else None
        work = Work(state["name"], base64.b64decode(state["payload"]), at)
        result = await self._strategies.work(strategy, case, work)
        if isinstance(result, Again):
            return Outcome(DEFERRED), result.at.timestamp()
        if result is None:
            return Outcome(ACCEPTED), 0.0
        return await self._performed(case, result, state["strategy"], debt.number), 0.0

    async def _performed(self, case: Case, plan: Plan, strategy: str, debt: int) -> Outcome:
        assert self.perform is not None
        done, outcomes = trio.Event(), list[Outcome]()

        def ended(outcome: Outcome) -> None:
            outcomes.append(outcome)
            done.set()

        self.perform(case, plan, strategy, debt, ended)
        await done.wait()
        return outcomes[0]

    def ended(self, debt: Debt) -> Outcome:
        """What an order that is asked for again came to: a no is told again, else it is a duplicate."""
        code = json.loads(debt.state).get("ended", ACCEPTED) if debt.kind != "resend" else ACCEPTED
        return Outcome(code if code_class(code) == 3 else DUPLICATE)

    async def _until(self, due: float) -> None:
        """Looks at the clock each hour: it may be turned, and a sleep of years is none."""
        while (wait := due - self._clock()) > 0:  # noqa: ASYNC110  # nobody could set an event
            await trio.sleep(min(wait, 3600.0))


def _unheard(address: Mailbox, accepted: int) -> None:
    """Until somebody listens."""


async def _no_store(notification: Notification) -> None:
    raise PeerError("the stores of others were not wired to the errands")


def _pack(**state: Any) -> bytes:
    return json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode()
