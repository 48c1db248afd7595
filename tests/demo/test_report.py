"""What to try next must be typable where the demo was started, with or without an environment switched on."""

from __future__ import annotations

import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from forwarder.demo import report


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `forwarder` of an environment that is not switched on, as after the README's first command."""
    made = tmp_path / "my venv" / "bin" / "forwarder"
    made.parent.mkdir(parents=True)
    made.write_text("#!/bin/sh\necho it is me\n")
    made.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(made.parent / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return made


def said(capsys: pytest.CaptureFixture[str], folder: Path, *, keep: bool) -> str:
    report.print_try_next(Console(file=StringIO()), str(folder), keep=keep)
    return capsys.readouterr().out


def test_the_kept_world_says_where_the_program_is(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = said(capsys, tmp_path, keep=True).splitlines()[0]
    typed = subprocess.run(["sh", "-c", f"{first}; forwarder"], capture_output=True, text=True, check=True)
    assert typed.stdout == "it is me\n"


def test_it_does_not_where_a_shell_finds_it_anyway(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    first = said(capsys, tmp_path, keep=True).splitlines()[0]
    assert first == f"  cd {tmp_path}; export XDG_DATA_HOME=$PWD"


def test_the_word_for_the_next_demo_can_be_typed_too(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = StringIO()
    report.print_try_next(Console(file=out, width=500), str(tmp_path), keep=False)
    assert f"({shlex.quote(str(program))} demo --keep leaves" in out.getvalue()
