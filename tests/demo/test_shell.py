"""What the demo prints after its prompts is what it does."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.cli.errors import No
from forwarder.demo.shell import CRLF, Shell, wrapped


def unprompted(lines: list[str]) -> str:
    assert all(line.startswith(("$ ", "> ")) for line in lines)
    return "\n".join(line[2:] for line in lines) + "\n"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("ab '\"=-,@{}\\$", max_size=40), min_size=1, max_size=12))
def test_a_long_line_is_broken_so_that_a_shell_reads_the_same_words(words: list[str]) -> None:
    options = [word for each in words for word in ("--set", each)]
    typed = ["printf", shlex.quote("%s\\0"), *map(shlex.quote, options)]
    said = subprocess.run(
        ["sh", "-c", "\n".join(wrapped(typed))], stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    assert said.decode().split("\0")[:-1] == options


def test_a_short_line_is_one_line() -> None:
    assert wrapped(["forwarder", "check", "--config", "pobox"]) == ["forwarder check --config pobox"]


@pytest.mark.parametrize("by", ["cat", CRLF])
def test_a_file_is_written_as_a_shell_would_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    Shell(said.append).write("ours", "one\n\n  two $HOME `x` \\\n", by=by)
    typed = unprompted(said).replace("> ours", "> theirs")
    subprocess.run(["sh", "-c", typed], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (b"\r\n" in (tmp_path / "ours").read_bytes()) is (by == CRLF)


def test_a_verb_that_fails_ends_the_demo_with_what_it_said() -> None:
    said: list[str] = []
    with pytest.raises(No, match="ended with 2: forwarder: "):
        Shell(said.append).run("add", "no address", "--config", "nowhere")
    assert said == ["$ forwarder add 'no address' --config nowhere"]


def test_a_line_of_other_programs_is_run_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    assert Shell(said.append).command("printf '%s\\n' $PWD | cat - > there && cat there", show=True) == f"{tmp_path}\n"
    assert said == ["$ printf '%s\\n' $PWD | cat - > there && cat there", f"  {tmp_path}"]
    with pytest.raises(No, match="ended with 3: oh"):
        Shell(said.append).command("echo oh >&2; exit 3")


def test_a_line_that_is_asked_often_is_printed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    more = "echo x >> file; cat file"
    assert Shell(said.append).wait(more, lambda code, out: out.count("x") == 3, 30) == (0, "x\nx\nx\n")
    assert said == [f"$ {more}", "  x", "  x", "  x"]
    assert Shell(said.append).wait("exit 4", lambda code, _: code == 0, 0) == (4, "")


def test_a_line_that_takes_too_long_is_ended_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.demo.shell.COMMAND_SECONDS", 0.2)
    with pytest.raises(No, match="took longer than"):
        Shell(print).command("sleep 1000 | cat; true")


def test_what_a_verb_prints_is_put_behind_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.chdir(tmp_path)
    shell = Shell(said.append)
    Path("file").write_text("before\n")
    printed = shell.run("--version", onto="file")
    assert Path("file").read_text() == f"before\n{printed}"
    assert said == ["$ forwarder --version >> file"]
