"""Option 3: change the recipient, pass the notification on, keep nothing (protocol 5.3).

All targets share the sender's one key, so several targets are a role: the first un-pin closes it for all. What is owed
to each of several targets is kept until taken, unless `stateless` asks for the bare form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from forwarder.model import Route
from forwarder.plugin import Case, Objection, Options, Plan, Ports, Resend, Strategy, StrategySpec, hookimpl

NAME = "rewrite_resend"


class RewriteResendOptions(Options):
    """The table [rewrite_resend] of an address file."""

    stateless: bool = Field(False, description="a role without a queue here: any failing target means come again")
    chains: bool = Field(False, description="follow a target's own redirect, one more hop")


@dataclass(frozen=True, slots=True)
class RewriteResend:
    """The same notification to the same targets, always. The plan depends on the address alone: made once."""

    always: Plan

    def plan(self, case: Case, /) -> Plan:
        return self.always


def make(route: Route, options: RewriteResendOptions, ports: Ports) -> Strategy:
    resend = Resend(route.to, stateless=options.stateless, chains=options.chains)
    return RewriteResend(Plan((resend,), note="passed on with the sender's own key"))


def objections(route: Route, options: RewriteResendOptions) -> Sequence[Objection]:
    if not route.to:
        return (Objection("to", 'rewrite_resend needs `to`, where it goes: to = ["brian@isp.example"]'),)
    if route.kind == "group":
        each = 'use "pull_repush" (or "redirect" with that as its fallback): each has a key; or kind = "role"'
        return (Objection("kind", f"one shared key would delete for all of the group: {each}"),)
    if route.kind == "person" and len(route.to) > 1:
        two = 'say kind = "role" (the first un-pin closes it for all)'
        each = 'kind = "group" with strategy = "pull_repush" (each has it)'
        return (Objection("to", f"a person is one target; for two mailboxes of one person {two}, or {each}"),)
    if options.stateless and route.members == "frozen" and "members" in route.lines:
        return (
            Objection("members", "stateless keeps nothing to freeze, repeats go to who is there then: leave it out"),
        )
    return ()


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[RewriteResendOptions]]:
    return (StrategySpec(NAME, RewriteResendOptions, make, objections),)
