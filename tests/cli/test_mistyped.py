"""Mistyped commands: exit 2, one line on stderr that names the program, nothing on stdout, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MISTYPED = [
    [],
    ["sho"],
    ["lits"],
    ["adress"],
    ["--confg", "x"],
    ["--verson"],
    ["-x"],
    [""],
    ["frobnicate", "--json"],
    ["add"],
    ["add", "nobody"],
    ["add", "a@b@"],
    ["add", "@pobox.example"],
    ["add", "a b@pobox.example", "to=x@isp.example"],
    ["add", "brian@pobox.example", "to"],
    ["add", "brian@pobox.example", "=x@isp.example"],
    ["add", "brian@pobox.example", "too=x@isp.example"],
    ["add", "brian@pobox.example", "to=nobody"],
    ["add", "brian@pobox.example", "strategy=subscribee", "readers=brian"],
    ["add", "brian@pobox.example", "to=a@isp.example,b@isp.example"],
    ["add", "brian@pobox.example", "to=a@isp.example", "to=b@isp.example"],
    ["add", "brian@pobox.example", "to+=a@isp.example", "to=b@isp.example"],
    ["set", "brian@pobox.example", "note=a", "kind=role", "note="],
    ["add", "brian@pobox.example"],
    ["add", "brian@elsewhere.example", "to=x@isp.example"],
    ["add", "brian@pobox.example", "to=x@isp.example", "kind=rule"],
    ["add", "brian@pobox.example", "to=x@isp.example", "limits.targets=many"],
    ["add", "brian@pobox.example", "to=x@isp.example", "--jsn"],
    ["add", "brian@pobox.example", "to=x@isp.example", "--config"],
    ["add", "brian@pobox.example", "to=x@isp.example", "--config", "nowhere"],
    ["set", "brian@pobox.example"],
    ["set", "brian"],
    ["show"],
    ["show", "brian"],
    ["show", "a@b.example", "c@d.example"],
    ["off", "pobox.example"],
    ["remove", "brian @pobox.example"],
    ["list", "a", "b"],
    ["list", "--josn"],
    ["domain"],
    ["domain", "ad", "pobox.example"],
    ["domain", "add", "not a domain"],
    ["domain", "add", "127.0.0.1"],
    ["domain", "add", "[127.0.0.1]"],
    ["domain", "add", "2001:db8::1"],
    ["domain", "add", "isp.example", "tag=++"],
    ["domain", "add", "isp.example", "dns.mod=serve"],
    ["account", "add", "brian"],
    ["account", "add", "brian", "--may", "reed"],
    ["account", "add", "../brian", "--may", "read"],
    ["account", "add", "brian", "--may", "read"],
    ["account", "password", "brian"],
    ["init"],
    ["init", "x", "--name", "mx1.pobox.example"],
    ["init", "x", "--name", "not a name", "--domain", "pobox.example"],
    ["init", "x", "--name", "mx1.pobox.example", "--domain", "127.0.0.1"],
    ["init", "x", "--name", "mx1.pobox.example", "--domain", "pobox.example", "--set", "node"],
    ["init", "x", "--name", "mx1.pobox.example", "--domain", "pobox.example", "--set", 'node.sate="x"'],
    ["check", "now"],
    ["status", "--jsson"],
    ["send"],
    ["send", "--to", "brian"],
    ["send", "--to", "brian@pobox.example", "nosuchfile"],
    ["send", "--to", "brian@pobox.example", "--lifetime", "long"],
    ["send", "--to", "brian@pobox.example"],
    ["unsend"],
    ["sent", "--last", "0"],
    ["read", "shwo", "1"],
    ["read", "show"],
    ["read", "show", "one"],
    ["read", "show", "0"],
    ["read", "save", "1"],
    ["read", "save", "1", "nowhere/at/all"],
    ["read", "save", "1", "f", "--limit", "big"],
    ["read", "done"],
    ["read", "done", "1", "x"],
    ["read", "--me", "nosuchfile"],
    ["dns"],
    ["dns", "shw", "pobox.example"],
    ["dns", "show", "not a domain"],
]


@pytest.mark.parametrize("typed", MISTYPED, ids=" ".join)
def test_a_mistyped_command_is_one_line_and_exit_2(run: Any, folder: Path, typed: list[str]) -> None:
    said = run(*typed)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1), said
    assert "Traceback" not in said.err
    assert "internal error" not in said.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["sho", "x@pobox.example"], "'show'"),
        (["lits"], "'list'"),
        (["domain", "ad", "x.example"], "'add'"),
        (["read", "shwo", "1"], "'show'"),
        (["list", "--josn"], "--json"),
        (["add", "brian@pobox.example", "to=x@isp.example", "statte=off"], '"state"'),
        (["add", "brian@pobox.example", "readers=x", "strategy=subscrib"], '"subscribe"'),
    ],
)
def test_the_nearest_word_is_named(run: Any, folder: Path, typed: list[str], meant: str) -> None:
    assert meant in run(*typed).err


def test_what_strangers_typed_cannot_move_the_cursor(run: Any, folder: Path) -> None:
    said = run("show", "a\x1b[2J\n\rb@pobox.example")
    assert said.code == 2
    assert "\x1b" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("typed", [["sho"], ["add", "nobody"], ["read", "--me", "nosuch"]], ids=" ".join)
def test_a_mistyped_command_in_a_process_of_its_own(typed: list[str], tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]
    ended = subprocess.run([*program, *typed], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
