"""What `check` finds: in the files, in the plugins, and with --network at the targets' domains."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import trio

from forwarder.cli.errors import one_line
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_json
from forwarder.config.check import Finding, check
from forwarder.config.doors import doors
from forwarder.config.lines import ConfigError, ConfigErrors
from forwarder.config.settings import find_folder, load_settings
from forwarder.config.sweep import sweep
from forwarder.model import Route
from forwarder.net.locate import Locator
from forwarder.plugins import load
from forwarder.ports import NoService
from forwarder.reader.opening import locator


def findings(config: str | None, *, network: bool) -> list[Finding]:
    """All of them. Raises ConfigErrors only where there is no folder to check."""
    at = find_folder(config)
    try:
        settings = load_settings(at)
    except ConfigErrors:
        return check(at, load().strategies)
    folder = Folder(settings)
    problems = [Finding("error", f"plugin {each.plugin}", 0, "", each.text) for each in folder.plugins.problems]
    found = problems + check(at, folder.plugins.strategies) + _doors(folder)
    if network:
        found += trio.run(_unreachable, locator(settings.resolve, settings.network), _targets(folder))
    return found


def _doors(folder: Folder) -> list[Finding]:
    """What is wrong with the tables of services and carriers."""
    try:
        doors(folder.settings, folder.plugins.services, folder.plugins.carriers)
    except ConfigErrors as errors:
        return [Finding("error", e.file, e.line, e.key, e.text) for e in errors.errors]
    return []


def print_findings(found: Sequence[Finding], json: bool) -> None:
    if json:
        print_json([finding._asdict() for finding in found])
        return
    for finding in found:
        print(one_line(str(finding)), file=sys.stderr)


def _targets(folder: Folder) -> dict[str, Route]:
    """The domains of targets that others host, each with the first entry that names it."""
    domains: dict[str, Route] = {}
    for route in sweep(folder.settings.folder, folder.settings, folder.plugins.strategies):
        if not isinstance(route, ConfigError):
            for target in route.to:
                if "{" not in target.domain and not folder.addresses.hosted(target.domain):
                    domains.setdefault(target.domain, route)
    return domains


async def _unreachable(names: Locator, domains: dict[str, Route]) -> list[Finding]:
    """A warning for each domain whose agent cannot be located now: the DNS may say otherwise tomorrow."""
    found: list[Finding] = []
    gate = trio.CapacityLimiter(100)

    async def look(domain: str, route: Route) -> None:
        async with gate:
            try:
                await names.find(domain, "rnasp")
            except NoService as error:
                text = f"{domain}: {error.kind}: {error}"
                found.append(Finding("warning", route.file, route.lines.get("to", route.line), "to", text))

    async with trio.open_nursery() as nursery:
        for domain, route in domains.items():
            nursery.start_soon(look, domain, route)
    return sorted(found)
