"""The verbs over files, end to end on a folder of their own, with and without a daemon that listens."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def accounts(run: Any, folder: Path) -> Path:
    for name in ("bob", "freda"):
        assert run("account", "add", name, "--may", "read,originate", stdin="secret\n").code == 0
    return folder


@pytest.fixture
def daemon(folder: Path) -> Iterator[Callable[[dict[str, Any]], list[dict[str, Any]]]]:
    """daemon(answer): every question on the control socket gets that answer; gives the questions, as they come."""
    (folder / "state").mkdir(mode=0o700)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "state" / "control.sock"))
    server.listen()
    asked: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"ok": True}

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as lines:
                asked.append(json.loads(lines.readline()))
                lines.write(json.dumps(answer) + "\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def play(said: dict[str, Any]) -> list[dict[str, Any]]:
        answer.clear()
        answer.update(said)
        return asked

    yield play
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


def test_init_makes_a_folder_that_check_likes_and_says_what_to_type_next(run: Any, tmp_path: Path) -> None:
    made = tmp_path / "new"
    said = run("init", str(made), "--name", "mx1.pobox.example", "--domain", "pobox.example")
    assert said.code == 0
    assert stat.S_IMODE(made.stat().st_mode) == 0o750
    typed = [line.split()[1:] for line in said.out.splitlines() if line.startswith("  forwarder")]
    assert typed[-1] == ["serve", "--config", str(made)]
    for words in typed[:-1]:
        assert run(*words, stdin="secret\n").code == 0, words
    assert run("check", "--config", str(made)) == (0, "", "")
    assert run("init", str(made), "--name", "mx1.pobox.example", "--domain", "pobox.example").code == 2


def test_an_address_from_add_to_remove(run: Any, folder: Path) -> None:
    assert run("add", "sales@pobox.example", "to=bob@staff.example,freda@staff.example", "kind=role").code == 0
    assert run("add", "sales@pobox.example", "to=x@staff.example").code == 1
    assert run("set", "sales@pobox.example", "to+=anna@staff.example", "to-=bob@staff.example", "note=hello").code == 0
    shown = run("show", "sales@pobox.example", "--json").json
    assert shown["to"] == ["freda@staff.example", "anna@staff.example"]
    assert (shown["note"], shown["state"], shown["list_names"]) == ("hello", "on", None)
    assert run("off", "sales@pobox.example", "--json").json["done"] == "off"
    assert run("show", "sales@pobox.example", "--json").json["state"] == "off"
    assert run("on", "sales@pobox.example").code == 0
    assert run("set", "sales@pobox.example", "note=").code == 0
    assert run("show", "Sales@POBOX.example", "--json").json["note"] is None
    assert run("remove", "sales@pobox.example").code == 0
    assert not (folder / "addresses" / "pobox.example" / "sales.toml").exists()


@pytest.mark.parametrize("verb", ["show", "off", "on", "remove"])
def test_nobody_there_is_1(run: Any, folder: Path, verb: str) -> None:
    for address in ("nobody@pobox.example", "nobody@elsewhere.example"):
        said = run(verb, address)
        assert (said.code, said.out) == (1, "")
        assert said.err.endswith("nobody there\n")


def test_an_edit_that_fails_changes_nothing_and_comments_stay(run: Any, folder: Path) -> None:
    file = folder / "addresses" / "pobox.example" / "anna.toml"
    file.write_text('# Anna moved\nto = ["anna@isp.example"]  # since May\n')
    assert run("set", "anna@pobox.example", "kind=rule").code == 2
    assert run("set", "anna@pobox.example", "note=x").code == 0
    assert file.read_text().startswith('# Anna moved\nto = ["anna@isp.example"]  # since May\n')


def test_list_matches_whole_addresses(run: Any, folder: Path) -> None:
    assert run("list").code == 0
    run("domain", "add", "isp.example")
    for address in ("zoe@isp.example", "bob@pobox.example", "anna@pobox.example"):
        run("add", address, "to=x@elsewhere.example")
    listed = [row["address"] for row in run("list", "--json").json]
    assert listed == ["zoe@isp.example", "anna@pobox.example", "bob@pobox.example"]
    assert [row["address"] for row in run("list", "*@POBOX.example", "--json").json] == listed[1:]
    assert run("list", "pobox*").code == 1
    assert [line.split()[0] for line in run("list", "bob@*").out.splitlines()] == ["address", "bob@pobox.example"]


def test_list_takes_a_domain_as_it_is_typed(run: Any, folder: Path) -> None:
    run("domain", "add", "bücher.example")
    run("add", "Grüße@bücher.example", "to=x@elsewhere.example")
    for glob in ("*@bücher.example", "*@BÜCHER.*", "grüße@bücher.*", "GRÜSSE@*", "*@xn--bcher-kva.example", "gr*"):
        found = run("list", glob, "--json")
        assert found.code == (1 if glob == "GRÜSSE@*" else 0), glob


def test_why_never_calls_a_broken_file_nobody(run: Any, folder: Path) -> None:
    file = folder / "addresses" / "pobox.example" / "anna.toml"
    file.write_text("to = 7\n")
    said = run("why", "anna@pobox.example")
    assert said.code == 1
    assert "nobody" not in said.out
    assert "broken     addresses/pobox.example/anna.toml:1: to: " in said.out
    found = run("why", "anna@pobox.example", "--json").json
    assert (found["nobody"], found["broken"].split(" ")[0]) == (None, "addresses/pobox.example/anna.toml:1:")
    file.unlink()
    file.mkdir()
    assert "anna.toml: is no regular file" in run("why", "anna@pobox.example").out
    assert run("why", "nobody@pobox.example", "--json").json["broken"] is None


def test_a_broken_file_is_told_and_the_rest_listed(run: Any, folder: Path) -> None:
    run("add", "bob@pobox.example", "to=x@elsewhere.example")
    (folder / "addresses" / "pobox.example" / "anna.toml").write_text("to = 7\n")
    said = run("list")
    assert "bob@pobox.example" in said.out
    assert said.err.startswith("addresses/pobox.example/anna.toml:1: to: ")
    assert run("show", "anna@pobox.example").code == 2
    assert run("check").code == 2
    (finding,) = run("check", "--json").json
    assert (finding["level"], finding["file"], finding["line"]) == ("error", "addresses/pobox.example/anna.toml", 1)


def test_warnings_are_0_and_with_strict_1(run: Any, folder: Path) -> None:
    assert run("check", "--json").json == []
    (folder / "addresses" / "pobox.example" / "bob.toml~").write_text("")
    assert (run("check").code, run("check", "--strict").code) == (0, 1)


def test_check_names_a_carrier_that_nobody_configured(run: Any, folder: Path) -> None:
    file = folder / "addresses" / "pobox.example" / "bob.toml"
    file.write_text('to = ["bob@isp.example"]\nvia = "smtp"\n')
    node = folder / "forwarder.toml"
    node.write_text(node.read_text() + '[resolve.via]\n"out.example" = "smtp"\n"in.example" = "im2000"\n')
    line = len(node.read_text().splitlines()) - 1
    said = run("check")
    assert said.code == 2
    assert said.err.splitlines() == [
        "addresses/pobox.example/bob.toml:2: via: no carrier smtp is configured: senders are told to come later",
        f'forwarder.toml:{line}: resolve.via."out.example": no carrier smtp is configured',
    ]
    (folder / "srs.secret").write_text("a secret of sixteen or more\n")
    (folder / "srs.secret").chmod(0o600)
    bridge = '[bridge.smtp_out]\nsmarthost = "127.0.0.1:10025"\n[bridge.returns]\ndomain = "srs.pobox.example"\n'
    node.write_text(node.read_text() + bridge)
    assert run("check") == (0, "", "")


def test_check_network_looks_up_the_agents_of_targets(run: Any, folder: Path) -> None:
    node = folder / "forwarder.toml"
    static = '[resolve.static]\n"isp.example" = { rnasp = "127.0.0.1:7201" }\n'
    node.write_text(node.read_text().replace("[resolve.static]", static, 1))
    run("add", "bob@pobox.example", "to=bob@isp.example")
    assert run("check") == (0, "", "")
    said = run("check", "--network", "--json")
    assert said.code == 0
    assert [(row["level"], row["key"]) for row in said.json] == [("warning", "to")]
    assert "forbidden: 127.0.0.1:7201: loopback address" in said.json[0]["text"]


def test_accounts(run: Any, folder: Path) -> None:
    assert run("account", "list").code == 0
    assert run("account", "add", "bob", "--may", "read", "limits.recipients_per_day=5", stdin="secret\n").code == 0
    assert run("account", "add", "bob", "--may", "read", stdin="secret\n").code == 1
    before = (folder / "accounts" / "bob.toml").read_text()
    assert "$argon2id$" in before
    assert "secret" not in before
    assert run("account", "passwd", "bob", stdin="other\n").code == 0
    assert (folder / "accounts" / "bob.toml").read_text() != before
    assert run("account", "passwd", "freda", stdin="other\n").code == 1
    assert run("account", "off", "bob").code == 0
    (row,) = run("account", "list", "--json").json
    assert row == {"account": "bob", "may": ["read"], "state": "off", "note": "", "limits": {"recipients_per_day": 5}}
    assert run("account", "on", "bob").code == 0
    assert run("account", "remove", "bob").code == 0
    assert run("account", "remove", "bob").code == 1


def test_on_a_terminal_a_password_is_asked_twice(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["one", "two", "same", "same"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    monkeypatch.setattr("forwarder.cli.accounts._terminal", lambda: True)
    assert run("account", "add", "bob", "--may", "read").code == 2
    assert run("account", "add", "bob", "--may", "read").code == 0


def test_an_address_is_no_domain_to_host(run: Any, folder: Path) -> None:
    """Nobody could find its mail; a file of that name, made by hand, hosts nothing and is reported."""
    assert "'127.0.0.1' is an address, not a domain" in run("domain", "add", "127.0.0.1").err
    made = folder / "domains" / "127.0.0.1.toml"
    assert not made.exists()
    made.write_text("")
    assert "127.0.0.1.toml" in run("check").err
    assert [row["domain"] for row in run("domain", "list", "--json").json] == ["pobox.example"]


def test_domains(run: Any, folder: Path) -> None:
    assert run("domain", "add", "Isp.Example", "tag=-", "dns.mode=off").code == 0
    assert run("domain", "add", "isp.example").code == 1
    rows = {row["domain"]: row for row in run("domain", "list", "--json").json}
    assert (rows["isp.example"]["tag"], rows["isp.example"]["dns"]) == ("-", "off")
    assert run("domain", "set", "isp.example", "unknown=accept").code == 0
    assert run("domain", "remove", "isp.example").code == 0
    assert run("domain", "remove", "isp.example").code == 1
    assert [row["domain"] for row in run("domain", "list", "--json").json] == ["pobox.example"]


def test_dns_show_prints_what_to_paste(run: Any, folder: Path) -> None:
    run("add", "anna@pobox.example", "strategy=dns_user_lookup", "to=anna@isp.example", "fallback=rewrite_resend")
    said = run("dns", "show", "pobox.example")
    assert "_im2000-rnasp._tcp.pobox.example." in said.out
    assert 'TXT "v=im2k1; to=anna@isp.example"' in said.out
    assert "rnaqp" not in said.out, "where readers poll is nobody else's business"
    parts = run("dns", "show", "pobox.example", "--json").json
    assert [part["title"] for part in parts] == [
        "into the zone pobox.example",
        "served here, _im2000-user.pobox.example",
    ]
    assert run("dns", "show", "isp.example").code == 1


def test_plugins_tells_the_faults_the_daemon_counted(run: Any, folder: Path, daemon: Any) -> None:
    daemon({"ok": True, "plugins": {"redirect": {"faults": 3, "last": "raised ValueError"}}})
    faults = {row["name"]: row["faults"] for row in run("plugins", "--json").json["plugins"]}
    assert faults["redirect"] == {"faults": 3, "last": "raised ValueError"}
    assert faults["subscribe"] is None
    assert [line.split()[-1] for line in run("plugins").out.splitlines() if line.startswith("redirect")] == ["3"]


def test_plugins_shows_all_of_ours(run: Any, folder: Path) -> None:
    found = {row["name"] for row in run("plugins", "--json").json["plugins"]}
    assert found == {
        "subscribe", "redirect", "rewrite_resend", "pull_repush", "pull_hold", "dns_user_lookup", "signature",
        "smtp_bridge", "pop3_door",
    }  # fmt: skip
    assert "pull_hold.max_size=30MiB" in run("plugins").out


def test_without_a_daemon_status_and_reload_are_1(run: Any, folder: Path) -> None:
    for verb in ("status", "reload"):
        said = run(verb)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


def test_a_running_daemon_hears_of_every_change(run: Any, accounts: Path, daemon: Any) -> None:
    asked = daemon({"ok": True})
    assert run("add", "bob@pobox.example", "to=x@isp.example", "--json").json["told"] is True
    run("domain", "add", "isp.example")
    assert asked == [{"verb": "changed", "address": "bob@pobox.example"}, {"verb": "reload"}]


def test_status_prints_what_the_daemon_says(run: Any, folder: Path, daemon: Any) -> None:
    daemon({"ok": True, "generation": 7, "listeners": {"rnasp": ["127.0.0.1:7101"]}, "broken": []})
    assert run("status", "--json").json == {"generation": 7, "listeners": {"rnasp": ["127.0.0.1:7101"]}, "broken": []}
    assert run("status").out == "generation  7\nlisteners   rnasp 127.0.0.1:7101\nbroken      none\n"
    daemon({"ok": False, "error": "draining"})
    said = run("status")
    assert (said.code, said.err) == (1, "forwarder: the daemon says: draining\n")


def test_show_tells_the_unguessable_list_names(run: Any, accounts: Path, daemon: Any) -> None:
    run("add", "minutes@pobox.example", "strategy=pull_hold", "kind=role", "readers=bob,freda")
    asked = daemon({"ok": True, "names": {"bob": "b0b", "freda": "f4ed4"}})
    assert run("show", "minutes@pobox.example", "--json").json["list_names"] == {"bob": "b0b", "freda": "f4ed4"}
    assert asked[-1] == {"verb": "list_names", "address": "minutes@pobox.example"}
    assert "freda = f4ed4" in run("show", "minutes@pobox.example").out
