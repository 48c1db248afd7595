"""Who reads: RNAQP at his agent, MSRAP at the stores that the notifications name (docs/protocol.md 10)."""

from __future__ import annotations

import hashlib
from typing import Any

from .wire import Client, Failure, Tls, Where

SLICE = 1 << 16
SHARED = 2


class Mailbox:
    """One account at an agent."""

    def __init__(self, where: Where, account: str, password: str, tls: Tls | None = None) -> None:
        self.session = Client("RNAQP", where, tls)
        self.session.login(account, password)

    def waiting(self, count: int = 100) -> list[dict[str, Any]]:
        """All that waits, shown and kept."""
        found: list[dict[str, Any]] = []
        while True:
            after = {"after": found[-1]["cursor"]} if found else {}
            page = self.session.ask("peek", {**after, "max": count})
            found += page["notifications"]
            if not page.get("more"):
                return found

    def forget(self, items: list[dict[str, Any]]) -> None:
        self.session.ask("clear", {"cursors": [item["cursor"] for item in items]})

    def take(self, most: int | None = None) -> list[dict[str, Any]]:
        """RetrieveAndClear: shown and forgotten; without `most`, as one of 2004 asks."""
        found = []
        while True:
            page = self.session.ask("retrieveandclear", {} if most is None else {"max": most})
            found += page["notifications"]
            if not page.get("more"):
                return found

    def close(self) -> None:
        self.session.sock.close()


class Messages:
    """What a store has for who holds a key."""

    def __init__(self, where: Where, tls: Tls | None = None) -> None:
        self.session = Client("MSRAP", where, tls)

    def silence(self, item: dict[str, Any]) -> bool:
        """Not where others hold the key too."""
        if any(hop.get("how") == SHARED for hop in item.get("trace", [])):
            return False
        self.session.ask("silence", {"identifier": item["identifier"]})
        return True

    def unpin(self, key: bytes) -> bool:
        """Closed by us; False: by another, or long ago."""
        try:
            self.session.ask("unpin", {"identifier": key})
        except Failure as no:
            if no.status != "errornosuchmessage":
                raise
            return False
        return True

    def size(self, key: bytes) -> dict[str, Any]:
        try:
            return dict(self.session.ask("querysize", {"identifier": key}))
        except Failure as no:
            if no.status == "errornosuchmessage":
                raise
            return {"size": self.slice(key, "nothing", 0, 0).get("size", 0)}

    def slice(self, key: bytes, view: str, offset: int, length: int) -> dict[str, Any]:
        asked = {"identifier": key, "type": view, "offset": offset, "length": length}
        return dict(self.session.ask("retrieve", asked))

    def fetch(self, item: dict[str, Any], view: str = "all") -> bytes:
        """The whole view, in slices; `all` is held against size and digest."""
        key, limit = item["identifier"], item.get("size", 1 << 28)
        got = bytearray()
        while True:
            part = self.slice(key, view, len(got), SLICE)
            got += part["data"]
            if not part["data"] or len(got) > limit or len(got) == part.get("size"):
                break
        if view == "all" and "digest" in item and hashlib.sha256(got).digest() != item["digest"]["value"]:
            raise ValueError("not the octets that were announced")
        return bytes(got)

    def scan(self, name: str, begin: int = 0) -> tuple[list[bytes], int]:
        answer = self.session.ask("scanlist", {"listname": name, "begintime": begin})
        return list(answer["messages"]), int(answer["endtime"])

    def close(self) -> None:
        self.session.sock.close()
