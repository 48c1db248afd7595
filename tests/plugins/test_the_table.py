"""The table strategy x kind of operator.md 2, cell by cell: what is allowed, and what an error tells to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forwarder.config.accounts import hash_password
from forwarder.config.check import check
from forwarder.config.fresh import write_fresh
from forwarder.model import Kind
from forwarder.plugin import Objection, StrategySpec
from forwarder.plugins import load
from forwarder.testing import make_route

ACCOUNT = f'password = "{hash_password("sesame")}"\nmay = ["read"]\n'
ONE, TWO = ["anna@isp.example"], ["bob@staff.example", "freda@staff.example"]
READER, READERS = ["bob"], ["bob", "freda"]
SPECS: Mapping[str, StrategySpec[Any]] = load().strategies


def objections(
    strategy: str, kind: Kind, to: Sequence[str] = (), readers: Sequence[str] = (), *, fallback: str | None = None
) -> Sequence[Objection]:
    """As the loader asks: of the strategy, and of the fallback as if it stood alone in its place."""
    route = make_route(strategy=strategy, kind=kind, to=to, readers=readers, fallback=fallback)
    spec = SPECS[strategy]
    found = list(spec.objections(route, spec.options()))
    if fallback:
        second = make_route(strategy=fallback, kind=kind, to=to, readers=readers)
        found += SPECS[fallback].objections(second, SPECS[fallback].options())
    return found


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('strategy = "subscribe"\nreaders = ["bob", "freda"]\nkind = "role"', "subscribe shows all that waits"),
        ('strategy = "pull_hold"\nreaders = ["bob"]', "what is held for a person"),
        ('strategy = "pull_repush"\nto = ["anna@isp.example"]', "what was copied for a person"),
        ('strategy = "redirect"\nto = ["anna@isp.example"]\nfallback = "pull_repush"', "it tells stores where to go"),
        ('strategy = "redirect"\nto = ["anna@isp.example"]\nfallback = "rewrite_resend"', None),
        ('strategy = "dns_user_lookup"\nto = ["a@isp.example", "b@isp.example"]\nfallback = "pull_repush"', None),
        ('strategy = "pull_hold"\nreaders = ["bob", "freda"]\nkind = "role"', None),
        ('strategy = "pull_repush"\nto = ["a@isp.example", "b@isp.example"]\nkind = "group"', None),
        ('to = ["a@isp.example", "b@isp.example"]\nkind = "role"', None),
        ('to = ["a@isp.example"]\nrewrite_resend.stateless = true', "stateless keeps nothing to freeze"),
    ],
)
def test_frozen_members_are_refused_where_nothing_would_be_frozen(tmp_path: Path, entry: str, said: str | None) -> None:
    write_fresh(tmp_path, "mx1.pobox.example", "pobox.example")
    for account in READERS:
        (tmp_path / "accounts" / f"{account}.toml").write_text(ACCOUNT)
    kind = "" if "kind" in entry or "dns" not in entry else '\nkind = "group"'
    (tmp_path / "addresses/pobox.example/desk.toml").write_text(f'members = "frozen"\n{entry}{kind}\n')
    found = [str(finding) for finding in check(tmp_path, SPECS) if finding.level == "error"]
    if said is None:
        assert found == []
    else:
        where = "addresses/pobox.example/desk.toml:1: members: "
        assert any(line.startswith(where + said) for line in found), found


def test_what_a_domain_says_for_all_its_addresses_need_not_mean_something_to_each(tmp_path: Path) -> None:
    write_fresh(tmp_path, "mx1.pobox.example", "pobox.example")
    (tmp_path / "accounts/bob.toml").write_text(ACCOUNT)
    (tmp_path / "domains/pobox.example.toml").write_text('[defaults]\nmembers = "frozen"\n')
    desk = tmp_path / "addresses/pobox.example/desk.toml"
    desk.write_text('strategy = "subscribe"\nreaders = ["bob"]\n')
    assert [str(finding) for finding in check(tmp_path, SPECS)] == []


@pytest.mark.parametrize(
    ("strategy", "kind", "to", "readers", "fallback"),
    [
        ("subscribe", "person", [], READER, None),
        ("subscribe", "role", [], READERS, None),
        ("redirect", "person", ONE, [], "rewrite_resend"),
        ("redirect", "person", ONE, [], "pull_repush"),
        ("redirect", "person", ONE, READER, "subscribe"),
        ("redirect", "person", ONE, READER, "pull_hold"),
        ("redirect", "group", TWO, [], "pull_repush"),
        ("redirect", "group", TWO, READERS, "pull_hold"),
        ("rewrite_resend", "person", ONE, [], None),
        ("rewrite_resend", "role", TWO, [], None),
        ("pull_repush", "person", ONE, [], None),
        ("pull_repush", "role", TWO, [], None),
        ("pull_repush", "group", TWO, [], None),
        ("pull_hold", "person", [], READER, None),
        ("pull_hold", "role", [], READERS, None),
        ("pull_hold", "group", [], READERS, None),
        ("dns_user_lookup", "person", ONE, [], "rewrite_resend"),
        ("dns_user_lookup", "group", TWO, [], "pull_repush"),
    ],
)
def test_the_table_allows(strategy: str, kind: Kind, to: list[str], readers: list[str], fallback: str | None) -> None:
    assert objections(strategy, kind, to, readers, fallback=fallback) == []


@pytest.mark.parametrize(
    ("strategy", "kind", "to", "readers", "fallback", "key", "instead"),
    [
        ("subscribe", "group", [], READERS, None, "kind", "pull_hold"),
        ("subscribe", "group", [], READERS, None, "kind", "pull_repush"),
        ("redirect", "role", TWO, [], "rewrite_resend", "kind", "rewrite_resend"),
        ("redirect", "role", ONE, [], "rewrite_resend", "kind", "a key"),
        ("rewrite_resend", "group", TWO, [], None, "kind", "pull_repush"),
        ("rewrite_resend", "group", TWO, [], None, "kind", "delete for"),
        ("dns_user_lookup", "role", TWO, [], "rewrite_resend", "kind", "rewrite_resend"),
        # the table binds the fallback too: never rewrite_resend for a group
        ("redirect", "group", TWO, [], "rewrite_resend", "kind", "pull_repush"),
        ("dns_user_lookup", "group", TWO, [], "rewrite_resend", "kind", "pull_repush"),
        ("redirect", "group", TWO, READERS, "subscribe", "kind", "pull_hold"),
        # a fallback has to have what it needs
        ("redirect", "person", ONE, [], "subscribe", "readers", "accounts"),
        ("redirect", "person", ONE, [], "pull_hold", "readers", "accounts"),
        # and it has to act: these two decline the very same senders
        ("redirect", "person", ONE, [], "dns_user_lookup", "fallback", "rewrite_resend"),
        ("redirect", "person", ONE, [], "redirect", "fallback", "rewrite_resend"),
        ("dns_user_lookup", "person", ONE, [], "redirect", "fallback", "rewrite_resend"),
        ("dns_user_lookup", "group", TWO, [], "redirect", "fallback", "pull_repush"),
        # what is required
        ("redirect", "person", ONE, [], None, "fallback", "rewrite_resend"),
        ("redirect", "group", TWO, [], None, "fallback", "pull_repush"),
        ("dns_user_lookup", "person", ONE, [], None, "fallback", "rewrite_resend"),
        ("subscribe", "person", ONE, [], None, "readers", "accounts"),
        ("pull_hold", "role", ONE, [], None, "readers", "accounts"),
        ("redirect", "person", [], [], "rewrite_resend", "to", "needs"),
        ("rewrite_resend", "person", [], READER, None, "to", "needs"),
        ("pull_repush", "person", [], READER, None, "to", "needs"),
        ("dns_user_lookup", "person", [], [], "rewrite_resend", "to", "needs"),
        # several without a kind: the error names "two mailboxes of one person" and both ways out
        ("redirect", "person", TWO, [], "pull_repush", "to", "two mailboxes of one person"),
        ("rewrite_resend", "person", TWO, [], None, "to", "two mailboxes of one person"),
        ("rewrite_resend", "person", TWO, [], None, "to", "the first un-pin closes it"),
        ("rewrite_resend", "person", TWO, [], None, "to", "each has it"),
        ("pull_repush", "person", TWO, [], None, "to", "two mailboxes of one person"),
        ("dns_user_lookup", "person", TWO, [], "pull_repush", "to", "two mailboxes of one person"),
        ("subscribe", "person", [], READERS, None, "readers", 'kind = "role"'),
        ("pull_hold", "person", [], READERS, None, "readers", 'kind = "group"'),
        # at most ten of them in an answer or in the DNS
        ("redirect", "group", [f"m{n}@x.example" for n in range(11)], [], "pull_repush", "to", "at most 10"),
        ("dns_user_lookup", "group", [f"m{n}@x.example" for n in range(11)], [], "pull_repush", "to", "at most 10"),
    ],
)
def test_the_table_forbids(
    strategy: str, kind: Kind, to: list[str], readers: list[str], fallback: str | None, key: str, instead: str
) -> None:
    found = objections(strategy, kind, to, readers, fallback=fallback)
    assert any(one.key == key and instead in one.text for one in found), found


@pytest.mark.parametrize("strategy", ["redirect", "dns_user_lookup"])
def test_ten_targets_are_still_allowed(strategy: str) -> None:
    ten = [f"m{n}@x.example" for n in range(10)]
    assert objections(strategy, "group", ten, fallback="pull_repush") == []


def test_tokens_come_one_for_each_target() -> None:
    spec = SPECS["redirect"]
    route = make_route(strategy="redirect", kind="group", to=TWO, fallback="pull_repush")
    assert spec.objections(route, spec.options.model_validate({"tokens": ["a", ""]})) == ()
    (found,) = spec.objections(route, spec.options.model_validate({"tokens": ["a"]}))
    assert found.key == "redirect.tokens"
    assert "1 tokens for 2 targets" in found.text
