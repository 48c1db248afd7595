"""Reports to the envelope senders of what failed after we had taken it (bridges.md 4.6): RFC 3464, null sender.

The node keeps what is due; it is done when the smarthost has the report, or will never take it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import trio

from forwarder.bridges import Failure, ServicePorts
from forwarder.model import Mailbox, parse_mailbox
from forwarder_smtp_bridge.carrier import later
from forwarder_smtp_bridge.draft import Draft
from forwarder_smtp_bridge.fates import Deferred, Refused
from forwarder_smtp_bridge.reports import Reported, write_report
from forwarder_smtp_bridge.smarthost import Smarthost

GIVE_UP = timedelta(days=5)
ALL_AT_ONCE = 20
PUT_OFF = 500
"""So many wait for their next try at most, and no more are begun meanwhile: each round has the heads of all."""
DONE = 10.0
PAUSE = 1.0
STATUS = {32: "5.4.7", 48: "5.1.1", 50: "5.4.6", 52: "5.4.6", 53: "5.4.7"}
UNREAD = {
    32: "it could not be passed on in a week",
    53: "nobody has read it in all the time it had",
}


class Reporting:
    """bridges.Service: it listens nowhere. smarthost None: nobody can be told, which is logged."""

    def __init__(self, ports: ServicePorts, smarthost: Smarthost | None) -> None:
        self._ports = ports
        self._smarthost = smarthost
        self._put_off: dict[int, tuple[int, datetime]] = {}
        """Of reports that the smarthost would not take yet: tries, and the time of the next."""
        self._scope = trio.CancelScope()

    def drain(self) -> None:
        """What is due stays due."""
        self._scope.cancel()

    async def run(self, ready: Callable[[], None], /) -> None:
        ready()
        try:
            with self._scope:
                while True:
                    await self._a_round()
        finally:
            if self._smarthost is not None:
                await self._smarthost.close()

    async def _a_round(self) -> None:
        """Reports what can be reported, or waits until there may be something."""
        due = await self._due()
        async with trio.open_nursery() as nursery:
            for failure in due:
                nursery.start_soon(self._report, failure)
        if not due:
            await trio.sleep(PAUSE if self._put_off else 0.0)  # each piece of news would have all these read again
            with trio.move_on_after(self._until_next()):
                await self._ports.failures.wait()

    async def _due(self) -> Sequence[Failure]:
        """What was put off stands first at the node: more are asked for, or it would hide what is new."""
        more = min(ALL_AT_ONCE, max(PUT_OFF - len(self._put_off), 0))
        found = await self._ports.failures.due(len(self._put_off) + more)
        there = {failure.number for failure in found}
        self._put_off = {number: put for number, put in self._put_off.items() if number in there}
        now = self._ports.now()
        return [f for f in found if f.number not in self._put_off or self._put_off[f.number][1] <= now][:ALL_AT_ONCE]

    def _until_next(self) -> float:
        if not self._put_off:
            return float("inf")
        first = min(when for _, when in self._put_off.values())
        return max((first - self._ports.now()).total_seconds(), 0.0)

    async def _report(self, failure: Failure) -> None:
        to = _mailbox(failure.returns)
        if to is None:
            await self._done(failure, "failure not reported", "no address to report to")
        elif self._smarthost is None:
            await self._done(failure, "failure not reported", "no [bridge.smtp_out]")
        else:
            await self._send(failure, to, self._smarthost)

    async def _send(self, failure: Failure, to: Mailbox, smarthost: Smarthost) -> None:
        draft = Draft(self._ports.scratch)
        try:
            await draft.write(_written(failure, self._ports.node))
            fates = await smarthost.carry("", [to], draft.finish())
        finally:
            await draft.close()
        fate = fates[to]
        if isinstance(fate, Deferred) and self._ports.now() - failure.at < GIVE_UP:
            tries = self._put_off.get(failure.number, (0, None))[0]
            self._put_off[failure.number] = (tries + 1, later(self._ports.now(), tries))
            self._ports.log.info("report put off", recipient=str(failure.recipient), why=f"{fate.code} {fate.text}")
        elif isinstance(fate, Deferred | Refused):
            await self._done(failure, "failure not reported", f"{fate.code} {fate.status} {fate.text}")
        else:
            await self._done(failure, "failure reported", "")

    async def _done(self, failure: Failure, what: str, why: str) -> None:
        self._ports.log.info(what, recipient=str(failure.recipient), code=failure.code, why=why)
        with trio.move_on_after(DONE, shield=True):  # a drain does not have it reported twice
            await self._ports.failures.done(failure.number)


def _written(failure: Failure, node: str) -> bytes:
    said = UNREAD.get(failure.code, failure.text) or "refused"
    reported = Reported(str(failure.recipient), "failed", STATUS.get(failure.code, "5.7.1"), f"x-im2000; {said}")
    name = f"{failure.number}.{int(failure.at.timestamp())}"
    return write_report(failure.returns, [reported], failure.head, mta=node, name=name, now=failure.at)


def _mailbox(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except ValueError:
        return None
