"""What Postfix is told of each outcome: one table, for the map at RCPT and for LMTP's line per recipient.

What we do not know is TEMP; a fault of ours is no answer at all and never a 5xx: Postfix keeps the mail and
comes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Kind = Literal[
    "taken",  # or will be retried by us
    "off",
    "broken",  # a file, the engine, the disk
    "full",
    "busy",
    "disk low",
    "unknown",  # gone and expired too
    "moved",
    "moved to",  # the address may be told; it is the text
    "refused",
    "elsewhere",  # not hosted here: others may host it at the same MTA
    "loop",
    "too big",
    "malformed",
    "fault",  # a bug, a hang, a shutdown
]
TEXT_MOST = 400  # characters; a reply line has 512 octets (RFC 5321 4.5.3.1.5)


def printable(text: str) -> str:
    """One line of printable ASCII, TEXT_MOST characters at most: what may go into a reply."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:TEXT_MOST])


class Reply(NamedTuple):
    """One answer: the code (RFC 5321 4.2), the enhanced code (RFC 3463; "" in greetings and 354), a text for people."""

    code: int
    enhanced: str
    text: str

    @property
    def good(self) -> bool:
        return 200 <= self.code < 300

    def __bytes__(self) -> bytes:
        return (" ".join(word for word in (str(self.code), self.enhanced, printable(self.text)) if word)).encode()


class Refused(ValueError):
    """What a peer sent is not taken; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Row(NamedTuple):
    """at_rcpt: what the map says; "reply" = the same code and text as LMTP. reply None: close without an answer."""

    at_rcpt: Literal["DUNNO", "TEMP", "reply"]
    reply: Reply | None


TABLE: Mapping[Kind, Row] = MappingProxyType(
    {
        "taken": Row("DUNNO", Reply(250, "2.1.5", "taken")),
        "off": Row("reply", Reply(450, "4.2.1", "mailbox is switched off for now")),
        "broken": Row("TEMP", Reply(451, "4.3.0", "try again later")),
        "full": Row("DUNNO", Reply(452, "4.2.2", "mailbox is full")),
        "busy": Row("DUNNO", Reply(451, "4.3.2", "busy, try again later")),
        "disk low": Row("DUNNO", Reply(452, "4.3.1", "no room for mail now")),
        "unknown": Row("reply", Reply(550, "5.1.1", "no such mailbox")),
        "moved": Row("reply", Reply(550, "5.1.6", "mailbox has moved")),
        "moved to": Row("reply", Reply(551, "5.1.6", "mailbox has moved")),
        "refused": Row("reply", Reply(550, "5.7.1", "refused")),
        "elsewhere": Row("DUNNO", Reply(550, "5.7.1", "this domain is not hosted here")),
        "loop": Row("DUNNO", Reply(554, "5.4.6", "mail forwarding loop")),
        "too big": Row("DUNNO", Reply(552, "5.3.4", "message is too big")),
        "malformed": Row("reply", Reply(550, "5.1.3", "bad address syntax")),
        "fault": Row("TEMP", None),
    }
)

_BY_CODE: Mapping[int, Kind] = MappingProxyType(
    {33: "full", 35: "busy", 48: "unknown", 50: "loop", 52: "loop"},
)
_BY_CLASS: tuple[Kind, ...] = ("taken", "moved", "broken", "refused")


def kind_of(code: int) -> Kind:
    """The row of a code of protocol 6.4; an unknown one by its class, 64 and over as temporary.

    32 is "broken"; who knows that the address is off says "off".
    """
    by_class = _BY_CLASS[code // 16] if 0 <= code < 64 else "broken"
    return _BY_CODE.get(code, by_class)


def reply_of(kind: Kind, text: str = "") -> Reply | None:
    """LMTP's line for a recipient, with this text instead of the row's own. None: close without an answer."""
    reply = TABLE[kind].reply
    return reply._replace(text=text) if reply is not None and text else reply


def map_answer(kind: Kind, text: str = "") -> str:
    """What the table `access` answers: `OK` with an action of access(5), or `TEMP`."""
    at_rcpt, reply = TABLE[kind].at_rcpt, reply_of(kind, text)
    if at_rcpt == "reply":
        assert reply is not None
        return f"OK {bytes(reply).decode()}"
    return f"OK {at_rcpt}" if at_rcpt == "DUNNO" else "TEMP try again later"
