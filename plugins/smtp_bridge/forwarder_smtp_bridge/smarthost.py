"""The smarthost: takes our mail to targets without an agent, over at most four kept connections (bridges.md 5).

If a kept session is gone before the dot, the message goes once more over a fresh one; after the dot nothing is tried
again here, for the message may have been taken. Who is cancelled is still told what is known. The back-off is the
courier's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import trio

from forwarder.model import Mailbox
from forwarder.plugin import Log
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused
from forwarder_smtp_bridge.octets import Letter
from forwarder_smtp_bridge.smtp_session import OUR_SETUP, Envelope, Lost, SmtpSession

CONNECTIONS = 4
RECIPIENTS = 50
CONNECT = 15.0
_PATH = re.compile(r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^\s"<>\x00-\x1f\x7f]+)@[^\s"<>\x00-\x1f\x7f]+\Z')

_LACKING: Mapping[str, Fate] = {
    # any MTA of today offers it if set up well, and to recode the message would break its signatures (RFC 6152 3)
    "8BITMIME": Deferred(0, "5.6.3", "the smarthost offers no 8BITMIME"),
    "SMTPUTF8": Refused(553, "5.6.7", "the smarthost offers no SMTPUTF8"),  # as RFC 6531 3.5 wants
}
_INTERRUPTED = Deferred(0, "", "we had to go")


class _Mail(NamedTuple):
    """A letter under its envelope sender. utf8: SMTPUTF8 is needed whoever receives it."""

    sender: str
    letter: Letter
    utf8: bool

    def needs(self, to: Sequence[Mailbox]) -> tuple[str, ...]:
        utf8 = self.utf8 or not all(str(mailbox).isascii() for mailbox in to)
        return (*(["8BITMIME"] if self.letter.eight_bit else []), *(["SMTPUTF8"] if utf8 else []))

    def envelope(self, to: tuple[Mailbox, ...], needs: Sequence[str], offers: Mapping[str, str]) -> Envelope:
        size = [f"SIZE={self.letter.size}"] if "SIZE" in offers else []
        return Envelope(self.sender, to, (*size, *("BODY=8BITMIME" if word == "8BITMIME" else word for word in needs)))


class Smarthost:
    """host, port: where it listens. name: what we call ourselves in EHLO."""

    def __init__(self, host: str, port: int, *, name: str, log: Log) -> None:
        self._host, self._port, self._name, self._log = host, port, name, log
        self._lanes = trio.CapacityLimiter(CONNECTIONS)
        self._idle: list[SmtpSession] = []

    async def carry(
        self, sender: str, to: Sequence[Mailbox], letter: Letter, *, utf8: bool = False
    ) -> Mapping[Mailbox, Fate]:
        """Sends it to all of `to`, each once; every one of them is in the answer.

        sender: as SMTP writes it, without <>; "" is null. utf8: SMTPUTF8 is needed for what stands in the message.
        Raises ValueError for a sender that SMTP cannot write. Cancelled, it answers still if anything is decided.
        """
        if sender and not _PATH.match(sender):
            raise ValueError(f"{sender!r} cannot be an envelope sender")
        mail = _Mail(sender, letter, utf8 or not sender.isascii())
        odd: dict[Mailbox, Fate] = {m: Refused(553, "5.1.3", "no address of SMTP") for m in to if not _path(m)}
        fates: dict[Mailbox, Fate] = {}
        try:
            async with self._lanes:
                for part in _parts(mailbox for mailbox in to if mailbox not in odd):
                    await self._send(mail, part, fates)
        except trio.Cancelled:
            if not fates:
                raise
            # not raised again: a message that went would go twice. Our caller meets it at the next checkpoint
        return {**dict.fromkeys(to, _INTERRUPTED), **fates, **odd}

    async def offers(self) -> Mapping[str, str]:
        """The keywords of its EHLO, each with its parameters. Raises Lost."""
        session = await self._open()
        await session.leave()
        return session.offers

    async def close(self) -> None:
        """Leaves all idle sessions."""
        while self._idle:
            await self._idle.pop().leave()

    async def _send(self, mail: _Mail, part: tuple[Mailbox, ...], fates: dict[Mailbox, Fate]) -> None:
        """One transaction, over a kept session or a fresh one; over a fresh one too if the kept one was gone."""
        try:
            if not (self._idle and await self._over(self._idle.pop(), mail, part, fates)):
                await self._over(await self._open(), mail, part, fates)
        except Lost as lost:
            self._log.info("smarthost lost", why=str(lost), code=lost.reply.code, text=lost.reply.text)
            _decide(fates, part, lost.fate())
        except OSError as error:
            self._log.info("our copy cannot be read", error=str(error))
            _decide(fates, part, Deferred(0, "", "our copy cannot be read"))

    async def _over(
        self, session: SmtpSession, mail: _Mail, part: tuple[Mailbox, ...], fates: dict[Mailbox, Fate]
    ) -> bool:
        """Whether it was done. False: a kept session was gone before the dot. Raises Lost, OSError of the letter."""
        undecided = tuple(mailbox for mailbox in part if mailbox not in fates)
        needs = mail.needs(undecided)
        lacking = next((_LACKING[word] for word in needs if word not in session.offers), None)
        try:
            if lacking:
                _decide(fates, undecided, lacking)
            else:
                envelope = mail.envelope(undecided, needs, session.offers)
                await self._speak(session, session.transact(envelope, mail.letter, fates))
        except Lost as lost:
            if session.kept and not lost.doubtful and any(mailbox not in fates for mailbox in part):
                return False
            raise
        session.kept = True
        self._idle.append(session)
        self._watch_setup(fates[mailbox] for mailbox in part)
        return True

    async def _open(self) -> SmtpSession:
        try:
            with trio.fail_after(CONNECT):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except (OSError, trio.TooSlowError) as error:
            raise Lost(f"no connection: {error}") from None
        session = SmtpSession(stream, self._name)
        await self._speak(session, session.greet())
        return session

    async def _speak(self, session: SmtpSession, deed: Awaitable[None]) -> None:
        """Whatever ends it ends the session."""
        try:
            await deed
        except BaseException:
            await session.close()
            raise

    def _watch_setup(self, fates: Iterable[Fate]) -> None:
        for fate in fates:
            if fate is _LACKING["8BITMIME"] or (isinstance(fate, Deferred) and fate.code in OUR_SETUP):
                self._log.info("smarthost is set up wrongly for us", fate=fate, host=self._host, port=self._port)
                return


def _decide(fates: dict[Mailbox, Fate], part: Iterable[Mailbox], fate: Fate) -> None:
    """Of those who have none yet."""
    for mailbox in part:
        fates.setdefault(mailbox, fate)


def _path(mailbox: Mailbox) -> bool:
    return bool(_PATH.match(str(mailbox)))


def _parts(to: Iterable[Mailbox]) -> Iterator[tuple[Mailbox, ...]]:
    """At most fifty at once; those that need SMTPUTF8 apart, lest the others fail where it is unknown."""
    distinct = dict.fromkeys(to)
    for plain in (True, False):
        some = iter([mailbox for mailbox in distinct if str(mailbox).isascii() is plain])
        while part := tuple(islice(some, RECIPIENTS)):
            yield part
