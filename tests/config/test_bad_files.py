"""Forty bad files: each mistake is told as `file:line: key: what is wrong`, all of them at once, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from forwarder.config.check import check

Write = Callable[[str, str], Path]

NODE = "forwarder.toml"
DOMAIN = "domains/pobox.example.toml"
ADDRESS = "addresses/pobox.example/brian.toml"
ACCOUNT = "accounts/brian.toml"
NAME = '[node]\nname = "mx.example"\n'
TO = 'to = ["b@isp.example"]\n'

BAD = [
    # the node file
    (NODE, "[node", "{}:1: no TOML: expected ']'"),
    (NODE, "", "{}:1: node: is missing"),
    (NODE, "[node]\n", "{}:1: node.name: is missing"),
    (NODE, '[node]\nname = "a b"\n', "{}:2: node.name: 'a b' is no domain label"),
    (NODE, NAME + "state = 5\n", "{}:3: node.state: expected a string, found 5"),
    (NODE, NAME + 'recheck = "soon"\n', '{}:3: node.recheck: expected a duration such as "90s"'),
    (NODE, NAME + "\n[lisen]\n", '{}:4: lisen: unknown key; did you mean "listen"?'),
    (NODE, NAME + "[listen]\nrnasp = [\n'127.0.0.1:1',\n'here:2']\n", "{}:6: listen.rnasp: expected an IP address"),
    (NODE, NAME + '[listen]\nrnaqp = ["127.0.0.1"]\n', '{}:4: listen.rnaqp: expected "HOST:PORT"'),
    (NODE, NAME + '[listen]\ndns = ["::1:53"]\n', '{}:4: listen.dns: expected "[IPv6]:PORT"'),
    (NODE, NAME + '[listen]\nmsrap = ["127.0.0.1:70000"]\n', '{}:4: listen.msrap: expected "HOST:PORT"'),
    (NODE, NAME + '[tls]\nkey = "k"\n', "{}:3: tls: expected [[tls]] with two brackets"),
    (NODE, NAME + '[[tls]]\nkey = "k"\n', "{}:3: tls.certificate: is missing"),
    (NODE, NAME + '[resolve.via]\n"isp.example" = "stmp"\n', '{}:4: resolve.via."isp.example": expected one of "auto"'),
    (NODE, NAME + '[network]\nallow = ["10.0.0.1/8"]\n', "{}:4: network.allow: 10.0.0.1/8 has host bits set"),
    (
        NODE,
        NAME + "[limits]\ntargets = 1001\n",
        "{}:4: limits.targets: expected less than or equal to 1000, found 1001",
    ),
    (NODE, NAME + "[limits]\nsessions = -1\n", "{}:4: limits.sessions: expected greater than or equal to 0, found -1"),
    (NODE, NAME + '[store]\nquota = "1GB"\n', '{}:4: store.quota: expected a size such as "64KiB"'),
    (NODE, NAME + 'x = """\n\n"""\n[retry]\nfirst = "0s"\n', "{}:3: node.x: unknown key"),
    (NODE, NAME + "[plugins]\ndisabled = []\n", '{}:3: plugins: unknown key "disabled"'),
    # the domain
    (DOMAIN, '\nunknown = "refused"\n', '{}:2: unknown: expected one of "refuse", "accept", found "refused"; did you'),
    (DOMAIN, 'tag = "--"\n', "{}:1: tag: expected one mark"),
    (DOMAIN, "[dns]\nmode = 1\n", '{}:2: dns.mode: expected one of "delegate"'),
    (DOMAIN, '[[pattern]]\nto = ["a@isp.example"]\n', "{}:1: pattern.match: expected a pattern such as"),
    (DOMAIN, '[[pattern]]\nmatch = "s-*"\nto = ["{2}@isp.example"]\n', "{}:3: pattern.to: {{2}} names no wildcard"),
    (
        DOMAIN,
        '[[pattern]]\nmatch = "s-*"\nto = ["{99999999999999}@isp.example"]\n',
        "{}:3: pattern.to: '{{99999999999999}}@isp.example': wildcards are numbered from {{1}} to {{20}}",
    ),
    (DOMAIN, "[catch_all]\nto = []\n", "{}:1: catch_all: says neither `to` nor `readers`"),
    (DOMAIN, "[defaults]\nstrategy = 1\n", "{}:2: defaults.strategy: expected a string, found 1"),
    (DOMAIN, '[defaults]\nkeep = "7y"\n', "{}:2: defaults.keep: unknown key"),
    # an address
    (ADDRESS, "to = [\n", "{}:1: no TOML: invalid value"),
    (ADDRESS, "", "{}:1: says neither `to` nor `readers`: expected one of them"),
    (ADDRESS, 'to = ["brian"]\n', "{}:1: to: 'brian' is no address: it has no @"),
    (ADDRESS, '# why\nto = [\n"a@isp.example",\n"b@x..y"]\nkind = "role"\n', "{}:4: to: 'b@x..y' is no address"),
    (ADDRESS, 'to = "b@isp.example"\n', '{}:1: to: expected a list, found "b@isp.example"'),
    (ADDRESS, TO + 'strategy = "redirct"\n', '{}:2: strategy: unknown strategy "redirct"; did you mean "redirect"?'),
    (ADDRESS, TO + 'sate = "off"\n', '{}:2: sate: unknown key; did you mean "state"?'),
    (
        ADDRESS,
        TO + "[rewrite_resend]\nstatless = true\n",
        '{}:3: rewrite_resend.statless: unknown key; did you mean "st',
    ),
    (
        ADDRESS,
        TO + 'kind = "grup"\n',
        '{}:2: kind: expected one of "person", "role", "group", found "grup"; did you mea',
    ),
    (ADDRESS, 'to = ["a@isp.example", "b@isp.example"]\n', '{}:1: to: 2 targets but no kind ("role" or "group"); say'),
    (ADDRESS, 'kind = "role"\nto = ["a@isp.example",\n"a@isp.example"]\n', "{}:3: to: a@isp.example is named twice"),
    (ADDRESS, 'readers = ["brian"]\n', "{}:1: strategy: is missing: an entry with readers names its strategy"),
    (ADDRESS, TO + 'strategy = "redirect"\n', "{}:1: fallback: is missing: stores that know no redirect need one"),
    (ADDRESS, TO + 'fallback = "rewrite_resend"\n', '{}:2: fallback: "rewrite_resend" is the strategy itself'),
    (ADDRESS, TO + 'kind = "group"\n', "{}:2: kind: a group needs a key for each: use pull_repush"),
    (ADDRESS, TO + "limits = { targets = 0 }\n", "{}:2: limits.targets: expected greater than or equal to 1, found 0"),
    (ADDRESS, 'state = "moved"\nstrategy = "subscribe"\nreaders = ["b"]\n', '{}:1: state: "moved" needs `to`'),
    (ADDRESS, TO + 'expires = "2026-12-31"\n', "{}:2: expires: expected a TOML date such as 2026-12-31"),
    (ADDRESS, TO + "expires = 0001-01-01T00:00:00+23:00\n", "{}:2: expires: 0001-01-01 00:00:00+23:00 is no time"),
    (ADDRESS, TO + "note = 1" + "0" * 5000 + "\n", "{}: no TOML: exceeds the limit"),
    (ADDRESS, TO + "a." * 400_000 + "a = 1\n", "{}:2: a key of over 32 parts"),
    (ADDRESS, TO + "[" + "'a.' . \"b\" . " * 20 + "c]\n", "{}:2: a key of over 32 parts"),
    (
        ADDRESS,
        'kind = "role"\nto = [' + "".join(f"'a{n}@isp.example'," for n in range(40_000)) + "]\n",
        "{}:2: to: 40000 targets, expected at most 50",
    ),
    (ADDRESS, TO + '"a\\nb\\u001b" = 1\n', '{}:2: "a\\nb\\x1b": unknown key'),
    (ADDRESS, TO + 'strategy = """\n\nsubscribe"""\n', '{}:2: strategy: unknown strategy "\\nsubscribe"; did you mean'),
    (ADDRESS, "x = " + "[" * 5000, "{}: no TOML: "),
    (ADDRESS, TO + 'via = { "c@isp.example" = "smtp" }\n', "{}:2: via: c@isp.example is none of the targets"),
    (ADDRESS, TO + 'via = "uucp"\n', "{}:2: via: expected one of auto, im2000, smtp"),
    (ADDRESS, TO + "expects = [\n{ original = 'x' }]\n", "{}:3: expects.original: 'x' is no address"),
    # an account
    (ACCOUNT, 'may = ["read"]\n', "{}:1: password: is missing"),
    (ACCOUNT, 'password = "sesame"\n', "{}:1: password: is no Argon2id hash"),
    (
        ACCOUNT,
        'password = ""\nmay = ["red"]\n',
        '{}:2: may: expected one of "read", "originate", found "red"; did you mean',
    ),
]


@pytest.mark.parametrize(("file", "text", "said"), BAD)
def test_a_bad_file(folder: Path, write: Write, specs: Mapping[str, Any], file: str, text: str, said: str) -> None:
    write(file, text)
    lines = [str(finding) for finding in check(folder, specs)]
    assert any(line.startswith(said.format(file)) for line in lines), "\n".join(lines)


def test_a_mistake_in_the_defaults_is_told_where_it_is_written(
    folder: Path, write: Write, specs: Mapping[str, Any]
) -> None:
    write(DOMAIN, '[defaults]\nfallback = "pull_repush"\nkind = "group"\n')
    write(ADDRESS, 'to = ["b@isp.example"]\n')
    lines = [str(finding) for finding in check(folder, specs)]
    assert [line.partition(" a group")[0] for line in lines] == [f"{DOMAIN}:3: defaults.kind:"]


def test_the_same_octets_that_are_no_text(folder: Path, write: Write, specs: Mapping[str, Any]) -> None:
    write(ADDRESS, "").write_bytes(b'to = ["b@isp.example"]\nnote = "\xff"\n')
    assert [str(finding) for finding in check(folder, specs)] == [f"{ADDRESS}:2: is not UTF-8"]


def test_a_domain_name_of_many_labels_is_no_long_key(folder: Path, write: Write, specs: Mapping[str, Any]) -> None:
    write(ADDRESS, f"to = ['x@{'a.' * 100}example']\nnote = '{'b.' * 100}'\n")
    assert check(folder, specs) == []
