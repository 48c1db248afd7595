"""`init --postfix` and `postfix`: the same lines, and what they leave to be typed works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..program.names import Names  # noqa: TID252  # a name server that other tests have too

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
    for queue in ("queue", '/var/a"b', "/var/a\\b", "/var/a\nrelay_domains = evil"):
        assert run("init", made, *NEW, "--queue", queue).err.startswith(f"forwarder init: --queue {queue!r}: expected")
    assert not Path(made).exists()
    assert run("postfix").err.startswith("forwarder: [listen] has no lmtp and no postfix_map")
    run("init", made, *NEW, "--set", 'listen.postfix_map=["unix:/elsewhere/forwarder/map"]')
    assert "/elsewhere, /var/spool/postfix" in run("postfix", "--config", made).err


@pytest.fixture
def names() -> Iterator[Names]:
    """isp.example has an MX and no agent; nothing else is there."""
    with closing(Names()) as server:
        server.records["isp.example", "MX"] = ["10 mx.isp.example."]
        yield server


def test_check_network_says_what_smtp_cannot_do(run: Any, tmp_path: Path, names: Names) -> None:
    made = str(tmp_path / "new")
    asks = (
        "--set",
        f'resolve.nameservers=["127.0.0.1:{names.port}"]',
        "--set",
        'bridge.smtp_out.smarthost="127.0.0.1:1"',
    )
    run("init", made, *NEW, *asks)

    def add(name: str, *pairs: str) -> None:
        assert run("add", f"{name}@pobox.example", *pairs, "--config", made).code == 0

    add("plain", "to=bob@isp.example")
    add("sales", "kind=role", "to=bob@isp.example,eve@isp.example")
    add("told", "strategy=redirect", "to=bob@isp.example", "fallback=rewrite_resend")
    add("sure", "strategy=redirect", "to=bob@isp.example", "fallback=rewrite_resend", "via=im2000")
    add("lost", "to=bob@nowhere.example")
    assert run("check", "--config", made) == (0, "", "")
    said = run("check", "--network", "--json", "--config", made)
    assert said.code == 2
    found = {(row["level"], row["file"].rpartition("/")[2], row["text"].partition(":")[0]) for row in said.json}
    assert found == {
        ("error", "told.toml", "bob@isp.example is reached by SMTP"),
        ("warning", "sales.toml", "bob@isp.example is reached by SMTP and cannot close the item"),
        ("warning", "sales.toml", "eve@isp.example is reached by SMTP and cannot close the item"),
        ("warning", "lost.toml", "nowhere.example"),
        ("warning", "forwarder.toml", "127.0.0.1"),
    }


def test_accounts_that_mail_needs_are_there(run: Any, tmp_path: Path) -> None:
    made = str(tmp_path / "new")
    run("init", made, *NEW, "--set", 'bridge.submission.account="office"')
    said = run("check", "--config", made)
    assert said.code == 2
    assert 'submission.account: there is no account "office": forwarder account add office' in said.err
    assert run("account", "add", "office", "--may", "read", "--config", made, stdin="secret\n").code == 0
    assert 'the account "office" may not originate' in run("check", "--config", made).err
    assert run("account", "set", "office", "may=originate", "--config", made).code == 0
    assert run("check", "--config", made) == (0, "", "")
    assert run("account", "off", "smtpgateway", "--config", made).code == 0
    assert 'smtp_in.account: the account "smtpgateway" may not originate' in run("check", "--config", made).err
