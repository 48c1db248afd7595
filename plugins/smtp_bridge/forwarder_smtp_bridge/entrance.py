"""LMTP to submit: the world's mail becomes a message of our own store (bridges.md 4).

* Each recipient is looked up at RCPT; recipients of one transaction are one message, with a key for each.
* The answer after the dot follows COMMIT, and a moment's wait for the outcome. A fault of ours is no answer at all.
* What comes to a return path goes on with null sender, or ends the target that its row names.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.bridges import ServicePorts, Spool, Submission
from forwarder.model import Mailbox, Outcome
from forwarder_smtp_bridge.events import Mail
from forwarder_smtp_bridge.handing_in import RCPT_OK, at_mail, line, line_of, once, submitted
from forwarder_smtp_bridge.headers import HEAD, Way, way_of
from forwarder_smtp_bridge.homecoming import Homecoming
from forwarder_smtp_bridge.looking import Looking
from forwarder_smtp_bridge.options import SmtpIn
from forwarder_smtp_bridge.outcomes import Kind, Reply
from forwarder_smtp_bridge.serve import Envelope, Sink

ALONE = Reply(452, "4.5.3", "send this recipient in a transaction of its own")


class Entrance:
    """serve.Delivery for the world's mail."""

    def __init__(self, options: SmtpIn, ports: ServicePorts, looking: Looking, homecoming: Homecoming | None) -> None:
        self.options = options
        self.ports = ports
        self.looking = looking
        self.homecoming = homecoming

    async def mail(self, mail: Mail, /) -> Reply:
        return at_mail(self.options, self.ports)

    async def rcpt(self, envelope: Envelope, mailbox: Mailbox, /) -> Reply:
        kind, text = await self.looking.known(mailbox)
        if kind != "taken":
            return line(kind, text)
        return RCPT_OK if all(self._owner(m) == self._owner(mailbox) for m in envelope.recipients[:1]) else ALONE

    async def data(self, envelope: Envelope, /) -> Sink | Reply:
        return Incoming(self, envelope, self._owner(envelope.recipients[0]))

    def _owner(self, mailbox: Mailbox) -> str | None:
        """The account; None: it is a return path."""
        return None if self.looking.is_return_path(mailbox) else self.options.owner(mailbox.domain)


class Incoming:
    """serve.Sink: one message. account: who will own it, None at return paths."""

    def __init__(self, entrance: Entrance, envelope: Envelope, account: str | None) -> None:
        self._of = entrance
        self._ports = entrance.ports
        self._envelope = envelope
        self._account = account
        self._spool: Spool = entrance.ports.spool()

    async def write(self, octets: bytes, /) -> None:
        await self._spool.write(octets)

    async def abort(self) -> None:
        await self._spool.abort()

    async def commit(self) -> Sequence[Reply]:
        way = way_of(await self._spool.head(HEAD))
        if way.received > self._of.options.received:
            self._ports.log.info("loop", received=way.received, sender=self._envelope.mail.sender)
            return await self._all_loop()
        if self._account is None:
            assert self._of.homecoming is not None
            return await self._of.homecoming.take(self._envelope, self._spool)
        return await self._without_loops(self._account, way)

    async def _without_loops(self, account: str, way: Way) -> Sequence[Reply]:
        """Who was delivered to before is not delivered to again; the others are."""
        recipients = self._envelope.recipients
        looping = [mailbox for mailbox in recipients if way.was_at_before(mailbox)]
        if looping:
            self._ports.log.info("loop", delivered=[str(mailbox) for mailbox in looping[:10]])
        rest = [mailbox for mailbox in recipients if mailbox not in looping]
        if not rest:
            return await self._all_loop()
        outcomes = iter(await self._submitted(account, rest))
        return [line("loop") if mailbox in looping else line_of(next(outcomes)) for mailbox in recipients]

    async def _all_loop(self) -> Sequence[Reply]:
        await self._spool.abort()
        return [line("loop")] * len(self._envelope.recipients)

    async def _submitted(self, account: str, recipients: Sequence[Mailbox]) -> Sequence[Outcome | Kind]:
        sender, options = self._envelope.mail.sender, self._of.options
        submission = Submission(
            account=account,
            to=tuple(recipients),
            spool=self._spool,
            returns=sender,
            once=tuple(once(self._spool.sha256, sender, mailbox) for mailbox in recipients),
            lifetime=options.lifetime,
            wait=options.answer_wait,
        )
        return await submitted(self._ports, submission)
