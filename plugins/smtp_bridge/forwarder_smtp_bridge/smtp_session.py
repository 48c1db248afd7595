"""One SMTP session to the smarthost, spoken in a thread over a blocking socket.

Replies are bounded in lines, octets and time. Whatever ends the session (421, silence, garbage, the peer gone) is
`Lost`; it says whether the message may have been taken all the same. `shut` alone may be called from another thread.
Not smtplib's: it reads a reply for as long as it comes, and of the rest only the parsing of EHLO would be left.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from forwarder.model import Mailbox
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.octets import data

REPLY = 60.0
DOT = 600.0  # milters think
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


class SmtpSession:
    """Over a connected socket; name: what we say in EHLO. `greet` and `transact` raise Lost."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.kept = False
        self.offers: Mapping[str, str] = {}
        """Keywords of EHLO, each with its parameters."""
        self._socket = sock
        self._name = name
        self._unread = bytearray()

    def greet(self) -> None:
        """Greeting and EHLO. Lost with the reply if it wants none of us."""
        greeting = _reply(*self._read_reply(REPLY))
        if greeting.code != 220:
            raise Lost("greeting", reply=greeting)
        self._write(f"EHLO {self._name}\r\n".encode())
        code, lines = self._read_reply(REPLY)
        if code != 250:
            raise Lost("EHLO", reply=_reply(code, lines))
        words = (line.decode("latin-1").partition(" ") for line in lines[1:])
        self.offers = {keyword.upper(): parameters for keyword, _, parameters in words}

    def transact(self, envelope: Envelope, message: Iterable[bytes], fates: dict[Mailbox, Fate]) -> None:
        """One transaction. What is decided is in `fates`, even if the session is lost midway.

        An OSError of `message` leaves the session before the dot: it must be closed.
        """
        reply = self._ask(" ".join((f"MAIL FROM:<{envelope.sender}>", *envelope.parameters)))
        taking = list(envelope.to) if reply.good else []
        if not reply.good:
            fates.update(dict.fromkeys(envelope.to, reply.fate()))
        for mailbox in tuple(taking):
            reply = self._ask(f"RCPT TO:<{mailbox}>")
            if not reply.good:
                fates[mailbox] = reply.fate()
                taking.remove(mailbox)
        if taking:
            reply = self._ask("DATA", good=354)
            if reply.code == 354:
                reply = self._hand_over(message)
            fates.update(dict.fromkeys(taking, reply.fate()))
        if not reply.good:
            self._ask("RSET")

    def _hand_over(self, message: Iterable[bytes]) -> Reply:
        pieces = iter(data(message))
        piece = next(pieces)
        for following in pieces:
            self._write(piece)
            piece = following
        try:
            self._write(piece)
            return self._answer(DOT)
        except Lost as lost:
            raise Lost(str(lost), reply=lost.reply, doubtful=True) from None

    def _ask(self, command: str, good: int = 0) -> Reply:
        self._write(f"{command}\r\n".encode())
        return self._answer(REPLY, good)

    def _answer(self, patience: float, good: int = 0) -> Reply:
        """good: the one positive reply in turn; 0: any 2xx."""
        reply = _reply(*self._read_reply(patience))
        if reply.code == 421:
            raise Lost("421", reply=reply)
        if reply.code < 400 and (reply.code != good if good else not reply.good):
            raise Lost(f"out of turn: {reply.code} {reply.text}")
        return reply

    def _write(self, octets: bytes) -> None:
        if self._unread:  # an answer too many: the next would be taken for the one after it
            raise Lost("spoke out of turn")
        try:
            self._socket.settimeout(REPLY)
            self._socket.sendall(octets)
        except OSError as error:
            raise Lost(f"closed: {error}") from None

    def _read_reply(self, patience: float) -> tuple[int, list[bytes]]:
        until, texts = time.monotonic() + patience, []
        for _ in range(REPLY_LINES):
            match = _REPLY.match(self._read_line(until))
            if not match:
                raise Lost("garbage in place of a reply")
            texts.append((match[3] or b"").strip())
            if match[2] != b"-":
                return int(match[1]), texts
        raise Lost("a reply without end")

    def _read_line(self, until: float) -> bytes:
        while b"\n" not in self._unread:
            if len(self._unread) > LINE_OCTETS:
                raise Lost("a reply line without end")
            self._unread += self._receive(until - time.monotonic())
        line, _, self._unread = self._unread.partition(b"\n")
        return bytes(line.rstrip(b"\r"))

    def _receive(self, patience: float) -> bytes:
        try:
            self._socket.settimeout(max(patience, 0.001))
            octets = self._socket.recv(LINE_OCTETS)
        except TimeoutError:
            raise Lost("no reply in time") from None
        except OSError as error:
            raise Lost(f"closed: {error}") from None
        if not octets:
            raise Lost("closed by the smarthost")
        return octets

    def leave(self) -> None:
        """QUIT, without waiting for what it says to that."""
        with suppress(Lost):
            self._write(b"QUIT\r\n")
        self.close()

    def close(self) -> None:
        self._socket.close()

    def shut(self) -> None:
        """From another thread: whoever waits for the peer learns at once that it is gone."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _reply(code: int, lines: list[bytes]) -> Reply:
    """The status stands in front of each line (RFC 2034); in the text it is left out."""
    texts = [line.decode("utf-8", "replace") for line in lines]
    found = _STATUS.match(texts[0])
    status = found[1] if found and found[1][0] == str(code)[0] else ""
    text = " ".join(line.removeprefix(status).strip() for line in texts)
    return Reply(code, status, "".join(c if c.isprintable() else "?" for c in text)[:TEXT])
