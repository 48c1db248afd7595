"""The folder that `init` writes, and the example that equals it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarder.config.assign import BadAssignment
from forwarder.config.check import check
from forwarder.config.domains import DomainTable
from forwarder.config.fresh import DOMAIN, NODE, write_fresh
from forwarder.config.lines import ConfigErrors, parse
from forwarder.config.settings import Settings, load_settings
from forwarder.config.tables import validate

EXAMPLE = Path(__file__).parents[2] / "config"


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and "state" not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_example_is_what_init_writes(tmp_path: Path) -> None:
    write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example")
    assert files(EXAMPLE) == files(tmp_path / "new")


def test_a_fresh_folder_is_in_order(tmp_path: Path, specs: Mapping[str, Any]) -> None:
    write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example")
    assert check(tmp_path / "new", specs) == []
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    assert modes == {True: 0o750, False: 0o640}


EXAMPLES = ('"isp', "domains", "certificate", "key", "match", "to", 'rnasp = "', 'msrap = "', "contact", "catch_all")


@pytest.mark.parametrize(("template", "model"), [(NODE, Settings), (DOMAIN, DomainTable)])
def test_the_defaults_shown_as_comments_are_the_defaults(template: str, model: Any) -> None:
    text = template.format(name="mx1.pobox.example", domain="pobox.example")
    shown = re.sub(r"(?m)^# (?=[a-z_]+ = )(?!" + "|".join(EXAMPLES) + ")", "", text)
    assert shown.count("\n# ") < text.count("\n# ")
    plain, said = parse(text, "plain"), parse(shown.replace('store = "pobox.example"', ""), "shown")
    assert validate(model, said.data, said).model_dump(exclude={"defaults"}) == validate(
        model, plain.data, plain
    ).model_dump(exclude={"defaults"})


def test_every_commented_line_is_toml_that_is_accepted(tmp_path: Path) -> None:
    text = NODE.format(name="mx1.pobox.example", domain="pobox.example")
    shown = re.sub(r'(?m)^# (?=[a-z_"\[]+.* ?= |\[\[)', "", text)
    document = parse(shown, "shown")
    settings = validate(Settings, document.data, document)
    assert len(settings.tls) == 1
    assert settings.public.rnasp is not None
    assert "isp.example" in settings.resolve.static


def test_keys_can_be_set(tmp_path: Path) -> None:
    sets = [
        'listen.rnasp=["127.0.0.1:0"]',
        'resolve.static."isp.example"={rnasp="127.0.0.1:7201"}',
        "limits.targets=100",
        "network.literals = true",
        'plugins.greylist.delay="5m"',
    ]
    write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example", sets)
    settings = load_settings(tmp_path / "new")
    assert settings.listen.rnasp[0].port == 0
    assert settings.resolve.static["isp.example"].rnasp is not None
    assert (settings.limits.targets, settings.network.literals) == (100, True)
    assert settings.plugins.options("greylist") == {"delay": "5m"}
    assert "# the world notifies" in (tmp_path / "new/forwarder.toml").read_text()


@pytest.mark.parametrize("text", ["limits", "targets=5", "limits.targets=x", "node.name.x=1", "limits.=1", ""])
def test_a_set_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadAssignment):
        write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example", [text])
    assert not (tmp_path / "new").exists()


def test_a_wrong_value_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"limits.targets: expected less than"):
        write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example", ["limits.targets=5000"])
    for name, domain in (("a b", "pobox.example"), ("mx.example", 'x"')):
        with pytest.raises(ValueError, match="no domain"):
            write_fresh(tmp_path / "new", name, domain)
    assert not (tmp_path / "new").exists()


def test_a_folder_with_contents_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ConfigErrors, match="is not empty"):
        write_fresh(tmp_path, "mx1.pobox.example", "pobox.example")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(("free", "refused"), [(50, True), (5000, False)])
def test_free_inodes_are_looked_at(tmp_path: Path, monkeypatch: Any, free: int, refused: bool) -> None:
    real = os.statvfs(tmp_path)
    fields = list(real)[:10]
    fields[5:8] = [1_000_000, free, free]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*fields, 0]))
    if refused:
        with pytest.raises(ConfigErrors, match="only 50 more files"):
            write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example")
    else:
        [warning] = write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example")
        assert warning.startswith("5000 more files")
