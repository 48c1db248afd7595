"""The smarthost: takes our mail to targets without an agent, over at most four kept connections (bridges.md 5).

A session lives in a thread while it speaks, and in the pool between. If a kept one is gone before the dot, the message
goes once more over a fresh one; after the dot nothing is tried again here, for the message may have been taken. Who is
cancelled shuts the socket, waits for its thread and still tells what it knows. The back-off is the courier's.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice

import trio

from forwarder.model import Mailbox
from forwarder.plugin import Log
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.octets import Spool, Survey, pieces, survey
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


class _Letter:
    """A message to be sent: its octets, as often as they are asked for, and what MAIL must say of them."""

    def __init__(self, sender: str, spool: Spool, front: bytes, *, native: bool, utf8: bool) -> None:
        self.sender = sender
        self.utf8 = utf8 or not sender.isascii() or not front.isascii()
        self._spool, self._front, self._native = spool, front, native
        self.seen = Survey(0, eight_bit=False, changed=0)

    def octets(self) -> Generator[bytes, None, None]:
        """Blocks on the disk; raises OSError."""
        with closing(self._spool()) as file:
            yield from pieces(file, front=self._front, return_path=self._native)

    def read_through(self) -> OSError | None:
        try:
            self.seen = survey(self.octets())
        except OSError as error:
            return error
        return None


class Smarthost:
    """host, port: where it listens. name: what we call ourselves in EHLO."""

    def __init__(self, host: str, port: int, *, name: str, log: Log) -> None:
        self._host, self._port, self._name, self._log = host, port, name, log
        self._lanes = trio.CapacityLimiter(CONNECTIONS)
        self._threads = trio.CapacityLimiter(CONNECTIONS)
        self._idle: list[SmtpSession] = []

    async def carry(
        self,
        sender: str,
        to: Sequence[Mailbox],
        spool: Spool,
        *,
        native: bool,
        utf8: bool = False,
        front: bytes = b"",
    ) -> Mapping[Mailbox, Fate]:
        """Sends it to all of `to`, each once; every one of them is in the answer.

        sender: as SMTP writes it, without <>; "" is null. native: it did not come by SMTP; what did loses its
        Return-Path. utf8: SMTPUTF8 was asked for on the way in. front: fields before the message, lines ending in CRLF.
        Raises ValueError for a sender that SMTP cannot write.
        """
        if sender and not _PATH.match(sender):
            raise ValueError(f"{sender!r} cannot be an envelope sender")
        fates: dict[Mailbox, Fate] = {m: Refused(553, "5.1.3", "no address of SMTP") for m in to if not _path(m)}
        letter = _Letter(sender, spool, front, native=native, utf8=utf8)
        async with self._lanes:
            unread = await trio.to_thread.run_sync(letter.read_through, limiter=self._threads)
            if unread:
                return {**dict.fromkeys(to, self._unreadable(unread)), **fates}
            for part in _parts([mailbox for mailbox in to if mailbox not in fates]):
                fates.update(await self._send(letter, part))
        return {mailbox: _noted(fate, letter.seen.changed) for mailbox, fate in fates.items()}

    async def offers(self) -> Mapping[str, str]:
        """The keywords of its EHLO, each with its parameters. Raises Lost."""
        session = await self._open()
        session.leave()
        return session.offers

    def close(self) -> None:
        """Leaves all idle sessions."""
        while self._idle:
            self._idle.pop().leave()

    async def _send(self, letter: _Letter, part: tuple[Mailbox, ...]) -> Mapping[Mailbox, Fate]:
        """One transaction, over a kept session or a fresh one; over a fresh one too if the kept one was gone."""
        fates: dict[Mailbox, Fate] = {}
        try:
            if not (self._idle and await self._over(self._idle.pop(), letter, part, fates)):
                await self._over(await self._open(), letter, part, fates)
        except Lost as lost:
            self._log.info("smarthost lost", why=str(lost), code=lost.reply.code, text=lost.reply.text)
            return {**dict.fromkeys(part, lost.fate()), **fates}
        except OSError as error:
            return {**dict.fromkeys(part, self._unreadable(error)), **fates}
        return fates

    async def _over(
        self, session: SmtpSession, letter: _Letter, part: tuple[Mailbox, ...], fates: dict[Mailbox, Fate]
    ) -> bool:
        """Whether it was done. False: a kept session was gone before the dot. Raises Lost, and OSError of the spool."""
        undecided = tuple(mailbox for mailbox in part if mailbox not in fates)
        needs = _needs(letter, undecided)
        lacking = next((_LACKING[word] for word in needs if word not in session.offers), None)
        try:
            if lacking:
                fates.update(dict.fromkeys(undecided, lacking))
            else:
                envelope = Envelope(letter.sender, undecided, _parameters(letter, needs, session))
                await self._speak(session, partial(_transact, session, envelope, letter, fates))
        except Lost as lost:
            if session.kept and not lost.doubtful and len(fates) < len(part):
                return False
            raise
        session.kept = True
        self._idle.append(session)
        self._watch_setup(fates)
        return True

    async def _open(self) -> SmtpSession:
        try:
            with trio.fail_after(CONNECT):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except (OSError, trio.TooSlowError) as error:
            raise Lost(f"no connection: {error}") from None
        session = SmtpSession(socket.socket(fileno=stream.socket.detach()), self._name)
        await self._speak(session, session.greet)
        return session

    async def _speak(self, session: SmtpSession, deed: Callable[[], None]) -> None:
        """Performs it in a thread. Cancelled: the socket is shut, so the thread ends at once; what was told stays told.

        Raises Lost, and OSError of the spool; the session is closed then.
        """
        failed: Lost | OSError | None = None
        speaking = True

        def perform() -> None:
            nonlocal failed
            try:
                deed()
            except (Lost, OSError) as error:
                failed = error

        async def watch() -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:  # not raised again: the thread's last word must reach our caller first
                if speaking:
                    session.shut()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await trio.to_thread.run_sync(perform, limiter=self._threads)
                speaking = False
                nursery.cancel_scope.cancel()
        except BaseException:
            session.close()
            raise
        if failed:
            session.close()
            raise failed

    def _watch_setup(self, fates: Mapping[Mailbox, Fate]) -> None:
        for fate in fates.values():
            if fate is _LACKING["8BITMIME"] or (isinstance(fate, Deferred) and fate.code in OUR_SETUP):
                self._log.info("smarthost is set up wrongly for us", fate=fate, host=self._host, port=self._port)
                return

    def _unreadable(self, error: OSError) -> Deferred:
        self._log.info("spool unreadable", error=str(error))
        return Deferred(0, "", "our copy cannot be read")


def _needs(letter: _Letter, to: Sequence[Mailbox]) -> tuple[str, ...]:
    utf8 = letter.utf8 or not all(str(mailbox).isascii() for mailbox in to)
    return (*(["8BITMIME"] if letter.seen.eight_bit else []), *(["SMTPUTF8"] if utf8 else []))


def _parameters(letter: _Letter, needs: Sequence[str], session: SmtpSession) -> tuple[str, ...]:
    size = [f"SIZE={letter.seen.size}"] if "SIZE" in session.offers else []
    return (*size, *("BODY=8BITMIME" if word == "8BITMIME" else word for word in needs))


def _transact(session: SmtpSession, envelope: Envelope, letter: _Letter, fates: dict[Mailbox, Fate]) -> None:
    with closing(letter.octets()) as message:
        session.transact(envelope, message, fates)


def _path(mailbox: Mailbox) -> bool:
    return bool(_PATH.match(str(mailbox)))


def _parts(to: Iterable[Mailbox]) -> Iterator[tuple[Mailbox, ...]]:
    """At most fifty at once; those that need SMTPUTF8 apart, lest the others fail where it is unknown."""
    distinct = dict.fromkeys(to)
    for plain in (True, False):
        some = iter([mailbox for mailbox in distinct if str(mailbox).isascii() is plain])
        while part := tuple(islice(some, RECIPIENTS)):
            yield part


def _noted(fate: Fate, changed: int) -> Fate:
    return Sent(fate.text, changed) if isinstance(fate, Sent) else fate
