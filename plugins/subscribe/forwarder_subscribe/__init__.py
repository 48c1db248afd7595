"""Option 1: nothing is forwarded, the owner's reader polls our agent (protocol 5.1).

The notification becomes a row of the inbox; the message itself stays at the sender's store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forwarder.model import Route
from forwarder.plugin import Case, Deposit, Objection, Options, Plan, Ports, Strategy, StrategySpec, hookimpl

NAME = "subscribe"


class SubscribeOptions(Options):
    """No keys of its own: `readers` and `limits` are core keys."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Whatever comes is kept for the readers. The plan depends on the address alone, so it is made once."""

    always: Plan

    def plan(self, case: Case, /) -> Plan:
        return self.always


def make(route: Route, options: SubscribeOptions, ports: Ports) -> Strategy:
    return Subscribe(Plan((Deposit(route.readers),), note="kept here for " + ", ".join(route.readers)))


def objections(route: Route, options: SubscribeOptions) -> Sequence[Objection]:
    if not route.readers:
        return (Objection("readers", 'subscribe needs readers, the accounts that may read it: readers = ["brian"]'),)
    if route.kind == "group":
        instead = 'use "pull_hold" with the same readers, or "pull_repush"'
        return (Objection("kind", f"subscribe shows its readers one item, a group needs a key for each: {instead}"),)
    if route.kind == "person" and len(route.readers) > 1:
        roles = 'kind = "role" lets several readers see the same items until one clears'
        return (Objection("readers", f'a person is one reader: {roles}; for each his own, "pull_hold" and a group'),)
    if route.members == "frozen" and "members" in route.lines:
        nothing = "subscribe shows all that waits to whoever reads now, so there is nothing to freeze: leave it out"
        return (Objection("members", nothing),)
    return ()


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[SubscribeOptions]]:
    return (StrategySpec(NAME, SubscribeOptions, make, objections),)
