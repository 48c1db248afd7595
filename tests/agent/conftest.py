from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from forwarder.model import Route
from forwarder.plugin import Decline, Defer, Deposit, Plan, Pull, Resend, Strategy, Tell

from .world import World, build


class Says:
    """A strategy that always gives the same plan."""

    def __init__(self, plan: Plan) -> None:
        self.answer = plan

    def plan(self, case: object, /) -> Plan:
        return self.answer


MAKERS: dict[str, Callable[[Route], Strategy]] = {
    "rewrite_resend": lambda route: Says(Plan((Resend(route.to),))),
    "stateless": lambda route: Says(Plan((Resend(route.to, stateless=True),))),
    "chains": lambda route: Says(Plan((Resend(route.to, chains=True),))),
    "redirect": lambda route: Says(Plan((Tell(route.to, permanent=True),))),
    "subscribe": lambda route: Says(Plan((Deposit(route.readers),))),
    "keep_and_tell": lambda route: Says(Plan((Deposit(route.readers), Tell(route.to)))),
    "both": lambda route: Says(Plan((Deposit(route.readers), Resend(route.to)))),
    "pull": lambda route: Says(Plan((Pull(to=route.to),))),
    "declines": lambda route: Says(Plan((Decline("not me"),))),
    "defers": lambda route: Says(Plan((Defer(),))),
}


@pytest.fixture
def world(nursery: trio.Nursery) -> World:
    return build(nursery, dict(MAKERS))
