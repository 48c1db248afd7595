"""Option 4: fetch the message, keep it in our store, notify afresh from here (protocol 5.4).

Each target gets a key of our own: linked for a role (the first un-pin kills the others, and we know whose it was),
free for a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from forwarder.model import Route
from forwarder.plugin import Case, Objection, Options, Plan, Ports, Pull, Refuse, Size, Strategy, StrategySpec, hookimpl

NAME = "pull_repush"


class PullRepushOptions(Options):
    """The table [pull_repush] of an address file."""

    unpin_source: Literal["after_copy", "after_readers"] = Field(
        "after_readers", description="when the sender's store is told; after_readers: unsend keeps working"
    )
    max_size: Size = Field(30 << 20, description="larger messages are refused")


@dataclass(frozen=True, slots=True)
class PullRepush:
    """Fetches what is not too large. A size that the notification does not tell is checked by the fetching."""

    fetch: Plan
    too_large: Plan
    max_size: int

    def plan(self, case: Case, /) -> Plan:
        size = case.notification.size
        return self.too_large if size is not None and size > self.max_size else self.fetch


def make(route: Route, options: PullRepushOptions, ports: Ports) -> Strategy:
    pull = Pull(to=route.to, linked=route.kind == "role", unpin=options.unpin_source, max_size=options.max_size)
    refuse = Refuse(49, f"larger than the {options.max_size} octets taken here")
    return PullRepush(
        fetch=Plan((pull,), note=f"fetched into our store, notified afresh; the source is un-pinned {pull.unpin}"),
        too_large=Plan((refuse,), note="too large to be fetched"),
        max_size=options.max_size,
    )


def objections(route: Route, options: PullRepushOptions) -> Sequence[Objection]:
    if not route.to:
        return (Objection("to", 'pull_repush needs `to`, whom we notify afresh: to = ["agency@press.example"]'),)
    if route.kind == "person" and len(route.to) > 1:
        two = 'say kind = "group" (each has it) or kind = "role" (the first un-pin closes it for all)'
        return (Objection("to", f"a person is one target; for two mailboxes of one person {two}"),)
    if route.members == "frozen" and route.kind == "person" and "members" in route.lines:
        return (Objection("members", "what was copied for a person stays his, nothing is to be frozen: leave it out"),)
    return ()


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[PullRepushOptions]]:
    return (StrategySpec(NAME, PullRepushOptions, make, objections),)
