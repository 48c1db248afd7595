"""What `init --postfix` writes, and the lines that Postfix is given."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from forwarder.config.accounts import compile_account
from forwarder.config.edge import BRIDGE, LIMITS, LISTEN, Apart, Edge, main_cf, master_cf
from forwarder.config.fresh import write_fresh
from forwarder.config.lines import parse, read
from forwarder.config.settings import load_settings
from forwarder.config.tables import UnixPath
from forwarder.model import Endpoint
from forwarder.plugins import load
from forwarder_smtp_bridge.options import BridgeOptions

UNIX = Edge(
    ["pobox.example", "staff.example"],
    "srs.pobox.example",
    UnixPath("/q/forwarder/lmtp"),
    UnixPath("/q/forwarder/map"),
    UnixPath("/q/forwarder/submit"),
    UnixPath("/q/forwarder/auth"),
    31457280,
    10,
    "127.0.0.1:10025",
)


def test_a_fresh_folder_listens_in_the_queue_directory_and_has_its_secret(tmp_path: Path) -> None:
    write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example", queue="/q")
    settings = load_settings(tmp_path / "new")
    doors = {name: [str(place) for place in places] for name, places in settings.listen.doors.items()}
    assert doors == {
        "lmtp": ["unix:/q/forwarder/lmtp"],
        "submission": ["unix:/q/forwarder/submit"],
        "postfix_map": ["unix:/q/forwarder/map"],
        "postfix_auth": ["unix:/q/forwarder/auth"],
        "pop3": ["127.0.0.1:7110"],
    }
    secret = tmp_path / "new" / "srs.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_text().strip()) == 32
    write_fresh(tmp_path / "other", "mx1.pobox.example", "pobox.example", queue="/q")
    assert secret.read_text() != (tmp_path / "other" / "srs.secret").read_text()


def test_the_null_sender_may_submit_only_where_the_account_does_not_hang_on_it() -> None:
    assert (
        "smtpd_sender_restrictions=check_sender_access,inline:{<>=REJECT},reject_sender_login_mismatch\n"
        in master_cf(UNIX)
    )
    fixed = master_cf(UNIX._replace(by_sender=False))
    assert "smtpd_sender_restrictions=reject_sender_login_mismatch\n" in fixed


def test_mail_that_comes_in_has_an_owner_from_the_start(tmp_path: Path) -> None:
    write_fresh(tmp_path / "new", "mx1.pobox.example", "pobox.example", queue="/q")
    account = compile_account(read(tmp_path / "new" / "accounts" / "smtpgateway.toml", tmp_path))
    assert (account.may, account.state) == (("originate",), "on")


def test_the_defaults_shown_as_comments_are_the_defaults() -> None:
    shown = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", BRIDGE)
    plain, said = (parse(text.format(domain="x.example"), "x").data["bridge"] for text in (BRIDGE, shown))
    assert said != plain
    assert BridgeOptions.model_validate(said) == BridgeOptions.model_validate(plain)


def test_the_page_for_operators_shows_the_same_tables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "postfix.md").read_text()
    shown = parse(page.partition("```toml\n")[2].partition("```")[0], "docs/postfix.md").data
    written = parse("[listen]\n" + LISTEN.format(queue="/var/spool/postfix"), "x").data["listen"]
    tables = parse(BRIDGE.format(domain="pobox.example"), "x").data["bridge"]
    assert shown["listen"] == written
    assert shown["limits"] == parse(LIMITS, "x").data
    assert shown["bridge"] == {name: table for name, table in tables.items() if table}


def test_services_are_named_as_plugins_offer_them() -> None:
    named = set(parse(re.sub(r"(?m)^# ", "", "[listen]\n" + LISTEN), "x").data["listen"])
    assert named <= load().services.keys()


def test_sockets_are_named_from_the_queue_directory() -> None:
    main, master = main_cf(UNIX), master_cf(UNIX)
    assert "relay_domains = pobox.example, staff.example, srs.pobox.example\n" in main
    assert "relay_transport = im2000:unix:forwarder/lmtp\n" in main
    assert "socketmap:unix:forwarder/map:access\n" in main
    assert "queue_directory, which is /q." in main
    assert "smtpd_sasl_path=forwarder/auth\n" in master
    assert "content_filter=im2000sub:unix:forwarder/submit " in master
    assert "\n127.0.0.1:10025 inet " in master


def test_services_may_listen_on_tcp_too() -> None:
    tcp = UNIX._replace(
        lmtp=Endpoint("127.0.0.1", 1024), map=Endpoint("127.0.0.1", 1025), auth=Endpoint("127.0.0.1", 1026)
    )
    assert "relay_transport = im2000:inet:127.0.0.1:1024\n" in main_cf(tcp)
    assert "socketmap:inet:127.0.0.1:1025:access\n" in main_cf(tcp)
    assert "smtpd_sasl_path=inet:127.0.0.1:1026\n" in master_cf(tcp)


def test_what_is_not_configured_has_no_lines() -> None:
    less = UNIX._replace(submission=None, auth=None, smarthost="", returns="")
    assert master_cf(less).count("\n") == 2
    assert "relay_domains = pobox.example, staff.example\n" in main_cf(less)
    assert " inet " not in master_cf(UNIX._replace(smarthost="mail.isp.example:25", submission=None))


def test_sockets_in_two_queue_directories_are_a_mistake() -> None:
    with pytest.raises(Apart, match="/other, /q"):
        main_cf(UNIX._replace(map=UnixPath("/other/forwarder/map")))
