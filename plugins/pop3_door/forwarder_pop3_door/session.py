"""A server's side of a POP3 session, sans-IO: octets in, events and octets out (RFC 1939, 2449, 2595, 3206, 5034).

* What needs nobody's decision is answered here: CAPA, NOOP, mistakes, whose turn it is. The rest are events; the caller
  answers each by `ok`, `err`, `listing` or octets of its own before it asks for the next.
* It holds less than a line and what the caller gave it at once. Give it at most RECEIVE octets, and none while it has
  events: so at most 64 commands with a number are in memory, and a client that pipelines more is slowed, not cut off.
* A line over its limit, MISTAKES mistakes or FAILURES wrong passwords end the session.
* A password that may not come in clear is not asked for. What came before a TLS handshake is dropped (RFC 2595 4).
* No text says "lock" or "wait": fetchmail takes such an answer for a mailbox that another has locked.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Literal, NamedTuple

RECEIVE = 512
LINE = 512
"""Octets of a command with its end; RFC 2449 asks for 255, of which a password may need more."""
SASL_LINE = 4096
MISTAKES = 20
FAILURES = 3
MOST_LINES = 10**9

Code = Literal["AUTH", "SYS/TEMP", "SYS/PERM"]

_NUMBER = re.compile(rb"[0-9]{1,10}\Z")


class Credentials(NamedTuple):
    """Answer by `logged_in`, `refused` or `err`."""

    user: str
    password: str


class StartTls(NamedTuple):
    """Answered already: write what there is to send, do the handshake, say `secured`."""


class Stat(NamedTuple): ...


class Sizes(NamedTuple):
    """LIST; of all messages without a number."""

    number: int | None


class Names(NamedTuple):
    """UIDL; of all messages without a number."""

    number: int | None


class Retrieve(NamedTuple):
    number: int


class Top(NamedTuple):
    number: int
    lines: int


class Delete(NamedTuple):
    number: int


class Reset(NamedTuple): ...


class Quit(NamedTuple):
    """Of one who is logged in. Answer by `bye` or `err`, then the session is over."""


class Signal(Enum):
    """NEED_DATA: answer what there is to send, then `receive_data`. CLOSED: the same, then close."""

    NEED_DATA = "need data"
    CLOSED = "closed"


NEED_DATA, CLOSED = Signal.NEED_DATA, Signal.CLOSED

Command = Stat | Sizes | Names | Retrieve | Top | Delete | Reset | Quit
Event = Credentials | StartTls | Command | Signal


class _MistakeError(Exception):
    """What the client is told about its command."""


class Session:
    """clear: whether a password may come on this transport. stls: whether TLS is to be had."""

    def __init__(self, *, clear: bool, stls: bool) -> None:
        self.closed = False
        self._clear = clear
        self._stls = stls
        self._in = bytearray()
        self._out = bytearray()
        self._user: str | None = None
        self._in_sasl = False
        self._inside = False
        self._mistakes = self._failures = 0
        self._verbs = self._before

    def receive_data(self, data: bytes | bytearray) -> None:
        self._in += data

    def data_to_send(self) -> bytes:
        """What has been answered since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    @property
    def held(self) -> int:
        """Octets received and not yet understood."""
        return len(self._in)

    @property
    def unsent(self) -> int:
        """Octets answered and not yet sent."""
        return len(self._out)

    def next_event(self) -> Event:
        """The next thing to do."""
        while not self.closed:
            line = self._line()
            if line is None:
                return CLOSED if self.closed else NEED_DATA
            try:
                event = self._plain(line) if self._in_sasl else self._command(line)
            except _MistakeError as mistake:
                self._mistakes += 1
                self.err(str(mistake))
                self.closed = self._mistakes >= MISTAKES
                continue
            if event is not None:
                return event
        return CLOSED

    # -- answers

    def greet(self) -> None:
        self.ok("POP3 ready")

    def ok(self, text: str = "") -> None:
        self._out += f"+OK {text}".rstrip().encode() + b"\r\n"

    def err(self, text: str, code: Code | None = None) -> None:
        self._out += f"-ERR {f'[{code}] ' if code else ''}{text}".encode() + b"\r\n"

    def listing(self, text: str, lines: Iterable[str]) -> None:
        """An answer of several lines, none of which begins with a dot."""
        self.ok(text)
        self._out += "".join(f"{line}\r\n" for line in lines).encode() + b".\r\n"

    def logged_in(self, text: str) -> None:
        self._inside = True
        self._verbs = self._after
        self.ok(text)

    def refused(self) -> None:
        """One text, whatever the reason."""
        self._failures += 1
        self.err("wrong name or password", "AUTH")
        self.closed = self._failures >= FAILURES

    def secured(self, *, clear: bool) -> None:
        """TLS is there: all that was known before is forgotten."""
        self._in.clear()
        self._user = None
        self._stls, self._clear = False, clear

    def bye(self) -> None:
        self.ok("bye")
        self.closed = True

    # -- commands

    def _line(self) -> bytes | None:
        """The next whole line without its end, a bare LF counting as one. None: there is none, or it was too long."""
        limit = SASL_LINE if self._in_sasl else LINE
        end = self._in.find(b"\n", 0, limit)
        if end < 0:
            if len(self._in) >= limit:
                self.err("the line is too long")
                self.closed = True
            return None
        line = bytes(self._in[:end])
        del self._in[: end + 1]
        return line.removesuffix(b"\r")

    def _command(self, line: bytes) -> Event | None:
        verb, _, rest = line.partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        if name not in self._verbs:
            known = name in self._before or name in self._after
            raise _MistakeError(("already logged in" if self._inside else "log in first") if known else "what?")
        if name != "PASS":
            rest = rest.rstrip(b" \t")
        return self._verbs[name](self, rest)

    def _capa(self, rest: bytes) -> None:
        _nothing(rest)
        can = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"]
        if self._clear:
            can += ["USER", "SASL PLAIN"]
        if self._stls and not self._inside:
            can.append("STLS")
        self.listing("what there is", [*can, "IMPLEMENTATION forwarder"])

    def _user_(self, rest: bytes) -> None:
        self._may_log_in()
        self._user = _text(rest)
        self.ok("and the password?")

    def _pass(self, rest: bytes) -> Event:
        self._may_log_in()
        user, self._user = self._user, None
        if user is None:
            raise _MistakeError("USER first")
        return Credentials(user, _text(rest))

    def _auth(self, rest: bytes) -> Event | None:
        mechanism, _, initial = rest.partition(b" ")
        if not mechanism:
            self.listing("mechanisms", ["PLAIN"] if self._clear else [])
            return None
        self._may_log_in()
        if mechanism.upper() != b"PLAIN":
            raise _MistakeError("PLAIN is the one mechanism")
        if initial:
            return self._plain(b"" if initial == b"=" else initial)
        self._in_sasl = True
        self._out += b"+ \r\n"
        return None

    def _plain(self, line: bytes) -> Event:
        """RFC 4616: whom to act as, who it is, his password."""
        self._in_sasl = False
        if line == b"*":
            raise _MistakeError("cancelled")
        try:
            acting, user, password = b64decode(line, validate=True).split(b"\0")
        except ValueError:
            raise _MistakeError("this is not PLAIN") from None
        if acting not in (b"", user):
            raise _MistakeError("nobody acts as another here")
        return Credentials(_text(user), _text(password))

    def _may_log_in(self) -> None:
        if not self._clear:
            raise _MistakeError("passwords only over TLS")

    def _start_tls(self, rest: bytes) -> Event:
        _nothing(rest)
        if not self._stls:
            raise _MistakeError("no TLS to be had, or it is there already")
        self.ok("begin TLS")
        self._in.clear()
        return StartTls()

    def _leave(self, rest: bytes) -> None:
        _nothing(rest)
        self.bye()

    def _noop(self, rest: bytes) -> None:
        _nothing(rest)
        self.ok()

    def _top(self, rest: bytes) -> Event:
        number, _, lines = rest.partition(b" ")
        if not _NUMBER.match(lines):
            raise _MistakeError("a message number and a number of lines are needed")
        return Top(_number(number), min(int(lines), MOST_LINES))

    _before: Mapping[str, Callable[[Session, bytes], Event | None]] = {
        "CAPA": _capa,
        "USER": _user_,
        "PASS": _pass,
        "AUTH": _auth,
        "STLS": _start_tls,
        "QUIT": _leave,
    }
    _after: Mapping[str, Callable[[Session, bytes], Event | None]] = {
        "CAPA": _capa,
        "NOOP": _noop,
        "STAT": lambda _, rest: _alone(rest, Stat()),
        "LIST": lambda _, rest: Sizes(_number(rest) if rest else None),
        "UIDL": lambda _, rest: Names(_number(rest) if rest else None),
        "RETR": lambda _, rest: Retrieve(_number(rest)),
        "TOP": _top,
        "DELE": lambda _, rest: Delete(_number(rest)),
        "RSET": lambda _, rest: _alone(rest, Reset()),
        "QUIT": lambda _, rest: _alone(rest, Quit()),
    }


def _nothing(rest: bytes) -> None:
    if rest:
        raise _MistakeError("nothing follows this command")


def _alone(rest: bytes, command: Command) -> Command:
    _nothing(rest)
    return command


def _number(octets: bytes) -> int:
    if not _NUMBER.match(octets):
        raise _MistakeError("a message number is needed")
    return int(octets)


def _text(octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise _MistakeError("this is not UTF-8") from None
    if not text or "\0" in text:
        raise _MistakeError("a name and a password are needed")
    return text
