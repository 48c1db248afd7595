"""What is measured: the nodes' own counters, and what the sender's store says of each message it sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from forwarder.cli.errors import No
from forwarder.demo.shell import Shell, until
from forwarder.demo.world import FORWARDER, RECIPIENTS, SENDER

SETTLE_SECONDS = 15.0


class Figures(NamedTuple):
    """Counts since the nodes started."""

    packets: int
    """PDUs at the forwarder's RNASP, whatever was in them."""
    forwarder: int
    """Notifications that reached the forwarder."""
    recipients: int
    """Notifications that reached the recipients' agent."""
    from_sender: int
    """Whole bodies that the sender's store served."""
    from_forwarder: int
    """Whole bodies that the forwarder served to readers."""
    kept: int
    """Bodies that the forwarder holds."""

    def since(self, before: Figures) -> Figures:
        return Figures(*(now - then for now, then in zip(self, before, strict=True)))


class Meters:
    """Reads them, by verbs."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def read(self) -> Figures:
        sender, forwarder, recipients = map(self._status, (SENDER, FORWARDER, RECIPIENTS))
        return Figures(
            packets=forwarder["commands"]["rnasp"],
            forwarder=forwarder["notifications"]["received"],
            recipients=recipients["notifications"]["received"],
            from_sender=sum(sender["store"]["bodies served"].values()),
            from_forwarder=sum(forwarder["store"]["bodies served"].values()),
            kept=forwarder["kept"]["messages"],
        )

    def kept_by_sender(self) -> int:
        """Bodies that the sender's store holds."""
        return int(self._status(SENDER)["kept"]["messages"])

    def settle(self, before: Figures, expected: Figures) -> Figures:
        """What has changed since `before`: as soon as it is what is expected, else what it is after a while."""
        found = [self.read().since(before)]

        def as_expected() -> bool:
            found[0] = self.read().since(before)
            return found[0] == expected

        until(as_expected, SETTLE_SECONDS)
        return found[0]

    def sent(self, true: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Mapping[str, Any]]:
        """What the sender's store says, by recipient, once `true` of each; else what it says after a while."""
        rows: dict[str, Mapping[str, Any]] = {}

        def all_true() -> bool:
            said = self._shell.watch("sent", "--me", "alice.toml", "--json") or []
            rows.update({row["to"]: row for row in said})
            return bool(rows) and all(map(true, rows.values()))

        until(all_true, SETTLE_SECONDS)
        return rows

    def _status(self, node: str) -> Mapping[str, Any]:
        said: Mapping[str, Any] | None = self._shell.watch("status", "--config", node, "--json")
        if said is None:
            raise No(f"forwarder demo: the node in {node} does not answer any more")
        return said
