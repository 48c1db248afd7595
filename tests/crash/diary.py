"""A plugin of the crash harness's own: it writes down what it was asked to do, so that nothing is done in silence.

An address's name says what is planned: `timer`, a Work in ten minutes; `again`, one that asks for another try;
`escalate`, one that leads to a role; `sticky`, a choice in turn; `both`, a Work beside a Deposit.
Each plan counts in its memory, and the count goes with the Work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from forwarder.model import Route
from forwarder.plugin import (
    Again,
    Case,
    Deposit,
    Objection,
    Options,
    Plan,
    Ports,
    Resend,
    Strategy,
    StrategySpec,
    Work,
    hookimpl,
)

WAIT = timedelta(minutes=10)
LIFE = 0
"""Of the process; set by the entry point."""


class DiaryOptions(Options):
    """The table [diary] of an address file."""

    file: str


@dataclass(frozen=True, slots=True)
class Diary:
    file: str
    route: Route

    def plan(self, case: Case, /) -> Plan:
        count = int(case.memory.get("count", b"0")) + 1
        kind = self.route.address.localpart
        remember = {"count": b"%d" % count}
        if kind == "sticky":
            to = case.earlier or (self.route.to[count % len(self.route.to)],)
            return Plan((Resend(to, sticky=True),), remember=remember)
        at = case.now + WAIT if kind in ("timer", "again") else None
        payload = b"%d %d" % (count, at.timestamp() if at else 0)
        work = Work(kind, payload, at, self._may(kind))
        if kind == "both":
            return Plan((work, Deposit(self.route.readers)), remember=remember)
        return Plan((work,), remember=remember)

    def _may(self, kind: str) -> tuple[Resend, ...]:
        return (Resend(self.route.to),) if kind == "escalate" else ()

    async def work(self, case: Case, work: Work, /) -> Plan | Again | None:
        count, first = map(int, work.payload.split())
        due = int(work.at.timestamp()) if work.at else 0
        line = {"key": case.notification.identifier.hex(), "name": work.name, "count": count, "due": due}
        self._write({**line, "now": case.now.timestamp(), "life": LIFE})
        if work.name == "again" and due == first:
            return Again(case.now + WAIT, "a second time")
        return Plan(self._may("escalate")) if work.name == "escalate" else None

    def _write(self, line: dict[str, object]) -> None:
        handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(handle, json.dumps(line).encode() + b"\n")
        os.close(handle)


def make(route: Route, options: DiaryOptions, ports: Ports) -> Strategy:
    return Diary(options.file, route)


def objections(route: Route, options: DiaryOptions) -> Sequence[Objection]:
    return ()


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[DiaryOptions]]:
    return (StrategySpec("diary", DiaryOptions, make, objections),)
