"""Files of an operator, and what he types: a value, or mistakes told with their file and line, each in one line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import partial
from typing import Any

import tomli_w
from pydantic import BaseModel

from forwarder.config.accounts import AccountTable, compile_account
from forwarder.config.assign import BadAssignment, apply, parse_assignment
from forwarder.config.domains import Domain, DomainTable, compile_domain, ties
from forwarder.config.edit import edited, written
from forwarder.config.entries import Core, compile_entry
from forwarder.config.lines import ConfigErrors, Document, parse
from forwarder.config.settings import Limits, Settings
from forwarder.config.tables import validate
from forwarder.model import Mailbox, Route
from forwarder.plugins import load
from forwarder.reader.me import _File as MeFile
from forwarder.testing import make_case, make_ports

from .target import Once, Target, plain

FILE = "some/file.toml"
POBOX = "pobox.example"
BRIAN = Mailbox("brian", POBOX)
WORDS = [
    *(b'"', b"'", b'"""', b"[", b"]", b"[[", b"{", b"}", b"=", b",", b".", b"#", b"\n", b"\\u0041", b"\\n", b"\x7f"),
    *(b"{1}", b"{2}", b"*", b"?", b"[!a-z]", b"@", b"true", b"1979-05-27T07:32:00Z", b"0x7fffffffffffffff", b"inf"),
    *(b"99999999999999999999", b"1e999", "é".encode(), "ß".encode(), b"xn--", b"10.0.0.0/8", b"[::1]:53", b"-1"),
    *(b'to = ["a@isp.example"]\n', b'kind = "role"\n', b'strategy = "redirect"\n', b'fallback = "rewrite_resend"\n'),
]
NODE = b"""[node]
name = "mx1.pobox.example"
recheck = "1s"
[listen]
rnasp = ["127.0.0.1:7101"]
dns = ["[::1]:7153"]
[[tls]]
domains = ["pobox.example"]
certificate = "c.pem"
key = "k.pem"
[public]
rnasp = "mx1.pobox.example:7101"
[resolve]
nameservers = ["127.0.0.1", "[::1]:53"]
[resolve.zones]
"isp.example" = ["127.0.0.1:7253"]
[resolve.static]
"isp.example" = { rnasp = "127.0.0.1:7201", msrap = "127.0.0.1:7202" }
[network]
allow = ["10.0.0.0/8"]
[store]
lifetime = "30d"
max_size = "200MiB"
[retry]
first = "30s"
longest = "24h"
[limits]
targets = 50
[plugins.signature]
require = []
"""
DOMAIN = b"""tag = "+"
catch_all = { to = ["lost@pobox.example"] }
[defaults]
note = "x"
[[pattern]]
match = "sales-*"
to = ["{1}@staff.example"]
[[pattern]]
match = "s?les[!a-z]"
strategy = "subscribe"
readers = ["r{1}"]
[dns]
nameservers = ["ns1.pobox.example"]
contact = "hostmaster@pobox.example"
ttl = "1h"
"""
ADDRESSES = [
    b'to = ["brian@isp.example"]\nexpects = [{ original = "a@b.example", via = "c.example", token = "t" }]\n',
    b'strategy = "redirect"\nkind = "group"\nto = ["bob@staff.example", "freda@staff.example"]\n'
    b'fallback = "pull_repush"\n[redirect]\nscope = "once"\nttl = "7d"\n[pull_repush]\nmax_size = "30MiB"\n',
    b'strategy = "pull_hold"\nkind = "role"\nreaders = ["bob", "freda"]\n[pull_hold]\nkeep = "7y"\n',
    b'strategy = "dns_user_lookup"\nto = ["anna@isp.example"]\nfallback = "rewrite_resend"\nexpires = 2027-01-01\n',
    b'strategy = "subscribe"\nreaders = ["brian"]\nlimits = { waiting_per_sender = 50 }\nstate = "off"\n',
]
ACCOUNT = (
    b'password = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"\n'
    b'may = ["read", "originate"]\nlimits = { notifications_per_day = 5 }\n'
)
ME = (
    b'[store]\nmsoap = "127.0.0.1:7104"\naccount = "brian"\npassword_file = "p"\n'
    b'[[agent]]\nrnaqp = "127.0.0.1:7103"\naccount = "brian"\npassword_file = "p"\n'
    b'[[list]]\nmsrap = "127.0.0.1:7102"\nname = "minutes@pobox.example"\n'
)
EDITS = [
    b'to+=freda@isp.example\nkind=role\nredirect.ttl=1h\nnote=\n---\n# why\nto = ["a@isp.example"]  # x\n[redirect]\n',
    b'limits.targets=5\nexpires=2027-01-01\npull_hold.keep=7y\n---\nstrategy = "x"\nlimits = { waiting = 1 }\n',
    b"to=" + b"[" * 400 + b"]" * 400 + b"\n---\n",
    b'dns.mode=serve\n"a.b".c=[1, {x = 2}]\n---\n[dns]\nmode = "off"\n[[pattern]]\nmatch = "x"\n',
]


def told(read: Callable[[Document], object], octets: bytes) -> None:
    """Reads a file; each mistake is told with its place, in one line that a terminal only prints."""
    text = octets.decode("utf-8", "replace")
    try:
        read(parse(text, FILE))
    except ConfigErrors as found:
        mistakes = found.errors
    else:
        return
    assert mistakes
    for mistake in mistakes:
        assert mistake.file == FILE
        assert 0 <= mistake.line <= text.count("\n") + 1
        assert str(mistake).startswith(f"{FILE}:")
        assert str(mistake).isprintable(), str(mistake)


def settings() -> Once:
    return partial(told, _settings)


def _settings(document: Document) -> None:
    read = validate(Settings, document.data, document)
    assert validate(Settings, document.data, document) == read


def address() -> Once:
    specs, ports = load().strategies, make_ports()
    domain = compile_domain(parse("", FILE), POBOX, specs, Limits())

    def read(document: Document) -> None:
        route = compile_entry(domain.place(document), specs, Limits(), BRIAN, "exact")
        planned(route)

    def planned(route: Route) -> None:
        """Who passes the check can be planned, and his records made."""
        for name in filter(None, (route.strategy, route.fallback)):
            if route.state != "gone":
                spec = specs[name]
                strategy = spec.make(route, route.options[name], ports)
                assert strategy.plan(make_case(route)).steps
                if spec.records is not None:
                    list(spec.records(route, route.options[name]))

    return partial(told, read)


def domain() -> Once:
    specs = load().strategies

    def read(document: Document) -> None:
        compiled: Domain = compile_domain(document, POBOX, specs, Limits())
        found = list(ties(compiled))
        assert all(tie.line for tie in found)
        for local in ("brian", "sales-x", "sales-", "s+t", "sélès1", ""):
            for route in compiled.contenders(Mailbox(local, POBOX)):
                assert all(target.localpart and target.domain for target in route.to)

    return partial(told, read)


def assignments() -> Once:
    specs = load().strategies
    entry: dict[str, type[BaseModel]] = {"": Core, **{name: spec.options for name, spec in specs.items()}}
    models: list[dict[str, type[BaseModel]]] = [
        entry,
        {**entry, "": DomainTable, "catch_all": Core, "defaults": Core},
        {"": AccountTable},
    ]

    def once(octets: bytes) -> None:
        typed, _, before = octets.decode("utf-8", "replace").partition("\n---\n")
        try:
            asked = [parse_assignment(line) for line in typed.split("\n")]
            text = edited(before, asked, models[len(octets) % len(models)], FILE)
            table: dict[str, Any] = {}
            apply(table, asked, models[len(octets) % len(models)], dict)
            new = written(table)
            assert tomli_w.dumps(tomllib.loads(new)) == new
        except (BadAssignment, ConfigErrors):
            return
        try:
            parse(text, FILE)  # as the writer does, before it writes
        except ConfigErrors as errors:
            if not all("U+0000" in error.text for error in errors.errors):
                raise

    return once


TARGETS = [
    Target("settings", settings, [NODE], WORDS),
    Target("domain", domain, [DOMAIN], WORDS),
    Target("address", address, ADDRESSES, WORDS),
    Target("account", plain(partial(told, compile_account)), [ACCOUNT], [*WORDS, b"$", b"m=", b"v=19"]),
    Target("me", plain(partial(told, lambda d: validate(MeFile, d.data, d))), [ME], WORDS),
    Target("assignments", assignments, EDITS, [*WORDS, b"+=", b"-=", b"\n---\n", b"to+=", b"limits."], 2048),
]
