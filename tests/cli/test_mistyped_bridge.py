"""What an operator may mistype of the bridges: `check` names file, line and key and what it expected, exit 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], int]

LMTP = 'lmtp = ["unix:/var/spool/postfix/forwarder/lmtp"]'
GATEWAY = 'account = "smtpgateway"'
SMARTHOST = 'smarthost = "127.0.0.1:10025"'
SECRET = 'secret_file = "srs.secret"'
SENDER = '# account = "sender"'
SIZE = 'max_size = "30MiB"'

HOST_PORT = 'expected "HOST:PORT" such as "127.0.0.1:10025"'
NO_NAME = "no account name"

MISTYPED = [
    # instead of, what is typed, the key, what is said
    (SIZE, "max_size = 0", "bridge.smtp_in.max_size", "expected 64KiB to 100GiB"),
    (SIZE, 'max_size = "30KiB"', "bridge.smtp_in.max_size", "expected 64KiB to 100GiB"),
    (SIZE, 'max_size = "9999999TiB"', "bridge.smtp_in.max_size", "expected 64KiB to 100GiB"),
    (SIZE, 'answer_wait = "10m"', "bridge.smtp_in.answer_wait", "expected at most 60 s"),
    (SIZE, 'lifetime = "0s"', "bridge.smtp_in.lifetime", "expected at least 60 s"),
    (GATEWAY, 'account = ""', "bridge.smtp_in.account", NO_NAME),
    (GATEWAY, 'account = "../x"', "bridge.smtp_in.account", NO_NAME),
    (GATEWAY, "account = 5", "bridge.smtp_in.account", "expected the name of an account, or a table"),
    (GATEWAY, 'account = { "pobox.example" = 5 }', "bridge.smtp_in.account", "expected the name of an account"),
    (GATEWAY, 'account = { "no domain" = "smtpgateway" }', "bridge.smtp_in.account", "no domain label"),
    (
        GATEWAY,
        'account = { "pobx.example" = "smtpgateway" }',
        'bridge.smtp_in.account."pobx.example"',
        "pobx.example is not hosted here",
    ),
    (GATEWAY, 'account = { "pobox.example" = "gw" }', 'bridge.smtp_in.account."pobox.example"', 'no account "gw"'),
    (SENDER, 'account = ""', "bridge.submission.account", NO_NAME),
    (SMARTHOST, 'smarthost = "::1:10025"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, 'smarthost = "[::1:10025"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, 'smarthost = "[zz]:10025"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, 'smarthost = "smtp://mx.example:25"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, 'smarthost = "mx example:25"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, 'smarthost = "mx\\n.example:25"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SMARTHOST, f'smarthost = "mx:{"9" * 5000}"', "bridge.smtp_out.smarthost", HOST_PORT),
    (SECRET, 'secret_file = "srs\\u0000"', "bridge.returns.secret_file", "U+0000"),
    (SECRET, 'secret_file = "pipe"', "bridge.returns.secret_file", "is no regular file"),
    ('group = "postfix"', 'group = "post\\u0000fix"', "bridge.group", "U+0000"),
    (LMTP, 'lmtp = ["unix:/tmp\\nfs/lmtp"]', "listen.lmtp", "expected an absolute path"),
    (LMTP, 'lmtp = ["unix:/tmp/"]', "listen.lmtp", "expected an absolute path"),
    (LMTP, 'lmtp = ["unix:/tmp/a\\u0000b"]', "listen.lmtp", "U+0000"),
    (LMTP, 'lmtp = ["unix:/x/y", "unix:/x/y"]', "listen.lmtp", "unix:/x/y: lmtp listens there already"),
    (LMTP, 'lmtp = ["127.0.0.1:7110"]', "listen.lmtp", "127.0.0.1:7110: pop3 listens there already"),
    (
        "[network]",
        '[resolve.via]\n"pobox.example" = "smtp"\n[network]',
        'resolve.via."pobox.example"',
        "is hosted here: its mail never leaves by a carrier",
    ),
]


@pytest.fixture
def edge(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `init --postfix` writes, in the group of whoever runs this."""
    made = tmp_path / "edge"
    new = ("--name", "mx1.pobox.example", "--domain", "pobox.example", "--postfix")
    assert run("init", str(made), *new, "--set", 'bridge.group=""').code == 0
    monkeypatch.setenv("FORWARDER_CONFIG", str(made))
    assert run("check") == (0, "", "")
    return made


def typed(edge: Path, old: str, new: str) -> int:
    """Instead of `old`; the line where it begins."""
    file = edge / "forwarder.toml"
    text = file.read_text().replace('group = ""', 'group = "postfix"') if "group" in old else file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize(("old", "new", "key", "said"), MISTYPED)
def test_check_names_the_line(run: Any, edge: Path, old: str, new: str, key: str, said: str) -> None:
    os.mkfifo(edge / "pipe", 0o600)
    line = typed(edge, old, new) + (1 if new.startswith("[resolve.via]") else 0)
    checked = run("check")
    assert (checked.code, checked.out) == (2, "")
    [error] = [found for found in checked.err.splitlines() if f": {key}: " in found]
    assert said in error
    assert "internal error" not in checked.err
    assert error.startswith(f"forwarder.toml:{line}: ")


@pytest.mark.parametrize("key", ["lmtp", "submission", "postfix_map", "postfix_auth"])
@pytest.mark.parametrize("place", ["0.0.0.0:2424", "[::]:2424", "8.8.8.8:2424"])
def test_a_door_whose_guests_are_believed_is_not_for_the_world(run: Any, edge: Path, key: str, place: str) -> None:
    text = (edge / "forwarder.toml").read_text()
    [old] = [line.partition(" #")[0].rstrip() for line in text.splitlines() if line.startswith(f"{key} = ")]
    line = typed(edge, old, f'{key} = ["{place}"]')
    checked = run("check")
    assert checked.code == 0
    assert checked.err.startswith(f"forwarder.toml:{line}: listen.{key}: {place}: whoever reaches it is believed")
    assert checked.err.endswith("(warning)\n")
    typed(edge, f'"{place}"', '"10.0.0.1:2424"')
    assert run("check") == (0, "", "")


def test_mail_that_is_taken_without_a_way_for_reports_is_told(run: Any, edge: Path) -> None:
    text = (edge / "forwarder.toml").read_text()
    before, after = text.index("[bridge.smtp_out]"), text.index("[bridge.submission]")
    (edge / "forwarder.toml").write_text(text[:before] + text[after:])
    checked = run("check")
    assert checked.code == 0
    [warning] = checked.err.splitlines()
    assert warning.startswith("forwarder.toml:")
    assert ": bridge.smtp_out: is missing: of mail that fails after it was taken no sender hears" in warning
    assert warning.endswith("(warning)")


def test_domains_that_the_table_of_accounts_leaves_out_need_the_gateway(run: Any, edge: Path) -> None:
    assert run("account", "add", "gw", "--may", "originate", stdin="a password of gw\n").code == 0
    typed(edge, GATEWAY, 'account = { "pobox.example" = "gw" }')
    (edge / "accounts" / "smtpgateway.toml").unlink()
    assert run("check").code == 0
    assert run("domain", "add", "staff.example").code == 0
    checked = run("check")
    assert checked.code == 2
    assert 'bridge.smtp_in.account: there is no account "smtpgateway"' in checked.err


def test_init_leaves_nothing_behind_where_a_plugin_objects(run: Any, tmp_path: Path) -> None:
    made = tmp_path / "edge"
    new = ("--name", "mx1.pobox.example", "--domain", "pobox.example", "--postfix", "--set", 'bridge.group=""')
    refused = run("init", str(made), *new, "--set", 'bridge.smtp_out.smarthost="nonsense"')
    assert refused.code == 2
    assert "bridge.smtp_out.smarthost: expected" in refused.err
    assert not made.exists()
    assert run("init", str(made), *new).code == 0


def test_what_listens_nowhere_is_no_service_of_listen(run: Any, edge: Path) -> None:
    line = typed(edge, "lmtp = [", 'smtp_reports = ["127.0.0.1:0"]\nlmtp = [')
    checked = run("check")
    assert checked.code == 2
    assert checked.err.startswith(f"forwarder.toml:{line}: listen.smtp_reports: no plugin offers this service")
