"""Who sends: an originator by MSOAP, and what a store says to agents by RNASP (docs/protocol.md 6, 9.1, 9.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .module import Record
from .notices import mailbox
from .wire import Client, Closed, Failure, Tls, Where

CHUNK = 1 << 19


@dataclass
class Outcome:
    """What one notification came to; `code` is None where the answer left it open."""

    code: int | None
    result: dict[str, Any] = field(default_factory=dict)
    status: str = "noerror"

    @property
    def kind(self) -> str:
        if self.code is None:
            return "undecided"
        return {0: "taken", 1: "redirected", 3: "permanent"}.get(self.code // 16, "temporary")


class Notifier:
    """Tells one agent; with no features as one of 2004 does. Keeps what the agent said of itself."""

    def __init__(self, where: Where, features: Sequence[str] | None = None, tls: Tls | None = None) -> None:
        self.where, self.features, self.tls = where, features, tls
        self.heard: dict[str, Any] = {}

    def tell(self, notifications: Sequence[dict[str, Any] | Record]) -> list[Outcome]:
        """An outcome for each; a batch that was answered as a whole with an error is sent again, singly (6.3)."""
        with Client("RNASP", self.where, self.tls) as session:
            outcomes = self.once(session, notifications)
        if len(notifications) > 1 and any(outcome.code is None for outcome in outcomes):
            return [self.tell([one])[0] for one in notifications]
        return outcomes

    def once(self, session: Client, notifications: Sequence[dict[str, Any] | Record]) -> list[Outcome]:
        """One command and what its answer says."""
        try:
            data = session.ask("notify", self.command(notifications))
        except Failure as no:
            return [Outcome(None, status=no.status) for _ in notifications]
        except Closed:
            return [Outcome(None, status="closed") for _ in notifications]
        self.heard = data.get("capabilities", {})
        if "results" not in data:
            return [Outcome(0) for _ in notifications]
        if len(data["results"]) != len(notifications):
            return [Outcome(None, status="count") for _ in notifications]
        return [Outcome(one["code"], one) for one in data["results"]]

    def command(self, notifications: Sequence[dict[str, Any] | Record]) -> dict[str, Any]:
        command: dict[str, Any] = {"notifications": list(notifications)}
        if self.features is not None:
            command["capabilities"] = {
                "version": 1,
                "features": list(self.features),
                "notifier": ["stranger", "example"],
            }
        return command


class Originator:
    """One account at a store that speaks MSOAP."""

    def __init__(self, where: Where, account: str, password: str) -> None:
        self.session = Client("MSOAP", where)
        self.session.login(account, password)

    def submit(self, recipients: Sequence[str], message: bytes, lifetime: int = 86400) -> list[bytes]:
        """The keys of the acceptable recipients, in order."""
        boxes = [mailbox(recipient) for recipient in recipients]
        self.session.ask("submitenvelope", {"recipients": boxes, "lifetime": lifetime})
        offset = 0
        while True:
            data = message[offset : offset + CHUNK]
            last = offset + len(data) == len(message)
            answer = self.session.ask("submitmsgchunk", {"islast": last, "offset": offset, "data": data})
            offset += len(data)
            if last:
                return list(answer["identifiers"])

    def track(self, key: bytes) -> dict[str, Any]:
        return dict(self.session.ask("track", {"identifier": key})["delivery"])

    def cancel(self, key: bytes) -> None:
        self.session.ask("cancel", {"identifier": key})

    def close(self) -> None:
        self.session.sock.close()
