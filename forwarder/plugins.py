"""The one place that holds a PluginManager: it finds the installed plugins, checks them and puts them under guard.

Laws: a plugin that does not import, misspells a hook or offers what another offers already is reported in `problems`
and left out, and nothing stops because of it. Bundled plugins come by the same entry points as a stranger's, only
first: a name of ours is taken over by disabling ours and in no other way.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from importlib import metadata
from typing import Any, cast

import pluggy
from pydantic_core import PydanticUndefined

import forwarder.bridges as bridges
import forwarder.plugin as contract
from forwarder.bridges import CarrierSpec, ServiceSpec
from forwarder.guard import HARM, Faults, Guard, told
from forwarder.model import Route, format_duration, parse_size
from forwarder.plugin import Options, ScreenSpec, StrategySpec

GROUP = "forwarder"
OURS = "forwarder"  # the distribution that bundles the six
CORE_KEYS = frozenset(field.name for field in dataclasses.fields(Route))
CORE_DOORS = frozenset(
    ("dns", *(name + twin for name in ("rnasp", "msrap", "rnaqp", "msoap") for twin in ("", "_tls")))
)  # keys of [listen] that are the daemon's own
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")  # a bare key of TOML
HOOKS: Mapping[str, type] = {
    "forwarder_strategies": StrategySpec,
    "forwarder_screens": ScreenSpec,
    "forwarder_services": ServiceSpec,
    "forwarder_carriers": CarrierSpec,
}
WHAT: Mapping[type, str] = {
    ServiceSpec: "key of [listen]",
    CarrierSpec: "carrier",
    ScreenSpec: "table of the node file",
}

AnySpec = StrategySpec[Any] | ScreenSpec[Any] | ServiceSpec[Any] | CarrierSpec[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class PluginProblem:
    """Why a plugin, or one thing it offers, is left out. plugin: the name of its entry point."""

    plugin: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plugin:
    """One installed plugin, for `forwarder plugins`: values that go into JSON as they are."""

    name: str
    distribution: str
    version: str
    module: str
    file: str
    strategies: tuple[str, ...] = ()
    screens: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    """By table (a strategy's or screen's name, or that of services and carriers), of each key: "default" as a file
    writes it, None if absent; "required"; "means"."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plugins:
    """What is installed and works."""

    strategies: Mapping[str, StrategySpec[Any]]
    screens: Mapping[str, ScreenSpec[Any]]
    services: Mapping[str, ServiceSpec[Any]]
    carriers: Mapping[str, CarrierSpec[Any]]
    installed: Sequence[Plugin]
    problems: Sequence[PluginProblem]
    guard: Guard

    @property
    def faults(self) -> Mapping[str, Faults]:
        """How often each plugin was caught since the start, by plugin name; those without a fault are absent."""
        return self.guard.faults


def load(disable: Collection[str] = ()) -> Plugins:
    """All installed plugins but the disabled ones (names of entry points). Never raises for a plugin's sake."""
    found = sorted(metadata.entry_points(group=GROUP), key=lambda entry: (_distribution(entry)[0] != OURS, entry.name))
    loading = _Loading()
    for entry in found:
        if entry.name not in disable:
            loading.add(entry)
    names = {entry.name for entry in found}
    for name in sorted(set(disable) - names):
        loading.problem(name, f"disabled, but no plugin has this name{_nearest(name, names)}")
    return Plugins(
        *(loading.strategies, loading.screens, loading.services, loading.carriers),
        *(loading.installed, loading.problems, loading.guard),
    )


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else ("", "")


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class _Loading:
    """One pass over the entry points."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(contract)
        self.manager.add_hookspecs(bridges)
        self.guard = Guard()
        self.strategies: dict[str, StrategySpec[Any]] = {}
        self.screens: dict[str, ScreenSpec[Any]] = {}
        self.services: dict[str, ServiceSpec[Any]] = {}
        self.carriers: dict[str, CarrierSpec[Any]] = {}
        self.installed: list[Plugin] = []
        self.problems: list[PluginProblem] = []

    def problem(self, plugin: str, text: str) -> None:
        self.problems.append(PluginProblem(plugin, text))

    def add(self, entry: metadata.EntryPoint) -> None:
        """Imports, registers, asks; whatever goes wrong is this plugin's problem."""
        try:
            module = entry.load()
            self.manager.register(module, entry.name)
        except HARM as error:
            self.problem(entry.name, f"cannot be loaded from {entry.value}: {told(error)}")
            return
        if misspelt := self._misspelt(module):
            self.manager.unregister(module)
            self.problem(entry.name, f"{misspelt} is no hook{_nearest(misspelt, HOOKS)}")
            return
        if not self.manager.get_hookcallers(module):
            self.problem(entry.name, f"{entry.value} declares no hook: is @hookimpl missing?")
            return
        offered = list(self._offered(entry.name, module))
        self.installed.append(_describe(entry, module, offered))

    def _misspelt(self, module: object) -> str | None:
        """What pluggy's check_pending would find, for this plugin alone."""
        for caller in self.manager.get_hookcallers(module) or ():
            if not caller.has_spec() and not all(impl.optionalhook for impl in caller.get_hookimpls()):
                return caller.name
        return None

    def _offered(self, plugin: str, module: object) -> Iterator[AnySpec]:
        for caller in self.manager.get_hookcallers(module) or ():
            for offered in self._declared(plugin, module, caller):
                if wrong := self._wrong(offered, HOOKS[caller.name]):
                    self.problem(plugin, wrong)
                    continue
                spec = cast("AnySpec", offered)
                guarded = self.guard.owned(spec, plugin) if isinstance(spec, StrategySpec) else spec
                self._known(spec)[spec.name] = guarded
                yield spec

    def _known(self, spec: Any) -> dict[str, Any]:
        """Where specs of its type are kept."""
        if isinstance(spec, StrategySpec):
            return self.strategies
        if isinstance(spec, ScreenSpec):
            return self.screens
        return self.services if isinstance(spec, ServiceSpec) else self.carriers

    def _declared(self, plugin: str, module: object, caller: pluggy.HookCaller) -> Sequence[object]:
        found: list[object] = []
        for hook in (impl.function for impl in caller.get_hookimpls() if impl.plugin is module):
            try:
                found.extend(cast("Iterable[object]", hook()))
            except HARM as error:
                self.problem(plugin, f"{caller.name} raised {told(error)}")
        return found

    def _wrong(self, spec: Any, wanted: type) -> str | None:
        if (kind := type(spec)) is not wanted:
            return f"offers a {kind.__name__}, not a {wanted.__name__}"
        core = CORE_KEYS if wanted is StrategySpec else CORE_DOORS if wanted is ServiceSpec else ()
        if not isinstance(spec.name, str) or not NAME.match(spec.name) or spec.name in core:
            what = WHAT.get(wanted, "table of an address file")
            return f"{spec.name!r} cannot name a {what}: lower-case letters, digits, _, no core key"
        if spec.name in self._known(spec):
            return f"{spec.name} is offered by another plugin already: disable that one to use this"
        if not (isinstance(spec.options, type) and issubclass(spec.options, Options)):
            return f"{spec.name}: its options must be a subclass of Options"
        calls = [spec.make, *(getattr(spec, name) for name in ("objections", "takes", "via") if hasattr(spec, name))]
        return None if all(map(callable, calls)) else f"{spec.name}: make and objections must be callable"


def _describe(entry: metadata.EntryPoint, module: object, specs: Sequence[AnySpec]) -> Plugin:
    distribution, version = _distribution(entry)
    return Plugin(
        name=entry.name,
        distribution=distribution,
        version=version,
        module=entry.value,
        file=str(getattr(module, "__file__", "") or ""),
        strategies=_names(specs, StrategySpec),
        screens=_names(specs, ScreenSpec),
        services=_names(specs, ServiceSpec),
        carriers=_names(specs, CarrierSpec),
        options={getattr(spec, "table", spec.name): _options(spec.options) for spec in specs},
    )


def _names(specs: Sequence[AnySpec], kind: type) -> tuple[str, ...]:
    return tuple(spec.name for spec in specs if isinstance(spec, kind))


def _options(options: type[Options]) -> Mapping[str, Mapping[str, Any]]:
    return {
        key: {
            "default": None if field.is_required() else _written(field.default, field),
            "required": field.is_required(),
            "means": field.description or "",
        }
        for key, field in options.model_fields.items()
    }


def _written(value: object, field: Any) -> object:
    """A default as a file would write it. One that is made anew each time, and a table's, is not shown."""
    if value is PydanticUndefined or isinstance(value, dict):
        return None
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, int) and any(getattr(rule, "func", None) is parse_size for rule in field.metadata):
        unit = next(name for name, octets in UNITS.items() if value % octets == 0)
        return f"{value // UNITS[unit]}{unit}"
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)
