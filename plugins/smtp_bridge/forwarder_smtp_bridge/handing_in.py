"""Handing a message in at our own store, for whoever took it from an MTA."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from forwarder.bridges import ServicePorts, Submission, SubmissionRefused
from forwarder.model import Mailbox, Outcome
from forwarder.plugin import PeerError
from forwarder_smtp_bridge.outcomes import Kind

REFUSALS: Mapping[str, Kind] = {"quota": "disk low", "limit": "busy", "account": "broken"}


class Fault(Exception):
    """Ours: the session ends without an answer, and the MTA comes again."""


async def submitted(ports: ServicePorts, submission: Submission) -> Sequence[Outcome | Kind]:
    """The outcomes; where nothing was taken, the row of the table for each. Raises OSError, Fault."""
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
