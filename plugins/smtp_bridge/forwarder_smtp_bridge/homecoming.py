"""What comes back to our return paths (bridges.md 6): reports, for the sender or for the row that they speak of.

* SRS: on to the sender behind it, unchanged, with null sender.
* `b=`: a report of failure ends the target it names, and goes on to the SMTP sender that the message came with, if
  it is too late to tell anybody else. Delays, and whatever is no report, are noted and let go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from forwarder.bridges import Failed, Never, ServicePorts, Spool, Submission
from forwarder.model import Mailbox, parse_mailbox
from forwarder_smtp_bridge.handing_in import once, submitted
from forwarder_smtp_bridge.outcomes import Kind, Reply, reply_of
from forwarder_smtp_bridge.reports import LIMIT, Reported, read_report
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
        """A line for each recipient, all of them return paths. Raises OSError, PeerError."""
        onward: list[Mailbox | None] = []
        for mailbox in envelope.recipients:
            onward.append(await self._onward(mailbox, spool))
        to = list(dict.fromkeys(mailbox for mailbox in onward if mailbox is not None))
        if not to:
            await spool.abort()
        elif not await self._sent_on(to, spool):
            return [_line("broken")] * len(onward)
        return [_line("taken")] * len(onward)

    async def _onward(self, mailbox: Mailbox, spool: Spool) -> Mailbox | None:
        """To whom else it goes."""
        found = self._paths.reverse(str(mailbox))
        if isinstance(found, Forward):
            return _mailbox(found.to)
        if not isinstance(found, Row):
            return None
        report = read_report(await spool.head(LIMIT))
        failed = [r for r in getattr(report, "recipients", ()) if r.action == "failed"]
        self._ports.log.info("report", row=found.number, failed=[r.final for r in failed])
        ends = [await self._ended(found.number, reported) for reported in failed]
        senders = [end.returns for end in ends if not end.known and end.returns]
        return _mailbox(senders[0]) if senders else None

    async def _ended(self, row: int, reported: Reported) -> Failed:
        """The target that a report names; under the name a later forwarder gave it, whichever there is."""
        why = Never(REFUSED, f"{reported.status} {reported.diagnostic}".strip())
        failed = Failed(False, None)
        for mailbox in (*reported.mailboxes(), None):
            failed = await self._ports.carry_failed(row, mailbox, why)
            if failed.known:
                break
        return failed

    async def _sent_on(self, to: Sequence[Mailbox], spool: Spool) -> bool:
        marks = tuple(once(spool.sha256, "", mailbox) for mailbox in to)
        submission = Submission(self._account, tuple(to), spool, "", marks, LIFETIME, redirects=True)
        return not any(isinstance(outcome, str) for outcome in await submitted(self._ports, submission))


def _mailbox(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except ValueError:
        return None


def _line(kind: Kind) -> Reply:
    reply = reply_of(kind)
    assert reply is not None
    return reply
