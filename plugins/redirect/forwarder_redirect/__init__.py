"""Option 2: "not here, notify these instead" (protocol 5.2).

The sender's store makes a key of its own for each target, so tracking and unsend keep working and nothing passes
through us again. Only stores that say `redirect` understand; for all others the address's fallback acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from forwarder.model import Route
from forwarder.plugin import (
    Case,
    Decline,
    Duration,
    Objection,
    Options,
    Plan,
    Ports,
    Strategy,
    StrategySpec,
    Tell,
    hookimpl,
)

NAME = "redirect"
MOST = 10  # targets of one answer (5.2)
DECLINERS = ("redirect", "dns_user_lookup")  # what cannot stand in for itself: a fallback must act
LEGACY = Plan((Decline("the sender's store knows no redirect"),), note="a store of 2004 gets the fallback")
INNER = Plan((Decline("handed on inside this forwarder, there is no store to tell"),), note="here: the fallback")


def _a_week_at_most(ttl: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= ttl <= timedelta(days=7):
        raise ValueError('at most "7d": senders must ask again within a week')
    return ttl


def _token(token: str) -> str:
    if len(token.encode()) > 64:
        raise ValueError("a token has at most 64 octets")
    return token


class RedirectOptions(Options):
    """The table [redirect] of an address file."""

    scope: Literal["once", "permanent"] = Field("once", description='"permanent" may be cached by the sender for ttl')
    ttl: Annotated[Duration, AfterValidator(_a_week_at_most)] = Field(
        timedelta(days=7), description='how long "permanent" may be trusted, at most "7d"'
    )
    tokens: Annotated[list[Annotated[str, AfterValidator(_token)]], Field(max_length=MOST)] = Field(
        [], description='what each target issued, in the order of `to`; "" for one that issued none'
    )
    tell_smtp: bool = Field(False, description="tell the new address to SMTP senders too (551)")


@dataclass(frozen=True, slots=True)
class Redirect:
    """Tells those who listen, declines for the rest."""

    told: Plan

    def plan(self, case: Case, /) -> Plan:
        if case.peer.inner:
            return INNER
        return self.told if "redirect" in case.peer.features else LEGACY


def make(route: Route, options: RedirectOptions, ports: Ports) -> Strategy:
    permanent = options.scope == "permanent"
    tokens = tuple(token.encode() for token in options.tokens)
    tell = Tell(route.to, permanent, options.ttl if permanent else None, tokens)
    return Redirect(Plan((tell,), note=f"the sender's store is told ({options.scope})"))


def objections(route: Route, options: RedirectOptions) -> Sequence[Objection]:
    found: list[Objection] = []
    if not route.to:
        found.append(Objection("to", 'redirect needs `to`, where senders shall go: to = ["brian@isp.example"]'))
    if route.kind == "role":
        instead = 'use "rewrite_resend" or "pull_repush"'
        found.append(Objection("kind", f"the sender's store gives each target a key, a role needs one: {instead}"))
    if route.kind == "person" and len(route.to) > 1:
        two = 'for two mailboxes of one person say kind = "group" (each has it) or "role" with rewrite_resend'
        found.append(Objection("to", f"a person is one target: {two} (the first un-pin closes it)"))
    if len(route.to) > MOST:
        found.append(Objection("to", f"{len(route.to)} targets, a redirect has at most {MOST}"))
    if options.tokens and len(options.tokens) != len(route.to):
        found.append(
            Objection("redirect.tokens", f"{len(options.tokens)} tokens for {len(route.to)} targets: one each")
        )
    if route.members == "frozen" and "members" in route.lines:
        found.append(Objection("members", "it tells stores where to go and keeps nothing to freeze: leave it out"))
    return (*found, *_fallback_objections(route))


def _fallback_objections(route: Route) -> Sequence[Objection]:
    acts = '"pull_repush"' if route.kind == "group" else '"rewrite_resend"'
    if route.fallback is None:
        text = f"redirect needs a fallback for stores that know no redirect: fallback = {acts}"
    elif route.fallback in DECLINERS:
        text = f"{route.fallback} declines the same senders, so it is no fallback: fallback = {acts}"
    else:
        return ()
    return (Objection("fallback", text),)


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[RedirectOptions]]:
    return (StrategySpec(NAME, RedirectOptions, make, objections, tells=True),)
