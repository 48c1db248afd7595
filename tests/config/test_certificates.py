"""Certificates as `check` and the daemon's start see them: each mistake at its line of the node file."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from forwarder.config.certificates import require_all
from forwarder.config.check import check
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import load_settings

NODE = """\
[node]
name = "mx.pobox.example"
[listen]
rnasp_tls = ["127.0.0.1:0"]
[[tls]]
domains = ["pobox.example"]
certificate = "c.pem"
key = "k.pem"
"""
AUTHORITY = trustme.CA()
UNNAMED = "the certificate does not name pobox.example: peers will refuse it"
IN_PEM = "in PEM that we can read"
NO_CERTIFICATE = f'7: tls.certificate: "c.pem" holds no certificate {IN_PEM}'

Found = Callable[[], list[str]]


@pytest.fixture
def found(folder: Path, specs: Mapping[str, Any]) -> Found:
    (folder / "forwarder.toml").write_text(NODE)
    return lambda: [str(finding) for finding in check(folder, specs)]


def issue(folder: Path, *names: str, **more: Any) -> None:
    issued = AUTHORITY.issue_cert(*names, **more)
    (folder / "c.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "k.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "k.pem").chmod(0o600)


def in_days(days: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def test_a_good_pair_is_silent(folder: Path, found: Found) -> None:
    issue(folder, "pobox.example", not_after=in_days(15))
    assert found() == []
    require_all(load_settings(folder))


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (["pobox.example"], 13, "7: tls.certificate: expires in 13 days (warning)"),
        (["pobox.example"], -1, "7: tls.certificate: has expired (warning)"),
        (["other.example"], 90, f"6: tls.domains: {UNNAMED} (warning)"),
    ],
)  # fmt: skip
def test_a_pair_that_peers_will_refuse_is_warned_of(
    folder: Path, found: Found, names: list[str], days: float, said: str
) -> None:
    issue(folder, *names, not_after=in_days(days))
    assert found() == [f"forwarder.toml:{said}"]
    require_all(load_settings(folder))


def test_a_wildcard_names_what_is_directly_below(folder: Path, found: Found) -> None:
    (folder / "forwarder.toml").write_text(NODE.replace('"pobox.example"', '"pobox.example", "a.b.example"'))
    issue(folder, "pobox.example", "*.b.example")
    assert found() == []


def test_a_hosted_domain_that_no_certificate_serves_is_warned_of(folder: Path, found: Found) -> None:
    issue(folder, "pobox.example")
    (folder / "domains" / "second.example.toml").write_text("")
    assert found() == ["forwarder.toml:5: tls: second.example is hosted here and no [[tls]] domains names it (warning)"]


def test_a_key_that_anybody_can_read_is_warned_of(folder: Path, found: Found) -> None:
    issue(folder, "pobox.example")
    (folder / "k.pem").chmod(0o644)
    assert found() == ["forwarder.toml:8: tls.key: anybody on this machine can read it; chmod o-r (warning)"]


def _another_key(folder: Path) -> None:
    (folder / "k.pem").write_bytes(AUTHORITY.issue_cert("pobox.example").private_key_pem.bytes())


def _with_password(folder: Path) -> None:
    key = load_pem_private_key((folder / "k.pem").read_bytes(), None)
    hidden = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "k.pem").write_bytes(hidden)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_another_key, '8: tls.key: "k.pem" is not the key of this certificate'),
        (_with_password, '8: tls.key: "k.pem" holds no key in PEM that we can read'),
        (lambda folder: (folder / "k.pem").write_text("key"), f'8: tls.key: "k.pem" holds no key {IN_PEM}'),
        (lambda folder: (folder / "c.pem").write_text("x"), NO_CERTIFICATE),
        (lambda folder: (folder / "c.pem").write_bytes(b"\xff"), NO_CERTIFICATE),
        (lambda folder: (folder / "k.pem").unlink(), '8: tls.key: there is no file "k.pem"'),
        (lambda folder: (folder / "c.pem").unlink(), '7: tls.certificate: there is no file "c.pem"'),
    ],
)  # fmt: skip
def test_a_pair_that_does_not_load_is_an_error_here_and_at_start(
    folder: Path, found: Found, harm: Callable[[Path], object], said: str
) -> None:
    issue(folder, "pobox.example")
    harm(folder)
    assert found() == [f"forwarder.toml:{said}"]
    with pytest.raises(ConfigErrors) as refused:
        require_all(load_settings(folder))
    assert str(refused.value) == f"forwarder.toml:{said}"


def test_a_listener_without_any_certificate_is_an_error(folder: Path, found: Found) -> None:
    (folder / "forwarder.toml").write_text(NODE.partition("[[tls]]")[0])
    said = "forwarder.toml:4: listen.rnasp_tls: needs a certificate: add a [[tls]] table"
    assert found() == [said]
    with pytest.raises(ConfigErrors, match="needs a certificate"):
        require_all(load_settings(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [("no PEM", '"a.pem" holds no certificates in PEM that we can read'), (None, 'there is no file "a.pem"')],
)
def test_authorities_must_be_there(folder: Path, found: Found, text: str | None, said: str) -> None:
    (folder / "forwarder.toml").write_text('[node]\nname = "mx.pobox.example"\n[network]\nca = "a.pem"\n')
    if text is not None:
        (folder / "a.pem").write_text(text)
    assert found() == [f"forwarder.toml:4: network.ca: {said}"]


def test_policies_are_domains_or_all(folder: Path, found: Found) -> None:
    network = '[network]\nrequire_tls = ["*", "ISP.example"]\nclear_fallback = ["all of them"]\n'
    (folder / "forwarder.toml").write_text('[node]\nname = "mx.pobox.example"\n' + network)
    [said] = found()
    assert said.startswith("forwarder.toml:5: network.clear_fallback: 'all of them' is no domain")
