"""A hosted domain: hosted = its file exists. Tags, patterns, catch-all, defaults, DNS.

The order of winning: exact with tag, exact without, the pattern with most literal characters, the catch-all, nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from forwarder.config.entries import PatternCore, Place, Specs, check_defaults, compile_entry
from forwarder.config.globs import Glob, groups_in, substitute
from forwarder.config.lines import ConfigError, ConfigErrors, Document
from forwarder.config.names import hosted_domain
from forwarder.config.settings import Limits
from forwarder.config.tables import Address, DomainName, Many, Table, is_account_name, validate
from forwarder.model import LOCALPART_OCTETS, Mailbox, Route, parse_domain
from forwarder.plugin import Duration

PATTERNS_MOST = 10_000


def _tag(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1 or (value and (value.isalnum() or not "!" <= value <= "~")):
        raise ValueError(f'expected one mark such as "+" or "-", or "" for no tags, found {value!r}')
    if value in ("@", '"'):
        raise ValueError(f"{value!r} cannot separate a tag")
    return value


class Dns(Table):
    """How the domain's zone is served. nameservers: names for the delegation; contact: the zone's."""

    mode: Literal["delegate", "serve", "transfer", "update", "off"] = "delegate"
    nameservers: Many[DomainName] = ()
    contact: Address | None = None
    ttl: Duration = timedelta(hours=1)


class DomainTable(Table):
    """The file of a domain; entries in it are checked like those of address files."""

    catch_all: dict[str, Any] | None = None
    unknown: Literal["refuse", "accept"] = "refuse"
    tag: Annotated[str, PlainValidator(_tag)] = "+"
    store: DomainName | None = None
    defaults: dict[str, Any] = Field(default_factory=dict)
    pattern: Annotated[tuple[dict[str, Any], ...], Field(strict=False, max_length=PATTERNS_MOST)] = ()
    dns: Dns = Dns()


@dataclass(frozen=True, slots=True)
class Pattern:
    """One `[[pattern]]`; its route's targets and readers may hold `{1}` …."""

    glob: Glob
    route: Route

    @property
    def line(self) -> int:
        """Where its `match` is written."""
        return self.route.lines.get("match", self.route.line)


@dataclass(frozen=True, slots=True)
class Domain:
    """A hosted domain as read. store: the domain that our own notifications name as the store."""

    name: str
    document: Document
    unknown: Literal["refuse", "accept"]
    tag: str
    store: str
    dns: Dns
    defaults: Mapping[str, Any]
    patterns: tuple[Pattern, ...]
    catch_all: Route | None

    def names(self, localpart: str) -> tuple[tuple[str, str], ...]:
        """The exact names to try for a folded local part, each with the tag it ignores."""
        at = localpart.find(self.tag, 1) if self.tag else -1
        if at < 0:
            return ((localpart, ""),)
        return ((localpart, ""), (localpart[:at], localpart[at + 1 :]))

    def otherwise(self, mailbox: Mailbox) -> Route | None:
        """What wins for a folded mailbox that no file of its own serves: a pattern, the catch-all, or nothing."""
        return next(self.contenders(mailbox), None)

    def contenders(self, mailbox: Mailbox) -> Iterator[Route]:
        """All patterns that fit a folded mailbox, and the catch-all, best first."""
        told: set[str] = set()
        for name, tag in self.names(mailbox.localpart):
            for pattern in self.patterns:
                groups = pattern.glob.match(name)
                found = None if groups is None else filled(pattern.route, groups)
                if found is not None and found.entry not in told:
                    told.add(found.entry)
                    yield replace(found, address=Mailbox(name, self.name), tag=tag)
        if self.catch_all is not None:
            yield replace(self.catch_all, address=mailbox)

    def place(self, document: Document) -> Place:
        """An address file of this domain, with the defaults behind it."""
        return Place(document, (), self.defaults, self.document)

    def entries(self) -> Iterator[Route]:
        """The patterns and the catch-all, as their own names."""
        yield from (pattern.route for pattern in self.patterns)
        if self.catch_all is not None:
            yield self.catch_all


def filled(route: Route, groups: tuple[str, ...]) -> Route | None:
    """A pattern's route for one address; None where its wildcards give no address or account."""
    if not any(groups_in(part) for target in route.to for part in target) and not any(map(groups_in, route.readers)):
        return route
    try:
        targets = {target: _target(target, groups) for target in route.to}
    except ValueError:
        return None
    readers = tuple(dict.fromkeys(substitute(reader, groups) for reader in route.readers))
    if not all(map(is_account_name, readers)):
        return None
    via = {targets[target]: word for target, word in route.via.items()}
    return replace(route, to=tuple(dict.fromkeys(targets.values())), readers=readers, via=via)


def compile_domain(document: Document, name: str, specs: Specs, limits: Limits) -> Domain:
    """A domain file checked, entries and all. Raises ConfigErrors with all its mistakes."""
    table = validate(DomainTable, document.data, document)
    errors = check_defaults(document, table.defaults, specs)
    if errors:
        raise ConfigErrors(errors)
    patterns: list[Pattern] = []
    catch_all = None
    for number in range(len(table.pattern)):
        place = Place(document, ("pattern", number), table.defaults, document)
        try:
            patterns.append(_pattern(place, name, specs, limits))
        except ConfigErrors as found:
            errors += found.errors
    if table.catch_all is not None:
        place = Place(document, ("catch_all",), table.defaults, document)
        try:
            catch_all = compile_entry(place, specs, limits, Mailbox("", name), "catch_all")
        except ConfigErrors as found:
            errors += found.errors
    if errors:
        raise ConfigErrors(errors)
    patterns.sort(key=lambda pattern: -pattern.glob.literals)
    store = table.store or name
    return Domain(
        name, document, table.unknown, table.tag, store, table.dns, table.defaults, tuple(patterns), catch_all
    )


def ties(domain: Domain) -> Iterator[ConfigError]:
    """Patterns that some local part meets with equally many literal characters: neither wins."""
    for place, later in enumerate(domain.patterns):
        for earlier in domain.patterns[:place]:
            if later.glob.ties(earlier.glob):
                first, second = sorted((earlier, later), key=lambda pattern: pattern.line)
                text = (
                    f'"{second.glob.text}" ties with "{first.glob.text}" of line {first.line}: '
                    "some address matches both with as many literal characters; make one more exact"
                )
                yield ConfigError(domain.document.file, second.line, "pattern.match", text)


def domain_name(path: Path) -> str | None:
    """The domain whose file this is; None where the name is none, or not in its canonical form."""
    name = path.name.removesuffix(".toml")
    try:
        return name if path.name.endswith(".toml") and hosted_domain(name) == name else None
    except ValueError:
        return None


def _pattern(place: Place, domain: str, specs: Specs, limits: Limits) -> Pattern:
    try:
        glob = Glob(str(place.table.get("match", "")))
    except ValueError as error:
        raise ConfigErrors([place.error(("match",), str(error))]) from None
    route = compile_entry(place, specs, limits, Mailbox(glob.text, domain), "pattern", PatternCore)
    errors = []
    for key, texts in (("to", ["@".join(target) for target in route.to]), ("readers", list(route.readers))):
        for number, text in enumerate(texts):
            wrong = [group for group in groups_in(text) if not 1 <= group <= glob.groups]
            if wrong:
                said = f'{{{wrong[0]}}} names no wildcard: "{glob.text}" has {glob.groups}'
                errors.append(place.error((key, number), said))
            elif key == "readers" and not is_account_name(substitute(text, ("x",) * glob.groups)):
                errors.append(place.error((key, number), f"{text!r} is no account name"))
    if errors:
        raise ConfigErrors(errors)
    return Pattern(glob, route)


def _target(target: Mailbox, groups: tuple[str, ...]) -> Mailbox:
    localpart = substitute(target.localpart, groups)
    if not localpart or len(localpart.encode()) > LOCALPART_OCTETS:
        raise ValueError("no local part")
    return Mailbox(localpart, parse_domain(substitute(target.domain, groups)))
