"""What a smarthost made of each recipient of a message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """It has the message: 2xx after the dot."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. code: its reply, 0 where there was none; status: RFC 3463, "" where none was said."""

    code: int = 0
    status: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A permanent no to this recipient: reply code, status of RFC 3463, text."""

    code: int
    status: str
    text: str


Fate = Sent | Deferred | Refused
