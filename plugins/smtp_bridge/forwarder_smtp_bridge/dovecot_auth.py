"""Dovecot's auth protocol 1.1 as Postfix's smtpd speaks it, the server's side, sans-IO. PLAIN (RFC 4616) is all we do.

receive_data, next_question until None; `answer` before the next question. A login or password that cannot be one is
refused here. Passwords show in no repr.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from forwarder_smtp_bridge.socketmap import Malformed

LINE = 8192  # octets, its LF included; Dovecot's own bound for the version
UNDER_WAY = 16  # requests that may wait for their CONT: smtpd has one
LOGIN, PASSWORD = 255, 1024  # octets
WRONG = "wrong login or password"
LATER = "try again later"
_ID = re.compile(r"[0-9]{1,10}\Z")


@dataclass(frozen=True, slots=True)
class Credentials:
    """To be verified. address: of smtpd's client ("" if it did not say); it is for back-off and the log."""

    request: str
    login: str
    password: str = field(repr=False)
    address: str = ""


class AuthSession:
    """One connection. pid, number (of the connection) and cookie are told to the peer, which makes nothing of them."""

    def __init__(self, pid: int, number: int, cookie: str) -> None:
        self._in = bytearray()
        self._out = bytearray()
        self._agreed = False
        self._waiting: dict[str, str] = {}  # request: address of the client
        hello = [
            "VERSION\t1\t1",
            "MECH\tPLAIN\tplaintext",
            f"SPID\t{pid}",
            f"CUID\t{number}",
            f"COOKIE\t{cookie}",
            "DONE",
        ]
        for line in hello:
            self._say(line)

    @property
    def held(self) -> int:
        """Octets received and not handed out: below LINE and one receive, if it is called only after None."""
        return len(self._in)

    def receive_data(self, data: bytes | bytearray) -> None:
        """What the stream gave."""
        self._in += data

    def data_to_send(self) -> bytes:
        """All lines since the last call, the handshake first."""
        octets = bytes(self._out)
        self._out.clear()
        return octets

    def next_question(self) -> Credentials | None:
        """None: it is not complete. Raises Malformed."""
        while (end := self._in.find(b"\n", 0, LINE)) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            question = self._line(line)
            if question is not None:
                return question
        if len(self._in) >= LINE:
            raise Malformed("line too long")
        return None

    def answer(self, question: Credentials, right: bool | None) -> None:
        """None: we do not know; the peer is told that it is temporary."""
        if right:
            self._say(f"OK\t{question.request}\tuser={question.login}")
        elif right is None:
            self._say(f"FAIL\t{question.request}\tuser={question.login}\ttemp\tcode=temp_fail\treason={LATER}")
        else:
            self._say(f"FAIL\t{question.request}\tuser={question.login}\treason={WRONG}")

    def _line(self, line: bytes) -> Credentials | None:
        """What is neither VERSION, AUTH nor CONT is none of ours (CPID, and what later versions say)."""
        word, *fields = line.decode(errors="replace").split("\t")
        if not self._agreed:
            if word != "VERSION" or not fields or fields[0] != "1":
                raise Malformed("not version 1")
            self._agreed = True
        elif word == "AUTH":
            return self._auth(fields)
        elif word == "CONT":
            return self._continued(fields)
        return None

    def _auth(self, fields: list[str]) -> Credentials | None:
        if len(fields) < 2 or not _ID.match(fields[0]):
            raise Malformed("AUTH without its request")
        request, mechanism, *parameters = fields
        named = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        address = named.get("rip", "")
        if mechanism.upper() != "PLAIN":
            self._refuse(request)
            return None
        if "resp" in named:
            return self._plain(request, named["resp"], address)
        if len(self._waiting) >= UNDER_WAY:
            raise Malformed("too many requests under way")
        self._waiting[request] = address
        self._say(f"CONT\t{request}\t")
        return None

    def _continued(self, fields: list[str]) -> Credentials | None:
        if len(fields) != 2 or fields[0] not in self._waiting:
            raise Malformed("CONT without its request")
        return self._plain(fields[0], fields[1], self._waiting.pop(fields[0]))

    def _plain(self, request: str, response: str, address: str) -> Credentials | None:
        try:
            given, login, password = base64.b64decode(response, validate=True).decode().split("\0")
        except (ValueError, binascii.Error):
            self._refuse(request)
            return None
        possible = 0 < len(login.encode()) <= LOGIN and 0 < len(password.encode()) <= PASSWORD
        if given not in ("", login) or not possible or any(letter < " " or letter == "\x7f" for letter in login):
            self._refuse(request)
            return None
        return Credentials(request, login, password, address)

    def _refuse(self, request: str) -> None:
        self._say(f"FAIL\t{request}\treason={WRONG}")

    def _say(self, line: str) -> None:
        self._out += line.encode() + b"\n"
