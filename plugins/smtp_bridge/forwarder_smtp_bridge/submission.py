"""Our users' own mail, after the MTA has checked login and sender (bridges.md 7): one transaction is one message.

LMTP carries no login, so the account is who owns the envelope sender, or reads it; or one fixed account.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.bridges import ServicePorts, Submission
from forwarder.model import Mailbox, parse_mailbox
from forwarder.plugin import PeerError
from forwarder_smtp_bridge.entrance import RCPT_OK, reply_to
from forwarder_smtp_bridge.events import Mail
from forwarder_smtp_bridge.handing_in import once, submitted
from forwarder_smtp_bridge.headers import HEAD, way_of
from forwarder_smtp_bridge.looking import Looking, kind_and_text
from forwarder_smtp_bridge.options import SmtpIn, SubmissionOptions
from forwarder_smtp_bridge.outcomes import TABLE, Kind, Reply, reply_of
from forwarder_smtp_bridge.serve import Envelope, Sink

BY_SENDER = "sender"
OK = Reply(250, "2.1.0", "ok")
NOBODY = Reply(550, "5.7.1", "no account of ours may send as this sender")


class Departure:
    """serve.Delivery for our users' mail."""

    def __init__(self, options: SubmissionOptions, smtp_in: SmtpIn, ports: ServicePorts, looking: Looking) -> None:
        self._account = options.account
        self.smtp_in = smtp_in
        self.ports = ports
        self._looking = looking

    async def mail(self, mail: Mail, /) -> Reply:
        try:
            return OK if await self.account(mail.sender) else NOBODY
        except PeerError:
            return line("broken")

    async def account(self, sender: str) -> str | None:
        """Who owns what this sender sends. Raises PeerError: we do not know."""
        if self._account != BY_SENDER:
            return self._account
        try:
            senders = await self._looking.logins(parse_mailbox(sender))
        except ValueError:
            return None
        return senders[0] if senders else None

    async def rcpt(self, mail: Mail, mailbox: Mailbox, /) -> Reply:
        """Whoever is hosted here is looked up; all others are the world's."""
        try:
            answer = await self.ports.look(mailbox)
        except PeerError:
            return line("broken")
        if not answer.ours:
            return RCPT_OK
        kind, text = kind_and_text(answer)
        return RCPT_OK if kind in ("taken", "moved", "moved to") else line(kind, text)

    async def data(self, envelope: Envelope, /) -> Sink | Reply:
        try:
            account = await self.account(envelope.mail.sender)
        except PeerError:
            return line("broken")
        return NOBODY if account is None else Departing(self, envelope, account)


class Departing:
    """serve.Sink: one message of a user's."""

    def __init__(self, departure: Departure, envelope: Envelope, account: str) -> None:
        self._of = departure
        self._envelope = envelope
        self._account = account
        self._spool = departure.ports.spool()

    async def write(self, octets: bytes, /) -> None:
        await self._spool.write(octets)

    async def abort(self) -> None:
        await self._spool.abort()

    async def commit(self) -> Sequence[Reply]:
        recipients, sender = self._envelope.recipients, self._envelope.mail.sender
        if way_of(await self._spool.head(HEAD)).received > self._of.smtp_in.received:
            await self._spool.abort()
            return [line("loop")] * len(recipients)
        marks = tuple(once(self._spool.sha256, sender, mailbox) for mailbox in recipients)
        options = self._of.smtp_in
        submission = Submission(
            *(self._account, recipients, self._spool, sender, marks, options.lifetime, options.answer_wait),
            redirects=True,
        )
        found = await submitted(self._of.ports, submission)
        return [line(outcome) if isinstance(outcome, str) else reply_to(outcome) for outcome in found]


def line(kind: Kind, text: str = "") -> Reply:
    """A row of the table that has an answer."""
    reply = reply_of(kind, text) or TABLE["broken"].reply
    assert reply is not None
    return reply
