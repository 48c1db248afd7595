"""Handing a message in at our own store, and its line for each recipient, for whoever took it from an MTA."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from forwarder.bridges import ServicePorts, Submission, SubmissionRefused
from forwarder.model import Mailbox, Outcome
from forwarder.plugin import PeerError
from forwarder_smtp_bridge.options import SmtpIn
from forwarder_smtp_bridge.outcomes import Kind, Reply, kind_of, reply_of

RESERVE = 64 << 20
"""Octets of disk beside what all sessions may bring at once."""
OK = Reply(250, "2.1.0", "ok")
RCPT_OK = Reply(250, "2.1.5", "ok")
REFUSALS: Mapping[str, Kind] = {"quota": "disk low", "limit": "busy", "account": "broken"}
PERMANENT = 3


class Fault(Exception):
    """Ours: the session ends without an answer, and the MTA comes again."""


def line(kind: Kind, text: str = "") -> Reply:
    """LMTP's line for a row of the table. Raises Fault where there is none."""
    reply = reply_of(kind, text)
    if reply is None:
        raise Fault(kind)
    return reply


def line_of(outcome: Outcome | Kind) -> Reply:
    """A recipient's line after the dot: but for what was withdrawn again (bridges.Submit) it is ours, come what may."""
    if isinstance(outcome, str):
        return line(outcome)
    kind = kind_of(outcome.code)
    if outcome.code // 16 != PERMANENT and kind not in ("full", "busy"):
        return line("taken")
    return line(kind, outcome.text if kind == "refused" else "")


def at_mail(options: SmtpIn, ports: ServicePorts) -> Reply:
    """Whether there is room for one more message, whatever the other sessions bring."""
    wanted, free = options.sessions * options.max_size + RESERVE, ports.room()
    if free >= wanted:
        return OK
    ports.log.info("limit disk room", wanted=wanted, free=free)
    return line("disk low")


async def submitted(ports: ServicePorts, submission: Submission) -> Sequence[Outcome | Kind]:
    """The outcomes; where nothing was taken, the row of the table for each. Raises OSError, PeerError, Fault."""
    try:
        return await ports.submit(submission)
    except SubmissionRefused as refused:
        ports.log.info("limit of the account", account=submission.account, why=refused.why)
        return [REFUSALS[refused.why]] * len(submission.to)
    except (OSError, PeerError):
        raise
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {error}") from error


def once(sha256: bytes, sender: str, mailbox: Mailbox) -> bytes:
    """What makes a delivery the same when it comes again: Postfix repeats with the very octets."""
    parts = (sha256, sender.encode(), str(mailbox.folded).encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
