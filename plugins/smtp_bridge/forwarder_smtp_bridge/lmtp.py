"""The server's side of an LMTP session (RFC 2033), sans-IO: octets in, events out; decisions in, octets out.

receive_data, next_event until NEED_DATA; `reply` to Mail, Rcpt and DataBegins, `replies` to DataEnds. Laws:
one line after the dot for each recipient that was taken, in their order, or none and the end; nothing behind an
undecided command is read (RFC 2920: what was sent ahead waits); what is held is one command line and what
`receive_data` was given last, and so bounded if it is called only after NEED_DATA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forwarder.model import Mailbox
from forwarder_smtp_bridge.dots import Unstuffing
from forwarder_smtp_bridge.events import (
    NEED_DATA,
    DataBegins,
    DataEnds,
    Ended,
    Event,
    LocalError,
    Mail,
    NeedData,
    Piece,
    Rcpt,
    Reset,
    TooBig,
)
from forwarder_smtp_bridge.outcomes import Refused, Reply
from forwarder_smtp_bridge.paths import NO_UTF8, recipient_path, sender_path

LINE = 2048  # octets of a command line, its CR LF included: RFC 5321 has 512, Postfix sends up to this
RECIPIENTS = 1000  # of one transaction, ten times what RFC 5321 4.5.3.1.8 asks for
ERRORS = 20  # bad commands until the session is ended, as Postfix's smtpd_hard_error_limit

OK = Reply(250, "2.0.0", "ok")
GO_AHEAD = Reply(354, "", "end data with CR LF . CR LF")
TOO_LONG = Reply(500, "5.5.2", "line too long")
NO_LINE = Reply(500, "5.5.2", "a command is one line of text and ends with CR LF")
UNKNOWN = Reply(500, "5.5.1", "no such command, this is LMTP")
ARGUMENTS = Reply(501, "5.5.4", "bad arguments")
SEQUENCE = Reply(503, "5.5.1", "not now")
NO_RECIPIENTS = Reply(503, "5.5.1", "no valid recipients")
PARAMETERS = Reply(555, "5.5.4", "no such parameter")
MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients, send the others later")
MANY_ERRORS = Reply(421, "4.7.0", "too many errors")
AHEAD = Reply(421, "4.5.0", "nothing may be sent behind DATA before its answer")
CANNOT_VERIFY = Reply(252, "2.5.0", "send some mail and see")
TOO_BIG = Reply(552, "5.3.4", "message is too big")
QUIT = "quit"  # why a session Ended as it should
BYE = Reply(221, "2.0.0", "bye")


class Session:
    """One connection. host: our name. max_size in octets."""

    def __init__(self, host: str, max_size: int, recipients: int = RECIPIENTS) -> None:
        self._host = host
        self._max_size = max_size
        self._most = recipients
        self._in = bytearray()
        self._out = bytearray()
        self._skipping = False  # a line too long, up to its end
        self._greeted = False
        self._asked: Mail | Rcpt | DataBegins | DataEnds | None = None
        self._mail: Mail | None = None
        self._recipients: list[Mailbox] = []
        self._data: Unstuffing | None = None
        self._size = 0
        self._errors = 0
        self._last: Ended | None = None
        self.closed = False
        self._say(Reply(220, "", f"{host} LMTP"))

    @property
    def in_data(self) -> bool:
        """A message is on its way in."""
        return self._data is not None

    @property
    def inside(self) -> bool:
        """A command line has begun and is not complete."""
        return self._data is None and (bool(self._in) or self._skipping)

    @property
    def idle(self) -> bool:
        """No transaction, no command begun."""
        return self._mail is None and not self.inside

    @property
    def taken(self) -> int:
        """Recipients of this transaction: so many replies are owed after the dot."""
        return len(self._recipients)

    @property
    def held(self) -> int:
        """Octets received and not handed out."""
        return len(self._in)

    @property
    def unsent(self) -> int:
        """Octets that data_to_send would give."""
        return len(self._out)

    def receive_data(self, data: bytes | bytearray) -> None:
        """What the stream gave."""
        if not self.closed:
            self._in += data

    def data_to_send(self) -> bytes:
        """All answers since the last call."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> Event | NeedData:
        """What happened next. While a decision is awaited that is NEED_DATA, whatever came behind."""
        while self._asked is None and not self.closed:
            event = self._command() if self._data is None else self._piece(self._data)
            if event is not None:
                return event
        last, self._last = self._last, None
        return last or NEED_DATA

    # -- decisions

    def reply(self, reply: Reply) -> None:
        """The answer to Mail, Rcpt (2xx takes it) or DataBegins (GO_AHEAD takes it); a 421 ends the session.

        Raises LocalError out of turn, and for a 5xx or 4xx that is neither.
        """
        asked, self._asked = self._asked, None
        if asked is None or isinstance(asked, DataEnds):
            raise LocalError(f"{reply.code} to {asked}")
        taken = reply == GO_AHEAD if isinstance(asked, DataBegins) else reply.good
        if not taken and not 400 <= reply.code < 600:
            raise LocalError(f"{reply.code} to {asked}")
        if reply.code == 421:
            self._end(reply, "told to")
            return
        if isinstance(asked, DataBegins) and not taken and self._in:
            self._end(AHEAD, "commands behind DATA")  # they could as well be the message
            return
        self._say(reply)
        if taken:
            self._take(asked)

    def _take(self, asked: Mail | Rcpt | DataBegins) -> None:
        if isinstance(asked, Mail):
            self._mail = asked
        elif isinstance(asked, Rcpt):
            self._recipients.append(asked.mailbox)
        else:
            self._data, self._size = Unstuffing(self._in), 0

    def replies(self, replies: Sequence[Reply]) -> None:
        """The answers to DataEnds, one for each recipient. Raises LocalError for another number, and out of turn."""
        if not isinstance(self._asked, DataEnds) or len(replies) != len(self._recipients):
            raise LocalError(f"{len(replies)} replies for {len(self._recipients)} recipients, to {self._asked}")
        if not all(reply.good or 400 <= reply.code < 600 for reply in replies):
            raise LocalError("a reply to the dot is 2xx, 4xx or 5xx")
        self._asked = None
        self._errors = 0
        self._settle(replies)

    def close(self, reply: Reply | None = None, why: str = "closed") -> None:
        """Ends the session. The reply is its last word, unless a message is on its way or undecided: then silence,
        for a line would be taken for the answer to its first recipient.
        """
        if not self.closed:
            silent = self._data is not None or isinstance(self._asked, DataEnds)
            self._asked = None
            self._end(None if silent else reply, why)

    def _settle(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            self._say(reply)
        self._mail = None
        self._recipients.clear()

    def _end(self, reply: Reply | None, why: str) -> None:
        if reply is not None:
            self._say(reply)
        self.closed, self._last = True, Ended(why)
        self._in.clear()

    def _say(self, reply: Reply) -> None:
        self._out += bytes(reply) + b"\r\n"

    # -- the message

    def _piece(self, data: Unstuffing) -> Event | NeedData | None:
        if data.ended:
            return self._whole()
        octets = data.take()
        if not octets:
            return None if data.ended else NEED_DATA
        within, self._size = self._size <= self._max_size, self._size + len(octets)
        if self._size <= self._max_size:
            return Piece(octets)
        return TooBig() if within else None

    def _whole(self) -> DataEnds | None:
        self._data = None
        if self._size > self._max_size:
            self._settle([TOO_BIG] * len(self._recipients))
            return None
        self._asked = DataEnds(self._size)
        return self._asked

    # -- commands

    def _command(self) -> Event | NeedData | None:
        """None: the session answered by itself."""
        line = self._line()
        if line is None:
            return NEED_DATA
        try:
            verb, _, rest = _text(line).partition(" ")
            return _COMMANDS.get(verb.upper(), Session._unknown)(self, rest)
        except Refused as error:
            self._bad(error.reply)
            return None

    def _line(self) -> bytes | None:
        """The next line with its end; more than LINE octets if it was too long, None if it is not complete."""
        end = self._in.find(b"\n")
        if end < 0:
            if len(self._in) > LINE or self._skipping:
                self._skipping = True
                self._in.clear()
            return None
        line = bytes(LINE + 1) if self._skipping else bytes(self._in[: end + 1])
        del self._in[: end + 1]
        self._skipping = False
        return line

    def _bad(self, reply: Reply) -> None:
        self._errors += 1
        if self._errors > ERRORS:
            self._end(MANY_ERRORS, "too many errors")
        else:
            self._say(reply)

    def _lhlo(self, rest: str) -> Event | None:
        if not rest.strip():
            raise Refused(ARGUMENTS)
        self._greeted = True
        lines = [self._host, "PIPELINING", f"SIZE {self._max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        self._out += b"".join(f"250-{line}\r\n".encode() for line in lines[:-1]) + f"250 {lines[-1]}\r\n".encode()
        return self._reset()

    def _mail_from(self, rest: str) -> Event | None:
        if not self._greeted or self._mail is not None:
            raise Refused(SEQUENCE)
        if rest[:5].upper() != "FROM:":
            raise Refused(ARGUMENTS)
        sender, behind = sender_path(rest[5:])
        mail = _mail(sender, behind)
        _allowed(rest[5:], behind, smtputf8=mail.smtputf8)
        if mail.size is not None and mail.size > self._max_size:
            self._say(TOO_BIG)
            return None
        self._asked = mail
        return mail

    def _rcpt_to(self, rest: str) -> Event | None:
        if self._mail is None:
            raise Refused(SEQUENCE)
        if rest[:3].upper() != "TO:":
            raise Refused(ARGUMENTS)
        mailbox, behind = recipient_path(rest[3:])
        _allowed(rest[3:], behind, smtputf8=self._mail.smtputf8)
        if behind:
            raise Refused(PARAMETERS if behind[0] == " " else ARGUMENTS)  # we offer none for RCPT
        if len(self._recipients) >= self._most:
            self._say(MANY_RECIPIENTS)
            return None
        self._asked = Rcpt(mailbox)
        return self._asked

    def _data_command(self, rest: str) -> Event | None:
        if rest:
            raise Refused(ARGUMENTS)
        if self._mail is None:
            raise Refused(SEQUENCE)
        if not self._recipients:
            raise Refused(NO_RECIPIENTS)
        self._asked = DataBegins(tuple(self._recipients))
        return self._asked

    def _rset(self, rest: str) -> Event | None:
        if rest:
            raise Refused(ARGUMENTS)
        self._say(OK)
        return self._reset()

    def _reset(self) -> Reset | None:
        open_, self._mail = self._mail, None
        self._recipients.clear()
        return None if open_ is None else Reset()

    def _noop(self, rest: str) -> None:
        self._say(OK)

    def _vrfy(self, rest: str) -> None:
        self._say(CANNOT_VERIFY)

    def _quit(self, rest: str) -> None:
        if rest:
            raise Refused(ARGUMENTS)
        self._end(BYE, QUIT)

    def _unknown(self, rest: str) -> None:
        raise Refused(UNKNOWN)


_COMMANDS: Mapping[str, Callable[[Session, str], Event | None]] = {
    "LHLO": Session._lhlo,
    "MAIL": Session._mail_from,
    "RCPT": Session._rcpt_to,
    "DATA": Session._data_command,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
}


def _text(line: bytes) -> str:
    """The line without its CR LF and spaces before it. Raises Refused."""
    if len(line) > LINE:
        raise Refused(TOO_LONG)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise Refused(NO_LINE) from None
    if text[-2:] != "\r\n" or any(letter < " " or letter == "\x7f" for letter in text[:-2]):
        raise Refused(NO_LINE)
    return text[:-2].rstrip(" ")


def _allowed(rest: str, behind: str, *, smtputf8: bool) -> None:
    """Raises Refused for a non-ASCII path in a transaction without SMTPUTF8 (RFC 6531 3.5)."""
    if not smtputf8 and not rest.removesuffix(behind).isascii():
        raise Refused(NO_UTF8)


def _mail(sender: str, behind: str) -> Mail:
    """The parameters behind the path (RFC 1870, 6152, 6531), each at most once. Raises Refused."""
    if behind and behind[0] != " ":
        raise Refused(ARGUMENTS)
    found: dict[str, str | None] = {}
    for word in behind.upper().split():
        name, equals, value = word.partition("=")
        if name in found:
            raise Refused(ARGUMENTS)
        found[name] = value if equals else None
    size, body, utf8 = found.pop("SIZE", ""), found.pop("BODY", ""), found.pop("SMTPUTF8", "")
    if found:
        raise Refused(PARAMETERS)
    if body not in ("", "7BIT", "8BITMIME") or utf8 not in ("", None):
        raise Refused(ARGUMENTS)
    return Mail(sender, _size(size), body == "8BITMIME", utf8 is None)


def _size(text: str | None) -> int | None:
    if text == "":
        return None
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 20:
        raise Refused(ARGUMENTS)
    return int(text)
