"""What happens in an LMTP session: the words between lmtp.Session and who decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from forwarder.model import Mailbox


@dataclass(frozen=True, slots=True)
class Mail:
    """A transaction is asked for. sender: as it goes into angle brackets, "" = null. size: octets, as announced."""

    sender: str
    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Rcpt:
    """A recipient is asked for."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class DataBegins:
    """The message may come: GO_AHEAD, or a refusal. recipients: those taken, in order."""

    recipients: tuple[Mailbox, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Octets of the message, dots undone; dots.PIECE at most."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class TooBig:
    """The message is over the limit: no more Pieces, and the session itself answers at its end."""


@dataclass(frozen=True, slots=True)
class DataEnds:
    """The message is whole, `size` octets. Answer by `replies`."""

    size: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction is over without a message (RSET, LHLO)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more is read; close when data_to_send is out."""

    why: str


Event = Mail | Rcpt | DataBegins | Piece | TooBig | DataEnds | Reset | Ended


class NeedData(Enum):
    NEED_DATA = "nothing to do before more octets arrive, or before a decision"


NEED_DATA = NeedData.NEED_DATA


class LocalError(RuntimeError):
    """We spoke out of turn: a bug on our side."""
