"""docs/plugins.md works as it stands: its files are taken out of the page and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from forwarder.plugins import CORE_KEYS, load
from forwarder.testing import make_route

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
IMPORTED = re.compile(r"^(?:from|import) (forwarder(?:\.[\w.]+)?)(?!\w)", re.MULTILINE)
BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rota")
    for name, text in FILE.findall((ROOT / "docs" / "plugins.md").read_text("utf-8")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def test_the_example_has_the_three_files(example: Path) -> None:
    files = sorted(str(path.relative_to(example)) for path in example.rglob("*") if path.is_file())
    assert files == ["forwarder_rota/__init__.py", "pyproject.toml", "test_rota.py"]


def test_the_examples_own_tests_pass(example: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rota.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(example), str(ROOT)])}
    ran = subprocess.run(command, cwd=example, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_the_example_is_declared_as_ours_are(example: Path) -> None:
    theirs = tomllib.loads((example / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert theirs == {"forwarder": {"rota": "forwarder_rota"}}
    assert set(ours) == {"forwarder"}


BRIDGES = {"smtp_bridge", "pop3_door"}


def test_no_plugin_of_ours_has_more_code_than_promised() -> None:
    for folder in sorted((ROOT / "plugins").iterdir()):
        lines = sum(len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py"))
        assert lines <= 150 or folder.name in BRIDGES, folder.name
        assert (folder / "README.md").is_file(), folder.name


def test_plugins_see_nothing_of_the_forwarder_but_the_contract() -> None:
    allowed = {"forwarder.model", "forwarder.plugin", "forwarder.bridges", "forwarder.signature", "forwarder.testing"}
    for path in (ROOT / "plugins").rglob("*.py"):
        seen = set(IMPORTED.findall(path.read_text("utf-8")))
        assert seen <= allowed, path


PAGES = ["docs/guidelines.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("plugins/*/README.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_address_shown_is_one_that_works(page: str) -> None:
    installed = load()
    specs = installed.strategies
    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    assert blocks
    for block in map(tomllib.loads, blocks):
        if "plugins" in block:  # of the node file: the tables of screens
            for name, table in block["plugins"].items():
                installed.screens[name].options.model_validate(table)
            continue
        if "listen" in block:  # of the node file: services, and the table that they share
            for name in block["listen"]:
                spec_of = installed.services[name]
                spec_of.options.model_validate(block.get(spec_of.table, {}))
            continue
        core = {key: block[key] for key in ("kind", "to", "readers", "fallback") if key in block}
        main = block.get("strategy", "rewrite_resend")
        for strategy in filter(None, (main, block.get("fallback"))):
            spec = specs[strategy]
            options = spec.options.model_validate(block.get(strategy, {}))
            assert list(spec.objections(make_route(strategy=strategy, **core), options)) == []
        assert set(block) <= CORE_KEYS | {main}
