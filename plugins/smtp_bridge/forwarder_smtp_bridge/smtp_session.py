"""One SMTP session to the smarthost, spoken over a stream.

Replies are bounded in lines, octets and time, and so is each write: a peer may stop reading. Whatever ends the session
(421, silence, garbage, the peer gone) is `Lost`; it says whether the message may have been taken all the same.
With PIPELINING (RFC 2920) all commands of a transaction go in one write. Its replies cannot fill the buffers between
us before we read them, fifty short ones being far below any; at a peer that floods them the write ends in time.
Not smtplib's: it blocks, and reads a reply for as long as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import NamedTuple

import trio

from forwarder.model import Mailbox
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.octets import Letter

REPLY = 60.0
DOT = 600.0  # milters think
LAST_WORD = 3.0
"""Seconds: who is cancelled between the dot and its answer waits on for so long, for else the message goes twice."""
LEAVE = 1.0
LINE_OCTETS = 4096
REPLY_LINES = 200
TEXT = 400
OUR_SETUP = (530, 535, 538)  # it wants a login or TLS of us: nothing that the recipient could help

_REPLY = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?\Z", re.DOTALL)
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")


class Reply(NamedTuple):
    """code: 0 where there was none. status: RFC 3463, "" where none was said."""

    code: int
    status: str
    text: str

    @property
    def good(self) -> bool:
        return 200 <= self.code < 300

    def fate(self) -> Fate:
        if self.good:
            return Sent(self.text)
        if self.code >= 500 and self.code not in OUR_SETUP:
            return Refused(self.code, self.status or "5.0.0", self.text)
        return Deferred(self.code, self.status, self.text)


class Lost(Exception):  # the session's end, whatever brought it about
    """reply: what the peer said last, code 0 if nothing. doubtful: the dot was on its way, it may have the message."""

    def __init__(self, text: str, *, reply: Reply | None = None, doubtful: bool = False) -> None:
        super().__init__(text)
        self.reply = reply or Reply(0, "", text)
        self.doubtful = doubtful

    def fate(self) -> Deferred:
        return Deferred(*self.reply)


@dataclass(frozen=True, slots=True)
class Envelope:
    """sender: as SMTP writes it, "" for null. parameters: of MAIL, such as BODY=8BITMIME."""

    sender: str
    to: tuple[Mailbox, ...]
    parameters: tuple[str, ...]

    @property
    def mail(self) -> str:
        return " ".join((f"MAIL FROM:<{self.sender}>", *self.parameters))


class SmtpSession:
    """Over a connected stream; name: what we say in EHLO. `greet` and `transact` raise Lost: it must be closed then."""

    def __init__(self, stream: trio.abc.Stream, name: str) -> None:
        self.kept = False
        self.offers: Mapping[str, str] = {}
        """Keywords of EHLO, each with its parameters."""
        self._stream = stream
        self._name = name
        self._unread = bytearray()
        self._lines: list[bytes] = []
        """Of a reply whose last line has not come yet."""

    async def greet(self) -> None:
        """Greeting and EHLO. Lost with the reply if it wants none of us."""
        greeting = _reply(*await self._read_reply(REPLY))
        if greeting.code != 220:
            raise Lost("greeting", reply=greeting)
        await self._write(f"EHLO {self._name}\r\n".encode())
        code, lines = await self._read_reply(REPLY)
        if code != 250:
            raise Lost("EHLO", reply=_reply(code, lines))
        words = (line.decode("latin-1").partition(" ") for line in lines[1:])
        self.offers = {keyword.upper(): parameters for keyword, _, parameters in words}

    async def transact(self, envelope: Envelope, letter: Letter, fates: dict[Mailbox, Fate]) -> None:
        """One transaction. What is decided is in `fates`, even if the session is lost or we are cancelled midway.

        An OSError of `letter` leaves the session before the dot: it must be closed.
        """
        taking, reply = await self._announce(envelope, fates)
        if reply.code == 354:
            reply = await (self._hand_over(letter) if taking else self._end(b""))  # RFC 2920 3.1: an empty message
        fates.update(dict.fromkeys(taking, reply.fate()))
        if not reply.good:
            await self._ask("RSET")

    async def _announce(self, envelope: Envelope, fates: dict[Mailbox, Fate]) -> tuple[list[Mailbox], Reply]:
        """All before the message: who goes on after RCPT, and the last reply."""
        ahead = "PIPELINING" in self.offers
        said: Callable[[str, int], Awaitable[Reply]] = self._ask
        if ahead:
            await self._write("\r\n".join([envelope.mail, *map(_rcpt, envelope.to), "DATA", ""]).encode())
            said = self._said_ahead
        reply = await said(envelope.mail, 0)
        if not reply.good:
            fates.update(dict.fromkeys(envelope.to, reply.fate()))
        taking: list[Mailbox] = []
        for mailbox in envelope.to if reply.good or ahead else ():
            reply = await said(_rcpt(mailbox), 0)
            if not reply.good:
                fates.setdefault(mailbox, reply.fate())
            elif mailbox not in fates:
                taking.append(mailbox)
        if taking or ahead:
            reply = await said("DATA", 354)
        return taking, reply

    async def _hand_over(self, letter: Letter) -> Reply:
        held = b""
        async with aclosing(letter.pieces()) as pieces:
            async for piece in pieces:
                if held:
                    await self._write(held)
                held = piece
        return await self._end(held)

    async def _end(self, last: bytes) -> Reply:
        """The last piece, the dot with it, and what is said to that. Cancelled while writing, the dot did not go."""
        try:
            await self._write(last + b".\r\n")
            try:
                return await self._answer(DOT)
            except trio.Cancelled:  # not raised again: what is known must reach our caller, who meets it all the same
                with trio.move_on_after(LAST_WORD, shield=True):
                    return await self._answer(DOT)
                raise Lost("no answer to the dot when we had to go") from None
        except Lost as lost:
            raise Lost(str(lost), reply=lost.reply, doubtful=True) from None

    async def _ask(self, command: str, good: int = 0) -> Reply:
        await self._write(f"{command}\r\n".encode())
        return await self._answer(REPLY, good)

    async def _said_ahead(self, command: str, good: int) -> Reply:
        """As `_ask`, of a command that is on its way already."""
        return await self._answer(REPLY, good)

    async def _answer(self, patience: float, good: int = 0) -> Reply:
        """good: the one positive reply in turn; 0: any 2xx."""
        reply = _reply(*await self._read_reply(patience))
        if reply.code == 421:
            raise Lost("421", reply=reply)
        if reply.code < 400 and (reply.code != good if good else not reply.good):
            raise Lost(f"out of turn: {reply.code} {reply.text}")
        return reply

    async def _write(self, octets: bytes) -> None:
        if self._unread:  # an answer too many: the next would be taken for the one after it
            raise Lost("spoke out of turn")
        try:
            with trio.fail_after(REPLY):
                await self._stream.send_all(octets)
        except trio.TooSlowError:
            raise Lost("it does not read") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Lost(f"closed: {error}") from None

    async def _read_reply(self, patience: float) -> tuple[int, list[bytes]]:
        """Who was cancelled here may wait on: nothing is lost of what came."""
        found = self._whole_reply()
        if found is None:
            with trio.move_on_after(patience):
                while found is None:
                    await self._receive()
                    found = self._whole_reply()
        if found is None:
            raise Lost("no reply in time")
        return found

    def _whole_reply(self) -> tuple[int, list[bytes]] | None:
        """None: more must come."""
        while (end := self._unread.find(b"\n")) >= 0:
            match = _REPLY.match(bytes(self._unread[:end]).rstrip(b"\r"))
            del self._unread[: end + 1]
            if not match:
                raise Lost("garbage in place of a reply")
            self._lines.append((match[3] or b"").strip())
            if match[2] != b"-":
                lines, self._lines = self._lines, []
                return int(match[1]), lines
            if len(self._lines) >= REPLY_LINES:
                raise Lost("a reply without end")
        if len(self._unread) > LINE_OCTETS:
            raise Lost("a reply line without end")
        return None

    async def _receive(self) -> None:
        try:
            octets = await self._stream.receive_some(LINE_OCTETS)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Lost(f"closed: {error}") from None
        if not octets:
            raise Lost("closed by the smarthost")
        self._unread += octets

    async def leave(self) -> None:
        """QUIT, without waiting for what it says to that; also for who is cancelled."""
        with suppress(Lost), trio.move_on_after(LEAVE, shield=True):
            await self._write(b"QUIT\r\n")
        await self.close()

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


def _rcpt(mailbox: Mailbox) -> str:
    return f"RCPT TO:<{mailbox}>"


def _reply(code: int, lines: list[bytes]) -> Reply:
    """The status stands in front of each line (RFC 2034); in the text it is left out."""
    texts = [line.decode("utf-8", "replace") for line in lines]
    found = _STATUS.match(texts[0])
    status = found[1] if found and found[1][0] == str(code)[0] else ""
    text = " ".join(line.removeprefix(status).strip() for line in texts)
    return Reply(code, status, (text if text.isprintable() else _printable(text))[:TEXT])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
