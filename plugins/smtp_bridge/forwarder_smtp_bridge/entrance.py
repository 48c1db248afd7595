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
from forwarder_smtp_bridge.handing_in import Fault, once, submitted
from forwarder_smtp_bridge.headers import HEAD, Way, way_of
from forwarder_smtp_bridge.homecoming import Homecoming
from forwarder_smtp_bridge.looking import Looking
from forwarder_smtp_bridge.options import SmtpIn
from forwarder_smtp_bridge.outcomes import Kind, Reply, kind_of, reply_of
from forwarder_smtp_bridge.serve import Envelope, Sink

RESERVE = 64 << 20
"""Octets of disk beside what all sessions may bring at once."""
OK = Reply(250, "2.1.0", "ok")
RCPT_OK = Reply(250, "2.1.5", "ok")
ALONE = Reply(452, "4.5.3", "send this recipient in a transaction of its own")
GONE = Reply(421, "4.3.0", "try again later")


class Entrance:
    """serve.Delivery for the world's mail."""

    def __init__(self, options: SmtpIn, ports: ServicePorts, looking: Looking, homecoming: Homecoming | None) -> None:
        self.options = options
        self.ports = ports
        self.looking = looking
        self.homecoming = homecoming

    async def mail(self, mail: Mail, /) -> Reply:
        wanted = self.options.sessions * self.options.max_size + RESERVE
        if self.ports.room() < wanted:
            self.ports.log.info("limit disk room", wanted=wanted, free=self.ports.room())
            return _reply("disk low")
        return OK

    async def rcpt(self, mail: Mail, mailbox: Mailbox, /) -> Reply:
        kind, text = await self.looking.known(mailbox)
        return RCPT_OK if kind == "taken" else _reply(kind, text)

    async def data(self, envelope: Envelope, /) -> Sink | Reply:
        kinds = {self._account(mailbox) for mailbox in envelope.recipients}
        if len(kinds) > 1:
            return ALONE
        return Incoming(self, envelope, kinds.pop())

    def _account(self, mailbox: Mailbox) -> str:
        """ "" = a return path."""
        if self.looking.is_return_path(mailbox):
            return ""
        account = self.options.account
        return account if isinstance(account, str) else account.get(mailbox.domain, "smtpgateway")


class Incoming:
    """serve.Sink: one message. account: who will own it."""

    def __init__(self, entrance: Entrance, envelope: Envelope, account: str) -> None:
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
            return await self._all("loop")
        if not self._account and self._of.homecoming is not None:
            return await self._of.homecoming.take(self._envelope, self._spool)
        looping = [str(mailbox).lower() in way.beneath for mailbox in self._envelope.recipients]
        if any(looping):
            return await self._without_loops(way, looping)
        return [self._said(outcome) for outcome in await self._submitted(self._envelope.recipients)]

    async def _without_loops(self, way: Way, looping: Sequence[bool]) -> Sequence[Reply]:
        """Who was delivered to before is not delivered to again; the others are."""
        self._ports.log.info("loop", delivered=sorted(way.beneath)[:10])
        rest = [m for m, loops in zip(self._envelope.recipients, looping, strict=True) if not loops]
        if not rest:
            return await self._all("loop")
        outcomes = iter(await self._submitted(rest))
        return [_reply("loop") if loops else self._said(next(outcomes)) for loops in looping]

    async def _all(self, kind: Kind) -> Sequence[Reply]:
        await self._spool.abort()
        return [_reply(kind)] * len(self._envelope.recipients)

    async def _submitted(self, recipients: Sequence[Mailbox]) -> Sequence[Outcome | Kind]:
        sender, options = self._envelope.mail.sender, self._of.options
        submission = Submission(
            account=self._account,
            to=tuple(recipients),
            spool=self._spool,
            returns=sender,
            once=tuple(once(self._spool.sha256, sender, mailbox) for mailbox in recipients),
            lifetime=options.lifetime,
            wait=options.answer_wait,
        )
        return await submitted(self._ports, submission)

    def _said(self, outcome: Outcome | Kind) -> Reply:
        return _reply(outcome) if isinstance(outcome, str) else reply_to(outcome)


def reply_to(outcome: Outcome) -> Reply:
    """The line of a recipient. What we will try again is taken; only where the mailbox is full or busy it is not."""
    kind = kind_of(outcome.code)
    return _reply("taken" if kind in ("broken", "moved") else kind, outcome.text if kind == "refused" else "")


def _reply(kind: Kind, text: str = "") -> Reply:
    reply = reply_of(kind, text)
    if reply is None:
        raise Fault(kind)
    return reply
