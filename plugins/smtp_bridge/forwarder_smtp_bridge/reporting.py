"""Reports to the envelope senders of what failed after we had taken it (bridges.md 4.6): RFC 3464, null sender.

The node keeps what is due; it is done when the smarthost has the report, or will never take it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import trio

from forwarder.bridges import Failure, ServicePorts
from forwarder.model import Mailbox, parse_mailbox
from forwarder_smtp_bridge.carrier import later
from forwarder_smtp_bridge.fates import Deferred, Refused, Sent
from forwarder_smtp_bridge.reports import Reported, write_report
from forwarder_smtp_bridge.smarthost import Smarthost

GIVE_UP = timedelta(days=5)
ALL_AT_ONCE = 20
STATUS = {48: "5.1.1", 50: "5.4.6", 52: "5.4.6", 53: "5.4.7"}
WHAT = {Sent: "failure reported", Refused: "report refused", Deferred: "report given up"}
SAID = {53: "nobody has read it in all the time it had"}


class Reporting:
    """bridges.Service: it listens nowhere."""

    def __init__(self, ports: ServicePorts, smarthost: Smarthost | None) -> None:
        self._ports = ports
        self._smarthost = smarthost
        self._tries: dict[int, tuple[int, float]] = {}
        self._scope = trio.CancelScope()

    def drain(self) -> None:
        """What is due stays due."""
        self._scope.cancel()

    async def run(self, ready: Callable[[], None], /) -> None:
        ready()
        with self._scope:
            while True:
                now = self._ports.now().timestamp()
                due = [f for f in await self._ports.failures.due() if self._tries.get(f.number, (0, 0.0))[1] <= now]
                async with trio.open_nursery() as nursery:
                    for failure in due[:ALL_AT_ONCE]:
                        nursery.start_soon(self._report, failure)
                if not due:
                    await self._ports.failures.wait()

    async def _report(self, failure: Failure) -> None:
        to = _mailbox(failure.returns)
        if to is None or self._smarthost is None:
            why = "no smarthost" if to else "no address to report to"
            self._ports.log.info("failure not reported", recipient=str(failure.recipient), code=failure.code, why=why)
            await self._ports.failures.done(failure.number)
            return
        report = _written(failure, self._ports)
        file = self._ports.scratch / f"report-{failure.number}"
        await trio.Path(file).write_bytes(report)
        fates = await self._smarthost.carry("", [to], lambda: file.open("rb"), native=True)
        await trio.Path(file).unlink(missing_ok=True)
        fate = fates[to]
        if isinstance(fate, Deferred) and self._ports.now() - failure.at < GIVE_UP:
            tries = self._tries.get(failure.number, (0, 0.0))[0]
            self._tries[failure.number] = (tries + 1, later(self._ports.now(), tries).timestamp())
            return
        self._tries.pop(failure.number, None)
        what = (
            "report refused" if isinstance(fate, Refused) else "given up" if isinstance(fate, Deferred) else "reported"
        )
        self._ports.log.info(what, recipient=str(failure.recipient), code=failure.code)
        await self._ports.failures.done(failure.number)


def _written(failure: Failure, ports: ServicePorts) -> bytes:
    said = SAID.get(failure.code, failure.text) or "refused"
    reported = Reported(str(failure.recipient), "failed", STATUS.get(failure.code, "5.7.1"), f"x-im2000; {said}")
    name = f"{failure.number}.{int(failure.at.timestamp())}"
    return write_report(failure.returns, [reported], failure.head, mta=ports.node, name=name, now=failure.at)


def _mailbox(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except ValueError:
        return None
