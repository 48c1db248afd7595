"""What became of a debt, told: a line of the trace for each target, and the log where somebody should know."""

from __future__ import annotations

from forwarder.model import Outcome, handle
from forwarder.plugin import Log
from forwarder.ports import Clock, Debt, Trace
from forwarder.wire.outcome import ACCEPTED, DEFERRED

TEXT = 500


class Story:
    """Lines have the columns of the answer's own line; the peer's is "-> TARGET"."""

    def __init__(self, trace: Trace, log: Log, clock: Clock) -> None:
        self._trace = trace
        self._log = log
        self._clock = clock

    def told(self, debt: Debt, target: str, outcome: Outcome, what: str) -> None:
        moment, recipient = f"{self._clock():.3f}", f"{debt.recipient.localpart}@{debt.recipient.domain}"
        line = (moment, handle(debt.key), debt.store, recipient, f"-> {target}", str(outcome.code), what)
        self._trace.write("\t".join(line))

    def given_up(self, debt: Debt, target: str, outcome: Outcome) -> None:
        self.told(debt, target, outcome, "given up")
        self._log.info("given up", key=handle(debt.key), entry=debt.entry, target=target, code=outcome.code)

    def carried(self, debt: Debt, target: str, text: str) -> None:
        self.told(debt, target, Outcome(ACCEPTED), _with("carried", text))

    def carried_later(self, debt: Debt, target: str, why: str) -> None:
        self.told(debt, target, Outcome(DEFERRED), _with("later", why))
        self._log.info("carried later", key=handle(debt.key), entry=debt.entry, target=target, why=why)

    def not_carried(self, debt: Debt, target: str, outcome: Outcome, why: str) -> None:
        self.told(debt, target, outcome, _with("not carried", why))
        self._log.info("not carried", key=handle(debt.key), entry=debt.entry, target=target, why=why)

    def fault(self, debt: Debt, error: Exception) -> None:
        """Ours, not a peer's: its row stays open."""
        self._log.info("debt not taken", number=debt.number, entry=debt.entry, error=f"{type(error).__name__}: {error}")


def _with(what: str, why: str) -> str:
    """In one column: what a smarthost said may hold anything."""
    said = "".join(c if c.isprintable() else " " for c in why)[:TEXT]
    return f"{what}: {said}" if said else what
