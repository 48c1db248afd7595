"""Our users' own mail, after the MTA has checked login and sender (bridges.md 7): one transaction is one message.

LMTP carries no login, so the account is who owns the envelope sender, or reads it; or one fixed account.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.bridges import ServicePorts, Submission
from forwarder.model import Mailbox, parse_mailbox
from forwarder.plugin import PeerError
from forwarder_smtp_bridge.events import Mail
from forwarder_smtp_bridge.handing_in import RCPT_OK, at_mail, line, line_of, once, submitted
from forwarder_smtp_bridge.headers import HEAD, way_of
from forwarder_smtp_bridge.looking import Looking, kind_and_text
from forwarder_smtp_bridge.options import BY_SENDER, SmtpIn, SubmissionOptions
from forwarder_smtp_bridge.outcomes import Reply
from forwarder_smtp_bridge.serve import Envelope, Sink

NOBODY = Reply(550, "5.7.1", "no account of ours may send as this sender")


class Departure:
    """serve.Delivery for our users' mail."""

    def __init__(self, options: SubmissionOptions, smtp_in: SmtpIn, ports: ServicePorts, looking: Looking) -> None:
        self._account = options.account
        self.smtp_in = smtp_in
        self.ports = ports
        self._looking = looking

    async def mail(self, mail: Mail, /) -> Reply:
        account = await self._owner(mail.sender)
        return at_mail(self.smtp_in, self.ports) if isinstance(account, str) else account

    async def rcpt(self, envelope: Envelope, mailbox: Mailbox, /) -> Reply:
        """Whoever is hosted here is looked up; all others are the world's."""
        try:
            answer = await self.ports.look(mailbox)
        except PeerError:
            return line("broken")
        kind, text = kind_and_text(answer)
        return RCPT_OK if not answer.ours or kind in ("taken", "moved", "moved to") else line(kind, text)

    async def data(self, envelope: Envelope, /) -> Sink | Reply:
        account = await self._owner(envelope.mail.sender)
        return Departing(self, envelope, account) if isinstance(account, str) else account

    async def _owner(self, sender: str) -> str | Reply:
        """The account that owns what this sender sends; or what the sender is told."""
        if self._account != BY_SENDER:
            return self._account
        try:
            senders = await self._looking.logins(parse_mailbox(sender))
        except ValueError:
            return NOBODY
        except PeerError:
            return line("broken")
        return senders[0] if senders else NOBODY


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
        recipients, sender, options = self._envelope.recipients, self._envelope.mail.sender, self._of.smtp_in
        if way_of(await self._spool.head(HEAD)).received > options.received:
            await self._spool.abort()
            return [line("loop")] * len(recipients)
        submission = Submission(
            account=self._account,
            to=recipients,
            spool=self._spool,
            returns=sender,
            once=tuple(once(self._spool.sha256, sender, mailbox) for mailbox in recipients),
            lifetime=options.lifetime,
            wait=options.answer_wait,
            redirects=True,
        )
        return [line_of(outcome) for outcome in await submitted(self._of.ports, submission)]
