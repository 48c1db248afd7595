"""What comes back to our return paths (bridges.md 6): reports, for the sender or for the row that they speak of.

* SRS: on to the sender behind it, unchanged, with null sender.
* `b=`: a report of failure ends the target it names, and goes on to the SMTP sender that the message came with, if
  it is too late to tell anybody else. Delays, and whatever is no report, are noted and let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from forwarder.bridges import Failed, Never, ServicePorts, Spool, Submission
from forwarder.model import Mailbox, parse_mailbox
from forwarder_smtp_bridge.handing_in import line, line_of, once, submitted
from forwarder_smtp_bridge.outcomes import Reply
from forwarder_smtp_bridge.reports import LIMIT, NotAReport, Reported, read_report
from forwarder_smtp_bridge.returns import Forward, ReturnPaths, Row
from forwarder_smtp_bridge.serve import Envelope

REFUSED = 49
LIFETIME = timedelta(days=7)


class Homecoming:
    """account: who owns reports on their way."""

    def __init__(self, ports: ServicePorts, paths: ReturnPaths, account: str) -> None:
        self._ports = ports
        self._paths = paths
        self._account = account

    async def take(self, envelope: Envelope, spool: Spool) -> Sequence[Reply]:
        """A line for each recipient, all of them return paths. Raises OSError, PeerError, Fault.

        What is not sent on is refused only to whom it was for: a row that has been ended is not ended again.
        """
        onward = [await self._onward(mailbox, spool) for mailbox in envelope.recipients]
        lines = await self._sent_on(list(dict.fromkeys(filter(None, onward))), spool)
        return [line("taken") if to is None else lines[to] for to in onward]

    async def _onward(self, mailbox: Mailbox, spool: Spool) -> Mailbox | None:
        """To whom else it goes."""
        found = self._paths.reverse(str(mailbox))
        if isinstance(found, Forward):
            return _first_mailbox([found.to])
        return await self._of_row(found.number, spool) if isinstance(found, Row) else None

    async def _of_row(self, number: int, spool: Spool) -> Mailbox | None:
        report = read_report(await spool.head(LIMIT))
        if isinstance(report, NotAReport):
            self._ports.log.info("no report at a return path", row=number, why=report.why)
            return None
        failed = [reported for reported in report.recipients if reported.action == "failed"]
        self._ports.log.info("report", row=number, mta=report.mta, failed=[reported.final for reported in failed])
        ends = [await self._ended(number, reported) for reported in failed]
        return _first_mailbox(end.returns for end in ends if not end.known and end.returns)

    async def _ended(self, row: int, reported: Reported) -> Failed:
        """The target that a report names; under the name a later forwarder gave it, whichever there is.

        Who has ended already is still the one it names: the same report comes again where our answer was lost.
        """
        why = Never(REFUSED, f"{reported.status} {reported.diagnostic}".strip())
        failed = Failed(False, None)
        for mailbox in (*reported.mailboxes(), None):
            failed = await self._ports.carry_failed(row, mailbox, why)
            if failed.known or failed.named:
                break
        return failed

    async def _sent_on(self, to: Sequence[Mailbox], spool: Spool) -> dict[Mailbox, Reply]:
        if not to:
            await spool.abort()
            return {}
        marks = tuple(once(spool.sha256, "", mailbox) for mailbox in to)
        submission = Submission(self._account, tuple(to), spool, "", marks, LIFETIME, redirects=True)
        outcomes = await submitted(self._ports, submission)
        return {mailbox: line_of(outcome) for mailbox, outcome in zip(to, outcomes, strict=True)}


def _first_mailbox(addresses: Iterable[str | None]) -> Mailbox | None:
    for address in filter(None, addresses):
        try:
            return parse_mailbox(address)
        except ValueError:
            continue
    return None
