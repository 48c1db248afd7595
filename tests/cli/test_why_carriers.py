"""`why` for targets without an agent: by whom they are reached, why, and what is asked of whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..program.names import Names  # noqa: TID252  # the name server that other tests have too

BRIDGE = """
[bridge.smtp_out]
smarthost = "127.0.0.1:10025"
[bridge.returns]
domain = "srs.pobox.example"
"""
HOST = "smtp by 127.0.0.1:10025"


@pytest.fixture
def names() -> Iterator[Names]:
    with closing(Names()) as made:
        made.records["out.example", "MX"] = ["10 mx.out.example."]
        made.records["deaf.example", "MX"] = ["0 ."]
        made.records["_im2000-rnasp._tcp.agent.example", "SRV"] = ["0 0 7101 mx.agent.example."]
        made.records["mx.agent.example", "A"] = ["93.184.216.34"]
        made.broken.add("_im2000-rnasp._tcp.unsure.example")
        yield made


@pytest.fixture
def targets(run: Any, folder: Path, names: Names) -> Any:
    """Where `why` says that each target of this address file is."""
    secret = folder / "srs.secret"
    secret.write_text("a secret of sixteen or more\n")
    secret.chmod(0o600)
    node = folder / "forwarder.toml"

    def ask(toml: str, *, bridge: str = BRIDGE, via: str = "") -> dict[str, str]:
        resolve = f'[resolve]\nnameservers = ["127.0.0.1:{names.port}"]\n{via}'
        node.write_text(f'[node]\nname = "mx1.pobox.example"\n{resolve}\n{bridge}')
        path = folder / "addresses" / "pobox.example" / "brian.toml"
        path.write_text(toml)
        found = run("why", "brian@pobox.example", "--json").json
        return {target["address"]: target["where"] for target in found["stores"]["today"]["targets"]}

    return ask


def test_who_has_no_agent_and_takes_mail_is_reached_by_smtp_and_why(targets: Any) -> None:
    said = targets('to = ["bob@out.example"]')["bob@out.example"]
    assert said == f"{HOST} (no IM2000 service: _im2000-rnasp._tcp.out.example does not exist)"


def test_who_has_an_agent_is_reached_by_it(targets: Any) -> None:
    assert targets('to = ["bob@agent.example"]') == {"bob@agent.example": "agent 93.184.216.34:7101"}


@pytest.mark.parametrize("domain", ["deaf.example", "nowhere.example", "unsure.example"])
def test_who_takes_no_mail_or_is_not_known_to_is_not(targets: Any, domain: str) -> None:
    assert targets(f'to = ["bob@{domain}"]')[f"bob@{domain}"].startswith("no agent to be found now")


def test_without_a_smarthost_nothing_is_reached_by_smtp(targets: Any) -> None:
    said = targets('to = ["bob@out.example"]', bridge="")["bob@out.example"]
    assert said.startswith("no agent to be found now (baddomain")


def test_via_of_the_file_is_shown_and_asks_no_dns(targets: Any, names: Names) -> None:
    assert targets('to = ["bob@agent.example"]\nvia = "smtp"') == {"bob@agent.example": f"{HOST} (via)"}
    assert not any("agent.example" in name for name in names.asked)


def test_via_im2000_never_goes_by_smtp(targets: Any) -> None:
    said = targets('to = ["bob@out.example"]\nvia = "im2000"')["bob@out.example"]
    assert said.startswith("no agent to be found now (baddomain")


def test_a_carrier_that_is_not_configured_waits(targets: Any) -> None:
    said = targets('to = ["bob@agent.example"]\nvia = "smtp"', bridge="")
    assert said == {"bob@agent.example": "no carrier smtp is configured: it waits"}


def test_via_of_the_node_rules_a_whole_domain(targets: Any) -> None:
    by_name = targets('to = ["bob@agent.example"]', via='[resolve.via]\n"agent.example" = "smtp"\n')
    assert by_name["bob@agent.example"].startswith(HOST)
    never = targets('to = ["bob@out.example"]', via='[resolve.via]\n"out.example" = "im2000"\n')
    assert never["bob@out.example"].startswith("no agent to be found now")


def test_a_broken_table_of_the_bridge_is_not_whys_to_complain_of(targets: Any) -> None:
    said = targets('to = ["bob@out.example"]', bridge='[bridge.smtp_out]\nsmarthost = "127.0.0.1:10025"\n')
    assert said["bob@out.example"].startswith("no agent to be found now")


def test_people_read_it_in_one_line(targets: Any, run: Any) -> None:
    targets('to = ["bob@out.example"]')
    assert f"-> bob@out.example  {HOST} (no IM2000 service" in run("why", "brian@pobox.example").out
