"""What `why` prints: the decision that the daemon would perform, made by the same rooms out of the same files."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import trio

from forwarder.agent.decide import Decider
from forwarder.agent.explain import Explained, Explainer, Explanation, too_big
from forwarder.agent.repeats import hops_of
from forwarder.agent.routes import Leg, Routes
from forwarder.cli.errors import No, Wrong
from forwarder.cli.folder import Folder, an_address, open_folder
from forwarder.cli.output import print_facts, print_json, print_line, size_of
from forwarder.daemon.strategies import InstalledStrategies
from forwarder.model import IM2000, Mailbox, Notification, Outcome, Route, ServiceLocation, parse_domain, parse_size
from forwarder.plugin import Deposit, PeerError, Pull, Resend, Step, Tell, Work
from forwarder.ports import Broken, ByCarrier, Nobody, NoService
from forwarder.reader.opening import locator
from forwarder.wire.outcome import TEXTS

LOCATE_SECONDS = 10.0
NOWHERE = "`why` connects nowhere"
STORES = {"today": "a store of today", "2004": "a store of 2004"}


class Question(NamedTuple):
    """The verb's words."""

    address: str
    sender: str
    size: str
    at: str


def print_explanation(question: Question, config: str | None, json: bool) -> int:
    notification, at = _notification(question), _time(question.at)
    folder = open_folder(config)
    found, places = trio.run(_explain, folder, notification, at)
    row = _row(folder, notification, found, places)
    if json:
        print_json(row)
    else:
        print_line(str(notification.recipient))
        print_facts({f"  {name}": value for name, value in _facts(row).items()})
    return 0 if found.route is not None else 1


def _notification(question: Question) -> Notification:
    sender, _, store = (question.sender or "somebody@store.invalid").rpartition("@")
    try:
        size = parse_size(question.size) if question.size else None
        location = ServiceLocation(parse_domain(store))
    except ValueError as error:
        raise Wrong(f"forwarder: {error}") from None
    if not sender:
        raise Wrong(f"forwarder: --from {question.sender!r}: expected SENDER@STORE")
    return Notification(location, None, an_address(question.address), bytes(16), sender, size)


def _time(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(f"forwarder: --at {text!r}: expected a time such as 2027-01-31T09:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def _explain(folder: Folder, notification: Notification, at: datetime) -> tuple[Explanation, dict[str, str]]:
    memories = _Memories(folder)
    strategies = InstalledStrategies(folder.plugins, _NoSource(), _no_connection, _NoTexts(), time.time)
    settings = folder.settings
    routes = Routes(
        folder.addresses,
        strategies,
        memories,
        name=settings.node.name,
        mark=lambda mailbox: b"",
        depth=settings.limits.depth,
        targets=settings.limits.targets,
    )
    found = await Explainer(routes, Decider(routes, strategies)).explain(notification, at)
    legs = [leg for store in found.stores for e in store.expansions.values() for leg in e.legs if not leg.leaf]
    by_name = {leg.via: _carrier(folder, leg.via) for leg in legs if leg.carried}
    domains = {leg.mailbox.domain for leg in legs if not leg.via}
    agents_only = await _places(folder, {leg.mailbox.domain for leg in legs if leg.via == IM2000}, carriers=False)
    by_agent = {f"{IM2000} {domain}": where for domain, where in agents_only.items()}
    return found, {**await _places(folder, domains, carriers=True), **by_agent, **by_name}


def _carrier(folder: Folder, via: str) -> str:
    """A way that its file asks for by name."""
    carrier = folder.carriers.get(via)
    return f"{via} by {carrier.way} (via)" if carrier else f"no carrier {via} is configured: it waits"


async def _places(folder: Folder, domains: set[str], *, carriers: bool) -> dict[str, str]:
    """For each domain its agent, else who carries to it, or what stands in the way."""
    takes = {name: carrier.takes for name, carrier in folder.carriers.items()} if carriers else {}
    names = locator(folder.settings.resolve, folder.settings.network, takes)
    places: dict[str, str] = {}

    async def look(domain: str) -> None:
        try:
            with trio.fail_after(LOCATE_SECONDS):
                agent = await names.find(domain, "rnasp")
            places[domain] = f"agent {agent.endpoints[0]}"
        except ByCarrier as error:
            places[domain] = f"{error.carrier} by {folder.carriers[error.carrier].way} (no IM2000 service: {error})"
        except NoService as error:
            places[domain] = f"no agent to be found now ({error.kind}: {error})"
        except trio.TooSlowError:
            places[domain] = "no agent to be found now (the DNS does not answer)"

    async with trio.open_nursery() as nursery:
        for domain in domains:
            nursery.start_soon(look, domain)
    return places


# -- as JSON


def _row(folder: Folder, notification: Notification, found: Explanation, places: Mapping[str, str]) -> dict[str, Any]:
    route = found.route
    return {
        "address": str(notification.recipient),
        "entry": None if route is None else {"name": route.entry, "file": route.file, "line": route.line},
        "matched": route.matched if route else None,
        "tag": route.tag or None if route else None,
        "shadowed": _shadowed(folder, notification.recipient, route),
        "strategy": route.strategy if route else None,
        "kind": route.kind if route else None,
        "nobody": None if route or isinstance(found.answer, Broken) else _nobody(found),
        "broken": _broken(found.answer) if isinstance(found.answer, Broken) else None,
        "stores": {store.peer: _store(store, notification, places) for store in found.stores},
    }


def _nobody(found: Explanation) -> str:
    answer = found.answer
    if isinstance(answer, Nobody):
        return "no such mailbox" if answer.tell else "no such mailbox; strangers are not told (unknown = accept)"
    return "not a domain of ours"


def _broken(answer: Broken) -> str:
    place = f"{answer.file}:{answer.line}" if answer.line else answer.file
    return f"{place}: {answer.text}"


def _shadowed(folder: Folder, mailbox: Mailbox, route: Route | None) -> list[dict[str, Any]]:
    """What would act, one after the other, were the winner not there."""
    if route is None:
        return []
    others = folder.addresses.contenders(mailbox)[1:]
    return [{"name": o.entry, "file": o.file, "line": o.line, "matched": o.matched} for o in others]


def _store(store: Explained, notification: Notification, places: Mapping[str, str]) -> dict[str, Any]:
    if store.decision is None:
        assert store.outcome is not None
        return {"code": store.outcome.code, "text": _meaning(store.outcome), "targets": []}
    plan, expansions = store.decision.plan, store.expansions
    refusals = [e.refusal for e in expansions.values() if e.refusal is not None]
    too_large = [f"over max_size {size_of(step.max_size)}: refused (49)" for step in too_big(plan, notification.size)]
    return {
        "strategy": store.decision.strategy,
        "declined": store.decision.declined or None,
        "note": plan.note or None,
        "steps": [_step(step) for step in plan.steps],
        "targets": [_leg(leg, places) for e in expansions.values() for leg in e.legs],
        "in_the_way": [_meaning(refusal) for refusal in refusals] + too_large,
        "hops": hops_of(notification) + 1,
    }


def _leg(leg: Leg, places: Mapping[str, str]) -> dict[str, Any]:
    paths = [[str(mailbox) for mailbox in path] for path in leg.paths if path]
    way = f"{IM2000} {leg.mailbox.domain}" if leg.via == IM2000 else leg.via or leg.mailbox.domain
    where = "hosted here, its own strategy acts" if leg.leaf else places.get(way, "")
    return {"address": str(leg.mailbox), "where": where, "direct": () in leg.paths, "by": paths}


def _step(step: Step) -> str:
    """A step in words."""
    if isinstance(step, Resend):
        how = ", stateless" if step.stateless else ", sticky" if step.sticky else ""
        return f"resend to {_list(step.to)}{how}"
    if isinstance(step, Deposit):
        return f"kept here for {', '.join(step.readers)}"
    if isinstance(step, Pull):
        whose = f"notify {_list(step.to)} afresh" if step.to else f"hold for {', '.join(step.readers)}"
        shared = ", one item for all" if step.linked else ""
        return f"fetch (at most {size_of(step.max_size)}), {whose}{shared}, un-pin the sender's {step.unpin}"
    if isinstance(step, Tell):
        return f'answer "not here, notify {_list(step.to)}"{" for good" if step.permanent else ""}'
    if isinstance(step, Work):
        may = "; ".join(_step(inner) for inner in step.may) or "nothing"
        return f"work {step.name!r}, which may lead to: {may}"
    return _alone(step)


def _alone(step: Step) -> str:
    code = getattr(step, "code", None)
    return f"{type(step).__name__.lower()} ({code}: {TEXTS.get(code, '')})" if code else str(step)


def _list(to: tuple[Mailbox, ...]) -> str:
    return ", ".join(str(mailbox) for mailbox in to)


def _meaning(outcome: Outcome) -> str:
    return f"{outcome.code} {outcome.text or TEXTS.get(outcome.code, 'taken')}"


# -- for people


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if row["entry"]:
        tag = f'  tag "{row["tag"]}" ignored' if row["tag"] else ""
        facts["entry"] = f"{row['entry']['file']}:{row['entry']['line']}{tag}"
        facts["shadowed"] = [f"{other['file']}:{other['line']} {other['matched']}" for other in row["shadowed"]] or None
        facts["strategy"] = f"{row['strategy']} ({_kind(row)})"
    else:
        word = "broken" if row["broken"] else "nobody"
        facts[word] = row[word]
    today, old = row["stores"]["today"], row["stores"]["2004"]
    alike = {**today, "hops": 0} == {**old, "hops": 0}
    for name, store in (("today", today), ("2004", old))[: 1 if alike else 2]:
        facts["any store" if alike else STORES[name]] = list(_lines(store))
    return facts


def _kind(row: Mapping[str, Any]) -> str:
    words = {
        "person": "person",
        "role": "role: the first un-pin closes it for all",
        "group": "group: everyone has his own",
    }
    return words[row["kind"]]


def _lines(store: Mapping[str, Any]) -> Iterator[str]:
    if "code" in store:
        yield f"is answered {store['text']}"
        return
    if store["declined"]:
        yield f"{store['declined']}: the fallback {store['strategy']} acts"
    yield from store["steps"]
    width = max((len(target["address"]) for target in store["targets"]), default=0)
    for target in store["targets"]:
        yield f"-> {target['address']:{width}}  {target['where']}{_by(target)}"
    if store["targets"]:
        yield f"= {len(store['targets'])} target{'s' if len(store['targets']) > 1 else ''}"
    yield from (f"in the way: {text}" for text in store["in_the_way"])
    if store["note"]:
        yield f"({store['note']})"


def _by(target: Mapping[str, Any]) -> str:
    """By which hosted addresses it is reached, and that it is sent once all the same."""
    ways = [" -> ".join(path) for path in target["by"]]
    if not ways:
        return ""
    also = "also " if target["direct"] else ""
    once = ", sent once" if target["direct"] or len(ways) > 1 else ""
    return f"  {also}by {' and by '.join(ways)}{once}"


# -- what the rooms ask for


class _Memories:
    """The strategies' memory, of the running daemon; none where none runs."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def memory(self, entry: str, strategy: str) -> Mapping[str, bytes]:
        try:
            said = self._folder.ask("memory", entry=entry, strategy=strategy)["memory"]
        except No:
            return {}
        return {key: base64.b64decode(value) for key, value in said.items()}


class _NoSource:
    """plugin.Source of a verb that sends nothing."""

    async def still_there(self, notification: Notification, /) -> bool:
        raise PeerError(NOWHERE)

    async def head(self, notification: Notification, /, limit: int = 65536) -> bytes:
        raise PeerError(NOWHERE)

    def body(self, notification: Notification, /, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise PeerError(NOWHERE)


class _NoTexts:
    """plugin.Texts of a verb that asks the DNS for agents only."""

    def known(self, name: str, /) -> tuple[str, ...] | None:
        return None

    async def find(self, name: str, /) -> tuple[str, ...]:
        raise PeerError(NOWHERE)


async def _no_connection(host: str, port: int) -> trio.SocketStream:
    raise PeerError(NOWHERE)
