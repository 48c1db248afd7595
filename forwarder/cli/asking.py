"""What `check --network` finds: whether targets have agents now, and what the other side of a carrier says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import trio

from forwarder.cli.folder import Folder
from forwarder.config.check import Finding
from forwarder.config.doors import doors
from forwarder.config.lines import ConfigError, ConfigErrors, read
from forwarder.config.settings import FILE
from forwarder.config.sweep import sweep
from forwarder.model import AUTO, IM2000, Mailbox, Route
from forwarder.net.locate import Locator
from forwarder.ports import ByCarrier, NoService
from forwarder.reader.opening import locator

AT_ONCE = 100


class _Targets(NamedTuple):
    """Of one domain that others host. first: an entry that names it; minding: those that need an agent there."""

    first: Route
    minding: list[tuple[Route, Mailbox]]


def asked(folder: Folder) -> list[Finding]:
    """All of it, as the DNS and the peers are now: they may say otherwise tomorrow."""
    return trio.run(_asked, folder)


async def _asked(folder: Folder) -> list[Finding]:
    takes = {name: carrier.takes for name, carrier in folder.carriers.items()}
    names = locator(folder.settings.resolve, folder.settings.network, takes)
    found: list[Finding] = []
    gate = trio.CapacityLimiter(AT_ONCE)

    async def look(domain: str, targets: _Targets) -> None:
        async with gate:
            found.extend(await _reached(folder, names, domain, targets))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_carriers, folder, found)
        for domain, targets in _domains(folder).items():
            nursery.start_soon(look, domain, targets)
    return sorted(found)


def _domains(folder: Folder) -> dict[str, _Targets]:
    domains: dict[str, _Targets] = {}
    for route in sweep(folder.settings.folder, folder.settings, folder.plugins.strategies):
        if isinstance(route, ConfigError):
            continue
        minds = route.kind == "role" or _tells(folder, route)
        for target in route.to:
            if "{" not in target.domain and not folder.addresses.hosted(target.domain):
                targets = domains.setdefault(target.domain, _Targets(route, []))
                if minds:
                    targets.minding.append((route, target))
    return domains


def _tells(folder: Folder, route: Route) -> bool:
    spec = folder.plugins.strategies.get(route.strategy)
    return spec is not None and spec.tells


async def _reached(folder: Folder, names: Locator, domain: str, targets: _Targets) -> list[Finding]:
    found: list[Finding] = []
    carrier = ""
    try:
        await names.find(domain, "rnasp")
    except ByCarrier as error:
        carrier = error.carrier
    except NoService as error:
        found.append(_at(targets.first, "warning", f"{domain}: {error.kind}: {error}"))
    for route, target in targets.minding:
        via = route.via.get(target, AUTO)
        by = carrier if via == AUTO else "" if via == IM2000 else via
        if by:
            found.extend(_without_agent(folder, route, target, by))
    return found


def _without_agent(folder: Folder, route: Route, target: Mailbox, by: str) -> Iterator[Finding]:
    reached = f"{target} is reached by {by.upper()}"
    if _tells(folder, route):
        yield _at(route, "error", f"{reached}: senders that {route.strategy} sends there would find no agent")
    elif route.kind == "role":
        yield _at(route, "warning", f"{reached} and cannot close the item")


def _at(route: Route, level: Literal["error", "warning"], text: str) -> Finding:
    return Finding(level, route.file, route.lines.get("to", route.line), "to", text)


async def _carriers(folder: Folder, found: list[Finding]) -> None:
    try:
        offered = doors(folder.settings, None, folder.plugins.carriers).carriers
    except ConfigErrors:  # told already, without the network
        return
    for spec, options in offered:
        objections = await spec.ask(options, folder.settings.node.name)
        document = read(folder.settings.folder / FILE, folder.settings.folder)
        errors = [document.error((spec.table, *said.key.split(".")), said.text) for said in objections]
        found.extend(Finding("warning", e.file, e.line, e.key, e.text) for e in errors)
