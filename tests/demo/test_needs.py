"""What `forwarder demo --postfix` says where something is missing: each thing, and how to get it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from forwarder.cli.errors import Wrong
from forwarder.demo.edge import needs


@pytest.fixture(autouse=True)
def _nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program, path: f"/there/{program}")
    monkeypatch.setattr(needs, "find_spec", lambda name: name)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/")


def said() -> list[str]:
    with pytest.raises(Wrong) as caught:
        needs.demand()
    assert caught.value.code == 2
    return [line.removeprefix("forwarder demo --postfix: ") for line in caught.value.lines]


def test_nothing() -> None:
    needs.demand()


def test_each_thing_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda program, path: None if program != "sendmail" else "/there")
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    assert said() == [
        "only root can start a Postfix: run it with sudo, or in a container",
        "postfix, postqueue not found: apt-get install postfix",
        "fetchmail not found: apt-get install fetchmail",
        "srslib not found: pip install 'forwarder[smtp]'",
    ]


def test_a_temporary_folder_that_postfix_may_not_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        closed, folder = Path(name), Path(name, "tmp")
        folder.mkdir()
        monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
        [line] = said()
        assert f"may not pass {closed}, " in line
        closed.chmod(0o711)
        needs.demand()


def test_postfix_is_found_though_the_path_of_root_has_no_sbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    assert needs.path().split(":")[0] == "/bin"
    assert "/usr/sbin" in needs.path().split(":")
