"""The installed strategies, guarded: what a plugin does wrong is its own addresses' harm alone."""

from __future__ import annotations

from typing import Protocol

from forwarder.model import Route
from forwarder.plugin import Again, Case, Plan, Strategy, Work


class Strategies(Protocol):
    """The installed strategies; what a plugin does wrong ends here as a Defer."""

    def make(self, name: str, route: Route) -> Strategy:
        """The strategy of this name for a route. Raises KeyError where it is not installed (or failed to load)."""
        ...

    def plan(self, strategy: Strategy, case: Case) -> Plan: ...

    async def work(self, strategy: Strategy, case: Case, work: Work) -> Plan | Again | None:
        """Raises PeerError for whatever went wrong."""
        ...
