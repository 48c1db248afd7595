"""Option 6: senders that ask the DNS for each user never meet us (protocol 5.0 "User-level DNS", 5.6).

All this strategy does is publish: one TXT record for each target. Whoever notifies us all the same did not ask, so the
address's fallback acts for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field

from forwarder.model import Route, format_user_record, user_label, user_record_line
from forwarder.plugin import Case, Decline, Duration, Objection, Options, Plan, Ports, Strategy, StrategySpec, hookimpl

NAME = "dns_user_lookup"
MOST = 10  # records of one owner (5.0)
DECLINERS = ("redirect", "dns_user_lookup")  # what does not act for a store of 2004 either
DECLINED = Plan((Decline("senders that ask the DNS for each user go to the target themselves; this one did not"),))


class DnsUserLookupOptions(Options):
    """The table [dns_user_lookup] of an address file."""

    ttl: Duration | None = Field(None, description="of the records; absent: the domain's")


@dataclass(frozen=True, slots=True)
class DnsUserLookup:
    """Always declines: the deed is in the zone."""

    def plan(self, case: Case, /) -> Plan:
        return DECLINED


def make(route: Route, options: DnsUserLookupOptions, ports: Ports) -> Strategy:
    return DnsUserLookup()


def objections(route: Route, options: DnsUserLookupOptions) -> Sequence[Objection]:
    found: list[Objection] = []
    if not route.to:
        found.append(Objection("to", 'dns_user_lookup needs `to`, what it publishes: to = ["anna@isp.example"]'))
    if route.kind == "role":
        instead = 'use "rewrite_resend" or "pull_repush"'
        found.append(Objection("kind", f"the sender's store makes a key for each, a role needs one: {instead}"))
    if route.kind == "person" and len(route.to) > 1:
        two = 'for two mailboxes of one person say kind = "group" (each has it) or "role" with rewrite_resend'
        found.append(Objection("to", f"a person is one target: {two} (the first un-pin closes it)"))
    if len(route.to) > MOST:
        found.append(Objection("to", f"{len(route.to)} targets, the DNS publishes at most {MOST}"))
    if route.members == "frozen" and "members" in route.lines:
        found.append(Objection("members", "it tells stores where to go and keeps nothing to freeze: leave it out"))
    return (*found, *_fallback_objections(route))


def _fallback_objections(route: Route) -> Sequence[Objection]:
    acts = '"pull_repush"' if route.kind == "group" else '"rewrite_resend"'
    if route.fallback is None:
        text = f"dns_user_lookup needs a fallback for stores that never ask: fallback = {acts}"
    elif route.fallback in DECLINERS:
        text = f"{route.fallback} declines stores of 2004 as well, so it is no fallback: fallback = {acts}"
    else:
        return ()
    return (Objection("fallback", text),)


def records(route: Route, options: DnsUserLookupOptions) -> Sequence[str]:
    """Zone lines. The names a pattern matches cannot be published one by one: their senders get the fallback."""
    if route.state != "on" or route.matched == "pattern":
        return ()
    label = "*" if route.matched == "catch_all" else user_label(route.address.localpart)
    ttl = None if options.ttl is None else options.ttl // timedelta(seconds=1)
    grouped = route.kind == "group"
    texts = [format_user_record(to, group=number if grouped else 0) for number, to in enumerate(route.to, 1)]
    return tuple(user_record_line(label, text, ttl) for text in texts)


@hookimpl
def forwarder_strategies() -> Sequence[StrategySpec[DnsUserLookupOptions]]:
    return (StrategySpec(NAME, DnsUserLookupOptions, make, objections, records, tells=True),)
