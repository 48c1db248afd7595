"""A message store: keys, and MSRAP over them (docs/protocol.md 9.2, 9.3). It keeps everything in memory."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from .notices import at_domain, mailbox, sha256
from .wire import Arm, Failure, Server, Session

SLICE = 1 << 20
HEADERS = ("from", "sender", "reply-to", "to", "cc", "date", "subject", "message-id")
DEEDS = ("silence", "unpin", "querysize", "retrieve")


@dataclass
class Entry:
    """One key: what it opens and what was done with it."""

    message: bytes
    expires: int
    silenced: bool = False
    pinned: bool = True
    reads: list[str] = field(default_factory=list)


def views(message: bytes) -> dict[str, bytes]:
    """The four views of a message."""
    end = message.find(b"\r\n\r\n")
    head = message if end < 0 else message[: end + 4]
    lines: list[bytes] = []
    for line in head.splitlines(keepends=True):
        if line[:1] in b" \t" and lines and line.strip():
            lines[-1] += line
        else:
            lines.append(line)
    summary = [line for line in lines if line.split(b":")[0].strip().decode("latin-1").lower() in HEADERS]
    return {"nothing": b"", "summaryonly": b"".join(summary) + b"\r\n", "headersonly": head, "all": message}


class Store:
    """Serves MSRAP; `legacy`: as one of 2004, which knows no QuerySize."""

    def __init__(self, name: str, legacy: bool = False) -> None:
        self.name, self.legacy = name, legacy
        self.entries: dict[bytes, Entry] = {}
        self.guard = threading.Lock()
        self.slice = SLICE
        self.server = Server("MSRAP", self._handle)
        self.asked: list[str] = []

    @property
    def port(self) -> int:
        return self.server.port

    def notification(self, recipient: str, message: bytes, sender: str = "toby", **more: Any) -> dict[str, Any]:
        """A message is kept; how it is told. One of 2004 says no more than the printed module had."""
        key = secrets.token_bytes(16)
        entry = self.entries[key] = Entry(message, int(time.time()) + 86400)
        told: dict[str, Any] = {
            "storeclear": at_domain(self.name),
            "recipient": mailbox(recipient),
            "identifier": key,
            "sender": sender,
        }
        told["size"] = len(message)
        if not self.legacy:
            told |= {"digest": sha256(message), "expires": entry.expires}
        return {**told, **more}

    def follow(self, told: dict[str, Any], redirects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A key and a notification for each target, and the old key dead, in one step (11.1)."""
        with self.guard:
            old = self.entries[told["identifier"]]
            original = told.get("original", told["recipient"])
            made = [self.notification("x@x", old.message, original=original) for _ in redirects]
            old.pinned = False
        for notification, one in zip(made, redirects, strict=True):
            notification["recipient"] = one["mailbox"]
            if "token" in one:
                notification["token"] = one["token"]
        return made

    def close(self) -> None:
        self.server.close()

    def _handle(self, session: Session, arm: str, value: Any) -> Arm:
        self.asked.append(arm)
        if arm == "authenticate":
            raise Failure("errornotauthenticated", False)
        if arm == "scanlist":
            raise Failure("errornosuchmessage", False)
        if arm not in DEEDS or (self.legacy and arm == "querysize"):
            raise Failure("errorunexpectedcommand", True)
        with self.guard:
            entry = self.entries.get(value["identifier"])
            if entry is None or not entry.pinned or entry.expires <= time.time():
                raise Failure("errornosuchmessage", False)
            return arm, getattr(self, "_" + arm)(entry, value)

    def _silence(self, entry: Entry, _: Any) -> dict[str, Any]:
        entry.silenced = True
        return {}

    def _unpin(self, entry: Entry, _: Any) -> dict[str, Any]:
        entry.pinned = False
        return {}

    def _querysize(self, entry: Entry, _: Any) -> dict[str, Any]:
        return {"size": len(entry.message), "digest": sha256(entry.message), "expires": entry.expires}

    def _retrieve(self, entry: Entry, value: Any) -> dict[str, Any]:
        view = views(entry.message)[value["type"]]
        data = view[value["offset"] : value["offset"] + min(value["length"], self.slice)]
        if data:
            entry.reads.append(value["type"])
        return {"data": data} if self.legacy else {"data": data, "size": len(view)}
