"""Return paths: the envelope sender under which mail goes on, and whom a report to such a sender is for.

SRS0 and SRS1 come from srslib, behind a guard: it takes a hash cut to one character, makes an SRS1 of ourselves from
our own SRS0, and raises at the null sender. What does not fit into SRS, and what is native, gets `b=`: 20 characters
that name the owed row (40 bits), the day (10 bits) and their HMAC (50 bits). Stamps of days wrap after 1,024 days; an
SRS1 never expires, for the first hop checks. Everything is verified without regard to case: Postfix folds its keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from forwarder.model import Mailbox

LOCALPART_OCTETS = 64  # RFC 5321 4.5.3.1.1, which other MTAs hold us to
SHORTEST_SECRET = 16
MOST_SECRETS = 16
SECRETS_OCTETS = 64 << 10
ROWS = 1 << 40
_DAYS = 1 << 10
_TAG_BITS = 50
_LABEL = b"forwarder b= path 1\0"
NEEDS = 'needs srslib, which is not installed: pip install "forwarder[smtp]"'

_SRS = re.compile(r"SRS[01][-+=]", re.IGNORECASE)
_HASH = re.compile(r"SRS[01][-+=]([^=]*)=", re.IGNORECASE)
_ROW = re.compile(r"b=([a-z2-7]{20})\Z", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _srslib() -> ModuleType:
    """An extra, so the plugin loads without it. Raises ImportError."""
    import srslib

    return srslib  # type: ignore[no-any-return]


def lacks_srs() -> bool:
    try:
        _srslib()
    except ImportError:
        return True
    return False


class SecretsError(Exception):
    """The file of secrets cannot be used; the text is for the operator and shows none of them."""


def load_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, newest first: one a line, for our eyes only (0600). Raises SecretsError, OSError."""
    with open(path, "rb", opener=_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise SecretsError(f"{path}: is no regular file")
        if stat.S_IMODE(mode) & 0o077:
            raise SecretsError(f"{path}: others may read it: chmod 600 {path}")
        octets = file.read(SECRETS_OCTETS + 1)
    found = [(number, line.strip()) for number, line in enumerate(octets.split(b"\n"), start=1) if line.strip()]
    if not found:
        raise SecretsError(f"{path}: holds no secret: one a line, newest first")
    if len(octets) > SECRETS_OCTETS or len(found) > MOST_SECRETS:
        raise SecretsError(f"{path}: at most {MOST_SECRETS} secrets: drop those older than [bridge.returns] days")
    for number, line in found:
        if line.startswith(b"#"):
            raise SecretsError(
                f"{path}:{number}: comments are not known here, this would be a secret that all can guess"
            )
        if len(line) < SHORTEST_SECRET:
            raise SecretsError(f"{path}:{number}: a secret has at least {SHORTEST_SECRET} characters")
    return tuple(line for _, line in found)


def _at_once(path: str, flags: int) -> int:
    """A pipe's open does not wait for whoever writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


class Outgoing(NamedTuple):
    """What decides on the envelope sender of a message that goes out by SMTP.

    sender: the envelope sender it came with, "" for null (native: ""). ours: its domain is hosted here.
    returned: it arrived at one of our return paths. row: number of the owed row, 0 <= row < 2 ** 40.
    """

    origin: Literal["native", "smtp", "submission", "report"]
    row: int
    sender: str = ""
    ours: bool = False
    returned: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """A report for the sender behind an SRS address: goes on to `to`, unchanged, with null sender."""

    to: str


@dataclass(frozen=True, slots=True)
class Row:
    """A report on the owed row of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Forged:
    """A return path that we did not make, or too old: 550 at RCPT. why: for the log."""

    why: str


@dataclass(frozen=True, slots=True)
class NotOurs:
    """No return path of ours."""


class ReturnPaths:
    """The return paths under one domain. `now` gives an aware datetime."""

    def __init__(
        self,
        domain: str,
        secrets: Sequence[bytes],
        *,
        now: Callable[[], datetime],
        days: int = 21,
        hash_length: int = 8,
    ) -> None:
        self._domain = domain.lower()
        self._secrets = tuple(secrets)
        self._now = now
        self._days = days
        self._hash_length = hash_length
        self._srslib: Any = _srslib()
        self._srs = self._srslib.SRS(secrets[0], list(secrets[1:]), validity_days=days, hash_length=hash_length)
        self._srs._time_fn = lambda: now().timestamp()  # its only way to a clock of one's own

    def envelope_sender(self, message: Outgoing) -> str:
        """Under which sender it goes on: as SMTP writes it, without <>; "" is null (bridges.md 6)."""
        if message.origin == "report" or message.returned:
            return ""
        if message.origin == "native":
            return self.row_path(message.row)
        if not message.sender or message.origin == "submission" or message.ours:
            return message.sender
        return self._rewritten(message)

    def _rewritten(self, message: Outgoing) -> str:
        local, domain = _split(message.sender)
        if domain.lower() == self._domain:
            return message.sender
        if not local or not domain or _CONTROL.search(message.sender):
            return self.row_path(message.row)
        made = self._srs.forward(f"{local}@{domain}", self._domain)
        written = _written(made)
        too_long = len(written.rpartition("@")[0].encode()) > LOCALPART_OCTETS
        return self.row_path(message.row) if too_long or not self._comes_back(made, local, domain) else written

    def _comes_back(self, made: str, local: str, domain: str) -> bool:
        """An address that SRS cannot hold ("=" in a domain, an SRS0 that is none) would be a report lost later."""
        try:
            back: str = self._srs.reverse(made)
        except (self._srslib.Error, ValueError):
            return False
        if _SRS.match(local):
            return bool(_SRS.match(back))
        return back == f"{local}@{domain}"

    def row_path(self, row: int) -> str:
        """`b=<20 base32>@domain`, good for `days`. Raises ValueError for a row of more than 40 bits."""
        if not 0 <= row < ROWS:
            raise ValueError(f"{row} is no row: 40 bits")
        named = row * _DAYS + self._today()
        octets = (named << (_TAG_BITS + 4) | self._tag(self._secrets[0], named) << 4).to_bytes(13, "big")
        return f"b={base64.b32encode(octets).decode()[:20].lower()}@{self._domain}"

    def ours(self, mailbox: Mailbox) -> bool:
        """Whether it is in our domain, return path or not."""
        return mailbox.domain.lower() == self._domain

    def reverse(self, address: str) -> Forward | Row | Forged | NotOurs:
        """What a recipient address of the world means. Never raises, whatever the text."""
        local, domain = _split(address)
        if domain.lower() != self._domain:
            return NotOurs()
        if match := _ROW.match(local):
            return self._row(match[1])
        return self._sender(local) if _SRS.match(local) else NotOurs()

    def _sender(self, local: str) -> Forward | Forged:
        match = _HASH.match(local)
        if not match or len(match[1]) < self._hash_length:
            return Forged("hash cut short")
        try:
            return Forward(_written(self._srs.reverse(f"{local}@{self._domain}")))
        except self._srslib.InvalidTimestampError:
            return Forged("expired")
        except (self._srslib.Error, ValueError):
            return Forged("wrong hash")

    def _row(self, name: str) -> Row | Forged:
        octets = base64.b32decode(name.upper() + "A===")
        packed = int.from_bytes(octets, "big") >> 4
        named, tag = packed >> _TAG_BITS, packed & ((1 << _TAG_BITS) - 1)
        right = [hmac.compare_digest(_seven(tag), _seven(self._tag(secret, named))) for secret in self._secrets]
        if not any(right):
            return Forged("wrong hash")
        row, day = divmod(named, _DAYS)
        return Row(row) if (self._today() - day) % _DAYS < self._days else Forged("expired")

    def _tag(self, secret: bytes, named: int) -> int:
        digest = hmac.digest(secret, _LABEL + _seven(named), hashlib.sha256)
        return int.from_bytes(digest[:7], "big") >> (56 - _TAG_BITS)

    def _today(self) -> int:
        return int(self._now().timestamp()) // 86400 % _DAYS


def _seven(number: int) -> bytes:
    return number.to_bytes(7, "big")


def _split(address: str) -> tuple[str, str]:
    """Local part unquoted, domain as written."""
    local, _, domain = address.rpartition("@")
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    return local, domain


def _written(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return str(Mailbox(local, domain))
