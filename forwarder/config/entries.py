"""An entry, of a file of its own, a pattern or a catch-all: its table checked and made a Route.

The core keys are checked here, a strategy's table by the schema of its spec; whether kind, targets and readers fit is
asked of the strategy and of the fallback. Domain defaults are merged in first; a mistake is told where it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, PlainValidator, ValidationError

from forwarder.config.globs import WILDCARDS, groups_in, substitute
from forwarder.config.lines import ConfigError, ConfigErrors, Document, Steps
from forwarder.config.settings import TARGETS_MOST, Carrier, Count, Limits
from forwarder.config.tables import AccountName, Address, DomainName, Many, Table, complaints, nearest
from forwarder.model import Expect, How, Kind, Mailbox, Route, State, parse_mailbox
from forwarder.plugin import StrategySpec

DEFAULT_STRATEGY = "rewrite_resend"
EXPECTS_MOST = 100
TOKEN_OCTETS = 64

Specs = Mapping[str, StrategySpec[Any]]

_TWO_OF_ONE = (
    "say which: two mailboxes of one person are a group (each has it) or a role (the first un-pin closes it for all)"
)


def _moment(value: object) -> datetime:
    """A TOML date or time as UTC; without a zone it is UTC, a date is its first moment."""
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        except OverflowError:
            raise ValueError(f"{value} is no time that can be reckoned with") from None
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise ValueError(f"expected a TOML date such as 2026-12-31 or 2026-12-31T12:00:00Z, found {value!r}")


def _carriers(value: object) -> str | dict[Mailbox, str]:
    words = get_args(Carrier)
    found = value.values() if isinstance(value, dict) else [value]
    for word in found:
        if word not in words:
            raise ValueError(f"expected one of {', '.join(words)}, or a table of these by target, found {word!r}")
    return (
        {parse_mailbox(target): str(word) for target, word in value.items()} if isinstance(value, dict) else str(value)
    )


def _template(value: object) -> Mailbox:
    """A target of a pattern: `{1}` may stand in either part, which are kept apart but not yet checked."""
    if not isinstance(value, str):
        raise ValueError(f'expected an address such as "{{1}}@isp.example", found {value!r}')
    named = groups_in(value)
    if not named <= set(range(1, WILDCARDS + 1)):
        raise ValueError(f"{value!r}: wildcards are numbered from {{1}} to {{{WILDCARDS}}}")
    parsed = parse_mailbox(substitute(value, ("x",) * WILDCARDS))
    local, _, domain = value.rpartition("@")
    return Mailbox(local if groups_in(local) else parsed.localpart, domain if groups_in(domain) else parsed.domain)


class EntryLimits(Table):
    """What an entry may have otherwise than the node."""

    targets: Annotated[int, Field(ge=1, le=TARGETS_MOST)] | None = None
    waiting: Count | None = None
    waiting_per_sender: Count | None = None
    per_sender_per_day: Count | None = None


def _token(value: object) -> bytes:
    octets = value.encode() if isinstance(value, str) else b""
    if not 1 <= len(octets) <= TOKEN_OCTETS:
        raise ValueError(f"expected a text of 1 to {TOKEN_OCTETS} octets")
    return octets


class ExpectTable(Table):
    """A forward that the mailbox expects. token: what it issued, for the `[redirect] tokens` at `original`."""

    original: Address
    via: DomainName | None = None
    token: Annotated[bytes | None, PlainValidator(_token)] = None


class Core(Table):
    """The core keys of an entry (operator 2). Strategies' tables stand beside them."""

    strategy: str | None = None
    to: Many[Address] = ()
    readers: Many[AccountName] = ()
    kind: Kind | None = None
    state: State = "on"
    expires: Annotated[datetime, PlainValidator(_moment)] | None = None
    note: str = ""
    owner: AccountName | None = None
    fallback: str | None = None
    expects: Annotated[Many[ExpectTable], Field(max_length=EXPECTS_MOST)] = ()
    limits: EntryLimits = EntryLimits()
    members: Literal["live", "frozen"] = "live"
    tell_members: bool = False
    via: Annotated[str | dict[Mailbox, str] | None, PlainValidator(_carriers)] = None


class PatternCore(Core):
    """A pattern's keys: targets and readers may name its wildcards."""

    match: str
    to: Many[Annotated[Mailbox, PlainValidator(_template)]] = ()
    readers: Many[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is written: its table in a document, and the domain's defaults behind it."""

    document: Document
    at: Steps = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    defaults_document: Document | None = None

    @property
    def table(self) -> Mapping[str, Any]:
        value: Any = self.document.data
        for step in self.at:
            value = value[step]
        return value if isinstance(value, Mapping) else {}

    def merged(self) -> dict[str, Any]:
        """Own keys over the defaults; tables key by key."""
        own, merged = self.table, dict(self.defaults)
        for key, value in own.items():
            below = merged.get(key)
            merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        return merged

    def error(self, path: Iterable[str | int], text: str) -> ConfigError:
        """A mistake at a key of the entry, or of the defaults where only they have it."""
        steps = tuple(path)
        if self.defaults_document and not _has(self.table, steps) and _has(self.defaults, steps):
            return self.defaults_document.error(("defaults", *steps), text)
        return self.document.error((*self.at, *steps), text)

    def lines(self) -> dict[str, int]:
        """The line of each key written in the entry itself, by its dotted name."""
        depth = len(self.at)
        return {
            ".".join(str(step) for step in steps[depth:]): line
            for steps, line in self.document.lines.items()
            if len(steps) > depth and steps[:depth] == self.at and isinstance(steps[-1], str)
        }


def compile_entry(
    place: Place, specs: Specs, limits: Limits, address: Mailbox, how: How, core: type[Core] = Core
) -> Route:
    """The route that an entry's table says. Raises ConfigErrors with all its mistakes."""
    merged = place.merged()
    errors = list(_unknown(place, merged, core, specs))
    said = _model(core, {key: merged[key] for key in merged if key in core.model_fields}, (), place, errors)
    tables = {key: merged[key] for key in merged if key in specs}
    options = {name: _model(specs[name].options, tables[name], (name,), place, errors) for name in tables}
    if said is None or errors:
        raise ConfigErrors(errors)
    strategy = _strategy(place, said, specs, errors)
    named = [name for name in (strategy, said.fallback) if name in specs]
    for name in named:
        options[name] = options.get(name) or _model(specs[name].options, {}, (name,), place, errors)
    errors += [place.error(path, text) for path, text in _core_objections(said, limits)]
    if errors:
        raise ConfigErrors(errors)
    route = _route(place, said, limits, address, how, strategy, {name: options[name] for name in named})
    errors += _strategy_objections(place, route, specs) if route.state != "gone" else ()
    if errors:
        raise ConfigErrors(errors)
    return route


def _route(
    place: Place, said: Core, limits: Limits, address: Mailbox, how: How, strategy: str, options: Mapping[str, Any]
) -> Route:
    return Route(
        address=address,
        entry=str(address) if address.localpart else f"@{address.domain}",
        strategy=strategy,
        to=said.to,
        readers=said.readers,
        kind=said.kind or "person",
        fallback=said.fallback,
        state=said.state,
        expires=said.expires,
        note=said.note,
        owner=said.owner,
        expects=tuple(Expect(expect.original, expect.via, expect.token) for expect in said.expects),
        limits=_limits(said.limits, limits),
        members=said.members,
        tell_members=said.tell_members,
        via=said.via if isinstance(said.via, dict) else dict.fromkeys(said.to, said.via) if said.via else {},
        options=options,
        matched=how,
        file=place.document.file,
        line=place.document.line(place.at),
        lines=place.lines(),
    )


def check_defaults(document: Document, defaults: Mapping[str, Any], specs: Specs) -> list[ConfigError]:
    """What is wrong with a domain's defaults whatever entry they meet."""
    place = Place(document, ("defaults",))
    errors = list(_unknown(place, defaults, Core, specs))
    _model(Core, {key: defaults[key] for key in defaults if key in Core.model_fields}, (), place, errors)
    return errors


def _has(table: Mapping[str, Any], steps: Steps) -> bool:
    value: Any = table
    for step in steps:
        if not isinstance(value, Mapping) or step not in value:
            return isinstance(value, list)
        value = value[str(step)]
    return True


def _unknown(place: Place, merged: Mapping[str, Any], core: type[Core], specs: Specs) -> Iterator[ConfigError]:
    known = {*core.model_fields, *specs}
    for key in merged:
        if key not in known:
            yield place.error((key,), f"unknown key{nearest(key, known)}")


def _model(model: type[BaseModel], table: Any, at: Steps, place: Place, errors: list[ConfigError]) -> Any:
    """The table as its model; None where it has mistakes, which are added."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        errors += [place.error((*at, *path), text) for path, text in complaints(model, error)]
        return None


def _strategy(place: Place, said: Core, specs: Specs, errors: list[ConfigError]) -> str:
    if said.strategy is None and said.readers:
        text = "is missing: an entry with readers names its strategy, such as subscribe or pull_hold"
        errors.append(place.error(("strategy",), text))
    strategy = said.strategy or DEFAULT_STRATEGY
    for key, name in (("strategy", strategy), ("fallback", said.fallback)):
        if name is not None and name not in specs:
            errors.append(place.error((key,), f'unknown strategy "{name}"{nearest(name, specs)}'))
    if said.fallback == strategy and said.state != "moved":
        errors.append(place.error(("fallback",), f'"{strategy}" is the strategy itself; expected another one'))
    return strategy


def _core_objections(said: Core, limits: Limits) -> Iterator[tuple[Steps, str]]:
    """What no strategy can mend: (path, text)."""
    most = said.limits.targets or limits.targets or TARGETS_MOST
    many: tuple[tuple[str, tuple[object, ...], str], ...] = (
        ("to", said.to, "targets"),
        ("readers", said.readers, "readers"),
    )
    for key, named, word in many:
        if len(named) > 1 and said.kind is None:
            yield (key,), f'{len(named)} {word} but no kind ("role" or "group"); {_TWO_OF_ONE}'
        if len(named) > most:
            yield (key,), f"{len(named)} {word}, expected at most {most} ([limits] targets, up to {TARGETS_MOST})"
            continue
        for place, one in enumerate(named):
            if one in named[:place]:
                yield (key, place), f"{one} is named twice"
    if not said.to and not said.readers and said.state != "gone":
        yield (), "says neither `to` nor `readers`: expected one of them"
    if said.state == "moved" and not said.to:
        yield ("state",), '"moved" needs `to`: where the mailbox has moved'
    targets = frozenset(said.to)
    for target in said.via if isinstance(said.via, dict) else ():
        if target not in targets:
            yield ("via",), f"{target} is none of the targets in `to`"


def _limits(own: EntryLimits, node: Limits) -> Mapping[str, int]:
    """The limits in force: the entry's, else the node's."""
    return {
        name: getattr(node, name) if getattr(own, name) is None else getattr(own, name)
        for name in EntryLimits.model_fields
    }


def _strategy_objections(place: Place, route: Route, specs: Specs) -> Iterator[ConfigError]:
    """What the strategy and, in its place, the fallback cannot promise. `members` need only mean something to one."""
    asked = [_ask(place, route, specs[route.strategy], "")]
    if route.fallback:
        instead = replace(route, strategy=route.fallback, fallback=None)
        asked.append(_ask(place, instead, specs[route.fallback], f'as fallback "{route.fallback}": '))
    idle = all(any(map(_of_members, each)) for each in asked)
    for each in asked:
        yield from (found for found in each if idle or not _of_members(found))


def _of_members(found: ConfigError) -> bool:
    return found.key.rpartition(".")[2] == "members"


def _ask(place: Place, route: Route, spec: StrategySpec[Any], role: str) -> list[ConfigError]:
    try:
        objections = spec.objections(route, route.options[spec.name])
    except Exception as error:  # a plugin's own fault harms its own addresses only
        return [place.error(("strategy",), f'"{spec.name}" failed to check this entry: {error!r}')]
    return [place.error(tuple(found.key.split(".")), role + found.text) for found in objections]
