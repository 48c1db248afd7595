"""Installed plugins are found by their entry points; a broken one is reported, and the rest goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from forwarder.plugins import Plugins, load

Install = Callable[[str, str], None]

GOOD = """
from forwarder.plugin import *
class Strategy:
    def plan(self, case):
        return Plan((Refuse(),))
def make(route, options, ports):
    return Strategy()
def objections(route, options):
    return ()
SPEC = StrategySpec("NAME", Options, make, objections)
@hookimpl
def forwarder_strategies():
    return [SPEC]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one module onto the path, as pip would, and forgets it after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def installed(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source.replace("NAME", name))
        about = tmp_path / f"{name}-1.2.3.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
        (about / "entry_points.txt").write_text(f"[forwarder]\n{name} = {name}\n")

    yield installed
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def problems(plugins: Plugins, name: str) -> str:
    return "; ".join(problem.text for problem in plugins.problems if problem.plugin == name)


def test_ours_and_a_strangers_are_found_alike(install: Install) -> None:
    install("rota", GOOD)
    plugins = load()
    assert not plugins.problems
    assert {"rota", "redirect"} <= set(plugins.strategies)
    rota = next(plugin for plugin in plugins.installed if plugin.name == "rota")
    assert (rota.distribution, rota.version, rota.module, rota.strategies) == ("rota", "1.2.3", "rota", ("rota",))
    assert rota.file.endswith("rota.py")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(1)", "SystemExit"),
        (GOOD.replace("def forwarder_strategies", "def forwarder_strategy"), "did you mean forwarder_strategies?"),
        (GOOD.replace("@hookimpl", ""), "is @hookimpl missing?"),
        ("", "is @hookimpl missing?"),
        (GOOD.replace("def forwarder_strategies()", "def forwarder_strategies(config)"), "config"),
        (GOOD.replace("return [SPEC]", "raise ValueError('no')"), "ValueError: no"),
        (GOOD.replace("return [SPEC]", "return None"), "TypeError"),
        (GOOD.replace("return [SPEC]", "return [42]"), "offers a int, not a StrategySpec"),
        (GOOD.replace("return [SPEC]", "return ['SPEC']"), "offers a str"),
        (GOOD.replace("return [SPEC]", "return [ScreenSpec('x', 'lists', Options, make)]"), "offers a ScreenSpec"),
        (GOOD.replace('"NAME"', '"redirect"'), "offered by another plugin already"),
        (GOOD.replace('"NAME"', '"limits"'), "no core key"),
        (GOOD.replace('"NAME"', '"Two Words"'), "cannot name a table"),
        (GOOD.replace('"NAME", Options', '"NAME", dict'), "subclass of Options"),
        (GOOD.replace("make, objections)", "make, None)"), "callable"),
    ],
)
def test_a_broken_plugin_is_reported_and_the_rest_goes_on(install: Install, source: str, why: str) -> None:
    install("broken", source)
    install("zebra", GOOD)
    plugins = load()
    assert why in problems(plugins, "broken")
    assert len(plugins.problems) == 1
    assert "broken" not in plugins.strategies
    assert {"zebra", "redirect", "subscribe"} <= set(plugins.strategies)


def test_ours_keeps_its_name_until_it_is_disabled(install: Install) -> None:
    install("another", GOOD.replace('"NAME"', '"redirect"'))
    assert type(load().strategies["redirect"].options()).__name__ == "RedirectOptions"
    plugins = load(disable=["redirect"])
    assert not plugins.problems
    assert type(plugins.strategies["redirect"].options()).__name__ == "Options"


def test_a_disabled_plugin_is_not_even_imported(install: Install) -> None:
    install("shy", "raise AssertionError('imported')")
    assert not load(disable=["shy"]).problems


def test_disabling_what_is_not_there_is_a_problem_with_the_nearest_name() -> None:
    assert "did you mean redirect?" in problems(load(disable=["redirct"]), "redirct")


def test_what_is_installed_goes_into_json_with_defaults_as_a_file_writes_them() -> None:
    described = json.loads(json.dumps([asdict(plugin) for plugin in load().installed]))
    options = {name: table for plugin in described for name, table in plugin["options"].items()}
    defaults = {f"{name}.{key}": about["default"] for name, keys in options.items() for key, about in keys.items()}
    assert defaults == {
        "redirect.scope": "once",
        "redirect.ttl": "7d",
        "redirect.tokens": [],
        "redirect.tell_smtp": False,
        "rewrite_resend.stateless": False,
        "rewrite_resend.chains": False,
        "pull_repush.unpin_source": "after_readers",
        "pull_repush.max_size": "30MiB",
        "pull_hold.unpin_source": "after_copy",
        "pull_hold.max_size": "30MiB",
        "pull_hold.keep": None,
        "dns_user_lookup.ttl": None,
        "signature.require": [],
        "bridge.group": "",
        **dict.fromkeys(f"bridge.{name}" for name in ("smtp_in", "smtp_out", "returns", "submission", "pop3")),
    }
