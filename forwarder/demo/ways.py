"""The addresses that are tried, and what must become of a message to each (seed 7; protocol 5)."""

from __future__ import annotations

from typing import NamedTuple

POBOX = "pobox.example"
ISP = "isp.example"
STAFF = "staff.example"
ACME = "acme.example"


class Way(NamedTuple):
    """One address of the forwarder's domain, and the figures it must show."""

    local: str
    option: str
    says: tuple[str, ...]
    """KEY=VALUE of `forwarder add`."""
    readers: tuple[str, ...]
    forwarder: int
    """Notifications that reach the forwarder's RNASP."""
    recipients: int
    """Notifications that reach the recipients' agent."""
    fetched: int = 0
    """Bodies the forwarder fetches from the sender's store."""
    keeps: int = 0
    """Bodies the forwarder still holds when every reader has un-pinned."""

    @property
    def address(self) -> str:
        return f"{self.local}@{POBOX}"

    @property
    def role(self) -> bool:
        """Whether the first un-pin closes it for all."""
        return "kind=role" in self.says


BRIAN = f"to=brian@{ISP}"
BOTH = f"to=bob@{STAFF},freda@{STAFF}"

WAYS = (
    Way("subscribe", "1 subscribe", ("strategy=subscribe", "readers=brian"), ("brian",), 1, 0),
    Way("redirect", "2 redirect", ("strategy=redirect", BRIAN, "fallback=rewrite_resend"), ("brian",), 1, 1),
    Way("resend", "3 rewrite_resend", ("strategy=rewrite_resend", BRIAN), ("brian",), 1, 1),
    Way("repush", "4 pull_repush", ("strategy=pull_repush", BRIAN), ("brian",), 1, 1, fetched=1),
    Way("hold", "5 pull_hold", ("strategy=pull_hold", "readers=brian"), ("brian",), 1, 0, fetched=1, keeps=1),
    Way("dns", "6 dns_user_lookup", ("strategy=dns_user_lookup", BRIAN, "fallback=rewrite_resend"), ("brian",), 0, 1),
    Way("sales", "role, 3", ("kind=role", BOTH), ("bob", "freda"), 1, 2),
    Way("staff", "group, 2", ("strategy=redirect", "kind=group", BOTH, "fallback=pull_repush"), ("bob", "freda"), 1, 2),
)
