"""`forwarder check`: what it finds, where it says so, and what it leaves in peace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarder.config.check import check

Write = Callable[[str, str], Path]
ACCOUNT = 'password = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg"\n'


@pytest.fixture
def found(folder: Path, specs: Mapping[str, Any]) -> Callable[[], list[str]]:
    return lambda: [str(finding) for finding in check(folder, specs)]


Found = Callable[[], list[str]]


def test_a_folder_in_order_is_silent(found: Found, write: Write) -> None:
    write("accounts/brian.toml", ACCOUNT)
    write("accounts/README.md", "for people\n")
    write("addresses/README.md", "for people\n")
    write("domains/pobox.example.toml", 'catch_all = { to = ["sales@pobox.example"] }\n')
    write("brian", 'strategy = "subscribe"\nreaders = ["brian"]\nowner = "brian"\n')
    write("sales", 'kind = "role"\nto = ["brian@pobox.example", "freda@isp.example"]\n')
    assert found() == []


def test_all_mistakes_of_all_files_at_once(found: Found, write: Write) -> None:
    write("forwarder.toml", "[node]\n")
    write("domains/pobox.example.toml", 'unknown = "refuses"\ntag = "++"\n')
    write("accounts/brian.toml", 'password = "x"\n')
    write("addresses/other.example/x.toml", "")
    write("domains/good.example.toml", "")
    write("addresses/good.example/anna.toml", 'to = "x"\nnot = 1\n')
    for line, begins in zip(
        found(),
        [
            "accounts/brian.toml:1: password: is no Argon2id hash",
            "addresses/good.example/anna.toml:1: to: expected a list",
            "addresses/good.example/anna.toml:2: not: unknown key",
            "addresses/other.example: is ignored: there is no domains/other.example.toml",
            'domains/pobox.example.toml:1: unknown: expected one of "refuse"',
            "domains/pobox.example.toml:2: tag: expected one mark",
            "forwarder.toml:1: node.name: is missing",
        ],
        strict=True,
    ):
        assert line.startswith(begins)


def test_cycles_are_told_once_each(found: Found, write: Write) -> None:
    write("a", 'to = ["b@pobox.example"]\n')
    write("b", 'to = ["c@pobox.example"]\n')
    write("c", 'to = ["A+tag@pobox.example"]\n')
    write("self", '\n\nto = ["self@pobox.example"]\n')
    write("outside", 'to = ["a@pobox.example"]\n')
    assert found() == [
        "addresses/pobox.example/a.toml:1: to: a cycle: "
        "a@pobox.example -> b@pobox.example -> c@pobox.example -> a@pobox.example",
        "addresses/pobox.example/self.toml:3: to: a cycle: self@pobox.example -> self@pobox.example",
    ]


def test_a_catch_all_that_leads_to_itself_is_a_cycle(found: Found, write: Write) -> None:
    write("domains/pobox.example.toml", 'catch_all = { to = ["lost@pobox.example"] }\n')
    assert found() == ["domains/pobox.example.toml:1: to: a cycle: @pobox.example -> @pobox.example"]


def test_depth_has_a_limit(found: Found, write: Write) -> None:
    write("forwarder.toml", '[node]\nname = "mx.pobox.example"\n[limits]\ndepth = 3\n')
    for number in range(5):
        write(f"d{number}", f'to = ["d{number + 1}@pobox.example"]\n')
    write("d5", 'to = ["out@isp.example"]\n')
    assert [line.split(":")[0] for line in found()] == [f"addresses/pobox.example/d{n}.toml" for n in (0, 1)]


def test_a_diamond_of_many_ways_is_walked_quickly(found: Found, write: Write) -> None:
    for level in range(9):
        for one in range(8):
            targets = ", ".join(f'"n{level + 1}-{other}@pobox.example"' for other in range(8))
            write(f"n{level}-{one}", f'kind = "role"\nto = [{targets}]\n')
    for one in range(8):
        write(f"n9-{one}", 'to = ["out@isp.example"]\n')
    assert found() == []


def test_targets_here_must_be_somebody(found: Found, write: Write) -> None:
    write("brian", 'kind = "group"\nstrategy = "pull_repush"\nto = [\n"x@isp.example",\n"gone@pobox.example"]\n')
    assert found() == ["addresses/pobox.example/brian.toml:3: to: nobody here is gone@pobox.example"]


@pytest.mark.parametrize(
    "inner",
    [
        'strategy = "pull_repush"\nkind = "group"\nto = ["a@isp.example", "b@isp.example"]\n',
        'strategy = "redirect"\nfallback = "rewrite_resend"\nto = ["a@isp.example"]\n',
    ],
)
def test_no_group_and_no_redirect_inside_a_role(found: Found, write: Write, inner: str) -> None:
    write("sales", 'kind = "role"\nto = ["between@pobox.example"]\n')
    write("between", 'to = ["inner@pobox.example"]\n')
    write("inner", inner)
    [line] = found()
    assert line.startswith("addresses/pobox.example/sales.toml:2: to: a ")
    assert "inside a role: sales@pobox.example -> between@pobox.example -> inner@pobox.example" in line


def test_readers_and_owners_need_accounts(found: Found, write: Write) -> None:
    write("brian", 'strategy = "subscribe"\nreaders = ["brian"]\nowner = "freda"\n')
    assert [line.partition(";")[0] for line in found()] == [
        'addresses/pobox.example/brian.toml:2: readers: there is no account "brian"',
        'addresses/pobox.example/brian.toml:3: owner: there is no account "freda"',
    ]


def test_ties_of_patterns_are_errors(found: Found, write: Write) -> None:
    write(
        "domains/pobox.example.toml",
        '[[pattern]]\nmatch = "sales-*"\nto = ["a@isp.example"]\n'
        '[[pattern]]\nmatch = "*-sales"\nto = ["b@isp.example"]\n'
        '[[pattern]]\nmatch = "sal[ad]s*"\nto = ["c@isp.example"]\n',
    )
    [line] = found()
    assert line.startswith('domains/pobox.example.toml:5: pattern.match: "*-sales" ties with "sales-*" of line 2')


def test_what_is_never_used_is_a_warning(found: Found, write: Write) -> None:
    write(
        "domains/pobox.example.toml",
        'catch_all = { to = ["a@isp.example"] }\n[[pattern]]\nmatch = "*"\nto = ["b@isp.example"]\n'
        '[[pattern]]\nmatch = "brian"\nto = ["c@isp.example"]\n',
    )
    write("brian", 'to = ["a@isp.example"]\n')
    write("Brian", "")
    write("addresses/pobox.example/brian.toml~", "")
    write("addresses/pobox.example/.brian.toml.swp", "")
    write("addresses/pobox.example/#brian.toml#", "")
    write("domains/Pobox.example.toml", "")
    lines = found()
    assert all(line.endswith("(warning)") for line in lines), lines
    assert sorted(line.split(": ")[0] for line in lines) == [
        "addresses/pobox.example/#brian.toml#",
        "addresses/pobox.example/.brian.toml.swp",
        "addresses/pobox.example/Brian.toml",
        "addresses/pobox.example/brian.toml~",
        "domains/Pobox.example.toml",
        "domains/pobox.example.toml:1",
        "domains/pobox.example.toml:6",
    ]


def test_a_fallback_that_cannot_keep_its_promise(found: Found, write: Write) -> None:
    write(
        "staff",
        'strategy = "redirect"\nkind = "group"\nto = ["a@isp.example", "b@isp.example"]\nfallback = "rewrite_resend"\n',
    )
    [line] = found()
    assert line.startswith('addresses/pobox.example/staff.toml:2: kind: as fallback "rewrite_resend": a group needs')


def test_certificates_must_be_there(found: Found, write: Write) -> None:
    write("forwarder.toml", '[node]\nname = "mx.pobox.example"\n[[tls]]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    write("./c.pem", "")
    assert found() == ['forwarder.toml:5: tls.key: there is no file "k.pem"']
