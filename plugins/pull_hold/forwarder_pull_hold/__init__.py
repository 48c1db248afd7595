"""Option 5: fetch the message and hold it; readers browse our store like a private list (protocol 5.5).

Each reader has keys of his own: linked for a role (the first un-pin removes the item), a view each for a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from forwarder.model import Route
from forwarder.plugin import (
    Case,
    Duration,
    Objection,
    Options,
    Plan,
    Ports,
    Pull,
    Refuse,
    Size,
    Strategy,
    StrategySpec,
    hookimpl,
)

NAME = "pull_hold"


class PullHoldOptions(Options):
    """The table [pull_hold] of an address file."""

    unpin_source: Literal["after_copy", "after_readers"] = Field(
        "after_copy", description="when the sender's store is told; after_copy: we hold it now"
    )
    max_size: Size = Field(30 << 20, description="larger messages are refused")
    keep: Duration | None = Field(None, description="how long an item is held; absent: [store] lifetime")


@dataclass(frozen=True, slots=True)
class PullHold:
    """Fetches what is not too large. A size that the notification does not tell is checked by the fetching."""

    fetch: Plan
    too_large: Plan
    max_size: int

    def plan(self, case: Case, /) -> Plan:
        size = case.notification.size
        return self.too_large if size is not None and size > self.max_size else self.fetch


def make(route: Route, options: PullHoldOptions, ports: Ports) -> Strategy:
    pull = Pull(
        readers=route.readers,
        linked=route.kind == "role",
        unpin=options.unpin_source,
        max_size=options.max_size,
        keep=options.keep,
    )
    refuse = Refuse(49, f"larger than the {options.max_size} octets taken here")
    return PullHold(
        fetch=Plan((pull,), note="fetched and held here for " + ", ".join(route.readers)),
        too_large=Plan((refuse,), note="too large to be fetched"),
        max_size=options.max_size,
    )


def objections(route: Route, options: PullHoldOptions) -> Sequence[Objection]:
    if not route.readers:
        return (Objection("readers", 'pull_hold needs readers, the accounts that browse it: readers = ["bob"]'),)
    if route.kind == "person" and len(route.readers) > 1:
        several = 'kind = "role" (the first un-pin removes the item) or kind = "group" (a view for each)'
        return (Objection("readers", f"a person is one reader; for several say {several}"),)
    if route.members == "frozen" and route.kind == "person" and "members" in route.lines:
        return (Objection("members", "what is held for a person stays his, there is nothing to freeze: leave it out"),)
    return ()


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[PullHoldOptions]]:
    return (StrategySpec(NAME, PullHoldOptions, make, objections),)
