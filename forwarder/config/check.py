"""Reads everything, offline, and says all that is wrong at once: what `forwarder check` prints.

Errors are what a look-up would stumble on or a promise that cannot be kept: mistakes in files, ties, cycles, targets
here that nobody has, readers without an account. Warnings: what is never used (leftovers, odd names, the shadowed).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from forwarder.config.accounts import compile_account
from forwarder.config.addresses import AddressFiles
from forwarder.config.certificates import errors_and_warnings
from forwarder.config.domains import Domain, compile_domain, domain_name, ties
from forwarder.config.entries import DEFAULT_STRATEGY, Specs
from forwarder.config.globs import groups_in
from forwarder.config.keys import SigningKeys
from forwarder.config.lines import ConfigError, ConfigErrors, inside, read
from forwarder.config.names import ACCOUNTS, ADDRESSES, DOMAINS, SUFFIX, file_name, is_leftover, localpart_of
from forwarder.config.reading import Hosts, Reader
from forwarder.config.settings import Node, Settings, load_settings
from forwarder.config.sweep import address_paths, sweep_domain
from forwarder.config.tables import is_account_name
from forwarder.model import AUTO, IM2000, Mailbox, Route
from forwarder.ports import Broken, Found, Nobody

README = "README.md"
NO_NAME = "unknown.invalid"


class Finding(NamedTuple):
    """One thing found. line 0: the file as a whole."""

    level: Literal["error", "warning"]
    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        said = str(ConfigError(self.file, self.line, self.key, self.text))
        return said if self.level == "error" else f"{said} (warning)"


def check(folder: Path, specs: Specs, carriers: Collection[str] | None = None) -> list[Finding]:
    """All findings, by file and line; a broken node file hides no other's mistakes. Blocking; reads every file.

    carriers: those that are configured, None if that is not known.
    """
    folder = folder.absolute()
    found: list[Finding] = []
    try:
        settings = load_settings(folder)
    except ConfigErrors as errors:
        found += map(_error, errors.errors)
        settings = Settings(node=Node(name=NO_NAME))
    found += _Checker(folder, settings, specs, carriers).findings()
    return sorted(set(found), key=lambda finding: finding[1:])


def is_plain(route: Route) -> bool:
    """A plain forward that is on: the only kind of entry that is expanded in place (operator 2)."""
    return route.strategy == DEFAULT_STRATEGY and route.state == "on"


class _Checker:
    def __init__(self, folder: Path, settings: Settings, specs: Specs, carriers: Collection[str] | None) -> None:
        self._carriers = carriers
        self._folder = folder
        self._settings = settings
        self._reader = Reader(folder, settings, specs)
        self._addresses = AddressFiles(folder, settings, specs, time.monotonic)
        self._accounts: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        for name, error in self._read_accounts():
            self._accounts.add(name)
            if error is not None:
                yield from map(_error, error.errors)
        yield from self._names(DOMAINS, lambda name: domain_name(Path(name)) is not None)
        yield from self._names(ACCOUNTS, _is_account_file)
        hosts = self._reader.hosts(Hosts({}))
        yield from self._tls(hosts.by_name)
        yield from map(_error, SigningKeys(self._folder).errors)
        yield from self._folders(hosts.by_name)
        for host in hosts.by_name.values():
            if host.domain is not None:
                yield from self._domain(host.domain)
            else:
                yield from self._broken_domain(host.name)

    # -- the folder

    def _tls(self, hosted: Collection[str]) -> Iterator[Finding]:
        for fatal, said in errors_and_warnings(self._settings, hosted):
            yield _error(said) if fatal else _warning(said.file, said.text, said.line, said.key)

    def _read_accounts(self) -> Iterator[tuple[str, ConfigErrors | None]]:
        """Every account there is, and what is wrong with its file."""
        for path in address_paths(self._folder / ACCOUNTS):
            if is_leftover(path.name) or not _is_account_file(path.name):
                continue
            try:
                compile_account(read(path, self._folder))
                yield path.name.removesuffix(SUFFIX), None
            except ConfigErrors as found:
                yield path.name.removesuffix(SUFFIX), found
            except OSError as error:
                said = ConfigError(inside(path, self._folder), 0, "", f"cannot be read: {error.strerror}")
                yield path.name.removesuffix(SUFFIX), ConfigErrors([said])

    def _names(self, folder: str, fits: Callable[[str], bool]) -> Iterator[Finding]:
        for path in address_paths(self._folder / folder):
            if is_leftover(path.name):
                yield _warning(inside(path, self._folder), "an editor's leftover, ignored")
            elif path.name != README and not fits(path.name):
                yield _warning(inside(path, self._folder), f"is no name of one of the {folder}, ignored")

    def _folders(self, hosted: Collection[str]) -> Iterator[Finding]:
        for path in address_paths(self._folder / ADDRESSES):
            file = inside(path, self._folder)
            if is_leftover(path.name):
                yield _warning(file, "an editor's leftover, ignored")
            elif path.name in hosted:
                yield from self._address_names(path)
            elif path.name != README:
                yield _warning(file, f"is ignored: there is no {DOMAINS}/{path.name}{SUFFIX}")

    def _address_names(self, folder: Path) -> Iterator[Finding]:
        for path in address_paths(folder):
            file = inside(path, self._folder)
            if is_leftover(path.name):
                yield _warning(file, "an editor's leftover, ignored")
            elif localpart_of(path.name) is None:
                wanted = file_name(path.name.removesuffix(SUFFIX))
                hint = f'; expected "{wanted}"' if wanted and wanted != path.name else ""
                yield _warning(file, f"is no name of an address file, ignored{hint}")

    # -- domains and entries

    def _broken_domain(self, name: str) -> Iterator[Finding]:
        """All mistakes of a domain file: a look-up only tells the first."""
        path = self._folder / DOMAINS / f"{name}{SUFFIX}"
        try:
            compile_domain(read(path, self._folder), name, self._reader.specs, self._settings.limits)
        except ConfigErrors as found:
            yield from map(_error, found.errors)
        except OSError as error:
            yield _error(ConfigError(inside(path, self._folder), 0, "", f"cannot be read: {error.strerror}"))

    def _domain(self, domain: Domain) -> Iterator[Finding]:
        yield from map(_error, ties(domain))
        yield from self._shadowed(domain)
        for route in domain.entries():
            yield from self._entry(route)
        for found in sweep_domain(self._reader, domain):
            if isinstance(found, ConfigError):
                yield _error(found)
            else:
                yield from self._entry(found)

    def _shadowed(self, domain: Domain) -> Iterator[Finding]:
        """Patterns and catch-alls that can never win, as far as that can be told."""
        every = next((pattern for pattern in domain.patterns if pattern.glob.text == "*"), None)
        if every is not None and domain.catch_all is not None:
            text = f'never wins: the pattern "*" of line {every.line} matches every name'
            yield _warning(domain.document.file, text, domain.catch_all.line, "catch_all")
        for pattern in domain.patterns:
            mailbox = Mailbox(pattern.glob.text, domain.name)
            if pattern.glob.groups == 0 and self._has_file(mailbox):
                text = f"never wins: {self._reader.name(mailbox)} has that very name"
                yield _warning(domain.document.file, text, pattern.line, "pattern.match")

    def _has_file(self, mailbox: Mailbox) -> bool:
        answer = self._addresses.read_here([mailbox])[mailbox]
        return isinstance(answer, Found) and answer.route.matched == "exact"

    def _entry(self, route: Route) -> Iterator[Finding]:
        for key, names in (("readers", route.readers), ("owner", (route.owner,) if route.owner else ())):
            for name in names:
                if "{" not in name and name not in self._accounts:
                    text = f'there is no account "{name}"; `forwarder account add {name}` makes it'
                    yield self._at(route, key, text)
        for word in sorted(set(route.via.values()) - {AUTO, IM2000}):
            if self._carriers is not None and word not in self._carriers:
                yield self._at(route, "via", f"no carrier {word} is configured: senders are told to come later")
        yield from self._targets(route)

    # -- targets that are hosted here

    def _targets(self, route: Route) -> Iterator[Finding]:
        for target in route.to:
            answer = self._resolve(route, target)
            if isinstance(answer, Nobody):
                yield self._at(route, "to", f"nobody here is {target}")
            elif isinstance(answer, Broken):
                yield self._at(route, "to", f"{target} is broken: see {answer.file}")
        for text in self._walk(route, route, (route.entry,), {}):
            yield self._at(route, "to", text)

    def _walk(self, start: Route, route: Route, way: tuple[str, ...], deepest: dict[str, int]) -> Iterator[str]:
        """What is wrong on the ways through entries here; deepest: how deep each was met, to go on only deeper."""
        for target in route.to:
            answer = self._resolve(route, target)
            if not isinstance(answer, Found) or deepest.get(answer.route.entry, 0) >= len(way):
                continue
            found = answer.route
            onward = (*way, found.entry)
            deepest[found.entry] = len(way)
            if found.entry == start.entry:
                if start.entry == min(way):  # each cycle is told once, at the first of its entries
                    yield f"a cycle: {' -> '.join(onward)}"
                continue
            if start.kind == "role" and (route is start or is_plain(route)):
                yield from _inside_role(found, onward)
            if len(way) > self._settings.limits.depth:
                yield f"over {self._settings.limits.depth} deep ([limits] depth): {' -> '.join(onward)}"
            elif found.entry not in way:
                yield from self._walk(start, found, onward, deepest)

    def _resolve(self, route: Route, target: Mailbox) -> object:
        """Who wins for a target, if it is hosted here; where a pattern's `{1}` leads cannot be told."""
        if not self._addresses.hosted(target.domain) or (route.matched == "pattern" and any(map(groups_in, target))):
            return None
        return self._addresses.look_up(target) or self._addresses.read_here([target])[target]

    def _at(self, route: Route, key: str, text: str) -> Finding:
        return Finding("error", route.file, route.lines.get(key, route.line), key, text)


def _inside_role(found: Route, way: tuple[str, ...]) -> Iterator[str]:
    """A role has one key, which the first un-pin closes; neither of these can share it."""
    what = "a group" if found.kind == "group" else "a redirect" if found.strategy == "redirect" else ""
    if what:
        yield f"{what} cannot stand inside a role: {' -> '.join(way)} (name its targets here instead)"


def _is_account_file(name: str) -> bool:
    return name.endswith(SUFFIX) and is_account_name(name.removesuffix(SUFFIX))


def _error(error: ConfigError) -> Finding:
    return Finding("error", error.file, error.line, error.key, error.text)


def _warning(file: str, text: str, line: int = 0, key: str = "") -> Finding:
    return Finding("warning", file, line, key, text)
