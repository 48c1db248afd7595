"""`init --postfix` and `postfix`: the same lines, and what they leave to be typed works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NEW = ("--name", "mx1.pobox.example", "--domain", "pobox.example", "--postfix")


def test_init_prints_what_postfix_prints_ever_after(run: Any, tmp_path: Path) -> None:
    made = str(tmp_path / "new")
    said = run("init", made, *NEW, "--queue", str(tmp_path / "queue"))
    assert said.code == 0
    assert run("check", "--config", made) == (0, "", "")
    both = run("postfix", "--config", made).out
    assert said.out.startswith(both)
    for file in ("main.cf", "master.cf"):
        assert run("postfix", file, "--config", made).out in both
    assert f"{tmp_path / 'queue'}/forwarder" in said.out


def test_a_domain_that_came_later_is_in_the_lines(run: Any, tmp_path: Path) -> None:
    made = str(tmp_path / "new")
    run("init", made, *NEW)
    assert run("domain", "add", "staff.example", "--config", made).code == 0
    assert "pobox.example, staff.example, srs.pobox.example" in run("postfix", "main.cf", "--config", made).out


def test_what_cannot_be_printed_is_said_in_a_line(run: Any, tmp_path: Path, folder: Path) -> None:
    made = str(tmp_path / "new")
    assert run("postfix", "aliases", "--config", made).err.startswith("forwarder postfix: 'aliases': expected")
    assert run("init", made, *NEW, "--queue", "queue").err.startswith("forwarder init: --queue 'queue': expected")
    assert not Path(made).exists()
    assert run("postfix").err.startswith("forwarder: [listen] has no lmtp and no postfix_map")
    run("init", made, *NEW, "--set", 'listen.postfix_map=["unix:/elsewhere/forwarder/map"]')
    assert "/elsewhere, /var/spool/postfix" in run("postfix", "--config", made).err
