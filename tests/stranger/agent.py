"""An agent: hears RNASP, answers by results or, as one of 2004, with one status (docs/protocol.md 6.3, 7, 8.5)."""

from __future__ import annotations

import hashlib
import hmac
import queue
import ssl
import time
from collections.abc import Callable
from typing import Any

from .module import Record
from .notices import address, mailbox, rewritten
from .sender import Notifier, Outcome
from .wire import Arm, Failure, Server, Session

HOPS = 8
Result = dict[str, Any]
Decide = Callable[[Record, "list[str]"], Result]


def taken(_: Record, __: list[str]) -> Result:
    return {"code": 0}


class Agent:
    """`came` has every notification that came; `decide` answers it, told of the features of its sender."""

    def __init__(self, decide: Decide = taken, legacy: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.decide, self.legacy = decide, legacy
        self.came: queue.Queue[Record] = queue.Queue()
        self.features: list[list[str]] = []
        self.server = Server("RNASP", self._handle, tls)

    @property
    def port(self) -> int:
        return self.server.port

    def close(self) -> None:
        self.server.close()

    def next(self, seconds: float = 15) -> Record:
        return self.came.get(timeout=seconds)

    def _handle(self, _: Session, __: str, value: Any) -> Arm:
        says = [] if self.legacy else value.get("capabilities", {}).get("features", [])
        self.features.append(says)
        results = []
        for notification in value["notifications"]:
            results.append(self.decide(notification, says))
            self.came.put(notification)
        if "results" not in says:
            return self._one_status(results)
        return "notify", {
            "results": results,
            "capabilities": {"version": 1, "features": ["results", "redirect", "trace"]},
        }

    def _one_status(self, results: list[Result]) -> Arm:
        """Chapter 7.2, for who cannot hear results."""
        codes = [one["code"] for one in results]
        if any(32 <= code < 48 for code in codes) or (len(codes) == 1 and codes[0] >= 16):
            raise Failure("errorinternalproblem", False)
        return "notify", {}


class Here:
    """Decides as a plain agent does: own mailboxes, moved ones by code 16, a token where it gave one, hops, loops."""

    def __init__(self, name: str, mailboxes: set[str]) -> None:
        self.name, self.mailboxes = name, mailboxes
        self.moved: dict[str, list[dict[str, Any]]] = {}
        self.tokens: dict[str, bytes] = {}
        self.secret = b"of this node alone"

    def mark(self, recipient: str) -> bytes:
        return hmac.new(self.secret, recipient.lower().encode(), hashlib.sha256).digest()[:8]

    def __call__(self, notification: Record, says: list[str]) -> Result:
        recipient = address(notification["recipient"])
        if recipient not in self.mailboxes:
            return {"code": 48}
        if notification.get("expires", time.time() + 1) <= time.time():
            return {"code": 53}
        if max(notification.get("hops", 0), len(notification.get("trace", []))) > HOPS:
            return {"code": 52}
        if self._was_here(notification, recipient):
            return {"code": 50}
        if recipient in self.tokens and notification.get("token") != self.tokens[recipient]:
            return {"code": 49}
        if recipient in self.moved:
            return {"code": 16, "redirects": self.moved[recipient]} if "redirect" in says else {"code": 48}
        return {"code": 0}

    def _was_here(self, notification: Record, recipient: str) -> bool:
        mine = (self.name.split("."), self.mark(recipient))
        return any((hop["by"], hop.get("rcpt")) == mine for hop in notification.get("trace", []))

    def hop(self, recipient: str, how: int = 3) -> dict[str, Any]:
        return {"by": self.name.split("."), "rcpt": self.mark(recipient), "at": int(time.time()), "how": how}


class Forwarder:
    """Passes one mailbox on to one target at another agent, and answers what that came to (8.1, 8.2)."""

    def __init__(self, here: Here, target: str, where: tuple[str, int]) -> None:
        self.here, self.target = here, target
        self.onward = Notifier(where, ["results", "trace"])
        self.heard: list[Outcome] = []

    def __call__(self, notification: Record, says: list[str]) -> Result:
        own = self.here(notification, says)
        if own["code"]:
            return own
        passed = rewritten(notification, self.target, self.here.hop(address(notification["recipient"])))
        outcome = self.onward.tell([passed])[0]
        self.heard.append(outcome)
        match outcome.code:
            case None:
                return {"code": 32, "retryafter": 300}
            case 0 | 1 | 2 | 3:
                return {"code": 0}
            case 50 | 52 | 53:
                return {"code": outcome.code}
            case code if code >= 48 or code == 16:
                return {"code": 49}
            case code:
                return {"code": code, "retryafter": outcome.result.get("retryafter", 300)}


def redirect(target: str, kind: int = 1, token: bytes | None = None) -> dict[str, Any]:
    """One Redirect."""
    return {"mailbox": mailbox(target), "kind": kind} | ({} if token is None else {"token": token})
