"""A small configuration folder to write in, and strategies that object as the bundled ones do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from forwarder.config.addresses import AddressFiles
from forwarder.config.settings import Settings, load_settings
from forwarder.model import Mailbox, Route
from forwarder.plugin import Case, Duration, Objection, Options, Plan, Ports, Refuse, Size, StrategySpec

NODE = '[node]\nname = "mx1.pobox.example"\n'


class Plain(Options):
    stateless: bool = False


class Bare(Options):
    pass


class Told(Options):
    scope: Literal["once", "permanent"] = "once"
    ttl: Duration = timedelta(days=7)


class Held(Options):
    keep: Duration | None = None
    max_size: Size = 30 << 20


class _Never:
    def plan(self, case: Case, /) -> Plan:
        return Plan((Refuse(),))


def _make(route: Route, options: Any, ports: Ports) -> _Never:
    return _Never()


def _no_group(route: Route, options: Any) -> Sequence[Objection]:
    found = []
    if route.kind == "group":
        found.append(Objection("kind", "a group needs a key for each: use pull_repush"))
    if route.readers:
        found.append(Objection("readers", "takes targets in `to`"))
    return found


def _told(route: Route, options: Any) -> Sequence[Objection]:
    found = []
    if route.kind == "role":
        found.append(Objection("kind", "a role needs one shared key: use rewrite_resend"))
    if route.fallback is None:
        found.append(Objection("fallback", "is missing: stores that know no redirect need one"))
    if len(route.to) > 10:
        found.append(Objection("to", "expected at most 10 targets"))
    return found


def _readers(route: Route, options: Any) -> Sequence[Objection]:
    return [Objection("to", "takes readers, not targets")] if route.to else []


def _spec(name: str, options: type[Options], objections: Any) -> StrategySpec[Any]:
    return StrategySpec(name, options, _make, objections)


@pytest.fixture
def specs() -> Mapping[str, StrategySpec[Any]]:
    offered = [
        _spec("rewrite_resend", Plain, _no_group),
        _spec("redirect", Told, _told),
        _spec("subscribe", Bare, _readers),
        _spec("pull_hold", Held, _readers),
        _spec("pull_repush", Held, lambda route, options: []),
    ]
    return {spec.name: spec for spec in offered}


Write = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with a node file and the hosted domain pobox.example."""
    place = tmp_path / "config"
    (place / "domains").mkdir(parents=True)
    (place / "addresses" / "pobox.example").mkdir(parents=True)
    (place / "accounts").mkdir()
    (place / "forwarder.toml").write_text(NODE)
    (place / "domains" / "pobox.example.toml").write_text("")
    return place


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes a file: `brian` an address of pobox.example, else a path in the folder."""

    def put(name: str, text: str) -> Path:
        path = (
            folder / name
            if "/" in name or name == "forwarder.toml"
            else folder / f"addresses/pobox.example/{name}.toml"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return put


@pytest.fixture
def settings(folder: Path) -> Settings:
    return load_settings(folder)


class TurnedClock:
    """A clock that only a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def addresses(folder: Path, specs: Mapping[str, StrategySpec[Any]], clock: TurnedClock) -> Callable[[], AddressFiles]:
    """Makes the look-ups of the folder as it is now."""
    return lambda: AddressFiles(folder, load_settings(folder), specs, clock)


@pytest.fixture
def at_pobox() -> Callable[[str], Mailbox]:
    return lambda localpart: Mailbox(localpart, "pobox.example")
