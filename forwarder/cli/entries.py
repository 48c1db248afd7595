"""How entries are printed: one with all it says, or many in a table."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from forwarder.cli.errors import No, one_line
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_facts, print_json, print_table
from forwarder.config.lines import ConfigError
from forwarder.config.sweep import sweep
from forwarder.model import Route, fold_localpart, format_duration, parse_domain

PULL_HOLD = "pull_hold"


def print_entry(folder: Folder, route: Route, json: bool) -> int:
    entry = describe(route) | {"list_names": _list_names(folder, route)}
    if json:
        print_json(entry)
        return 0
    entry["file"] = f"{route.file}:{route.line}"
    shown = {name.replace("_", " "): value for name, value in entry.items() if value not in (None, [], {}, "")}
    for name in ("options", "limits", "list names", "expects"):
        if name in shown:
            shown[name] = list(_pairs(shown[name]))
    shown.pop("line")
    print_facts(shown)
    return 0


def print_list(folder: Folder, glob: str | None, json: bool) -> int:
    """1 where a GLOB matches nothing. Broken files are told on stderr; `check` says more."""
    rows = []
    wanted = None if glob is None else _folded(glob)
    for found in sweep(folder.settings.folder, folder.settings, folder.plugins.strategies):
        if isinstance(found, ConfigError):
            print(one_line(str(found)), file=sys.stderr)
        elif found.matched == "exact" and (wanted is None or fnmatch.fnmatchcase(found.entry, wanted)):
            rows.append(describe(found))
    rows.sort(key=lambda row: (row["address"].rpartition("@")[2], row["address"]))
    if json:
        print_json(rows)
    elif rows:
        print_table(("address", "strategy", "kind", "goes to", "state"), [_line(row) for row in rows])
    if glob is not None and not rows:
        raise No(f"forwarder: no address matches {glob}")
    return 0


def _folded(glob: str) -> str:
    """As entries are written: local parts folded, labels as A-labels where they hold no wildcard."""
    local, at, domain = glob.rpartition("@")
    return fold_localpart(local) + at + ".".join(map(_label, domain.split(".")))


def _label(text: str) -> str:
    try:
        return fold_localpart(text) if text.isascii() else parse_domain(text)
    except ValueError:
        return fold_localpart(text)


def describe(route: Route) -> dict[str, Any]:
    """An entry as `--json` has it."""
    return {
        "address": str(route.address),
        "entry": route.entry,
        "matched": route.matched,
        "tag": route.tag or None,
        "file": route.file,
        "line": route.line,
        "strategy": route.strategy,
        "fallback": route.fallback,
        "kind": route.kind,
        "to": [str(target) for target in route.to],
        "readers": list(route.readers),
        "state": route.state,
        "expires": route.expires.isoformat() if route.expires else None,
        "owner": route.owner,
        "note": route.note or None,
        "expects": [
            {"original": str(expect.original), "via": expect.via, "token": expect.token is not None}
            for expect in route.expects
        ],
        "via": {str(target): word for target, word in route.via.items()},
        "limits": dict(route.limits),
        "options": {name: _plain(table) for name, table in route.options.items()},
    }


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "goes to": row["to"] or [f"reader {name}" for name in row["readers"]]}


def _list_names(folder: Folder, route: Route) -> dict[str, str] | None:
    """The unguessable list names of a pull_hold address, for readers of 2004: only the daemon knows them."""
    if PULL_HOLD not in (route.strategy, route.fallback):
        return None
    try:
        names = folder.ask("list_names", address=str(route.address)).get("names")
    except No:
        return None
    return {str(account): str(name) for account, name in names.items()} if isinstance(names, dict) else None


def _plain(table: object) -> object:
    values = table.model_dump() if isinstance(table, BaseModel) else table
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    if isinstance(values, timedelta):
        return format_duration(values)
    return values if isinstance(values, str | int | float | bool | None) else str(values)


def _pairs(value: Any, name: str = "") -> Iterator[str]:
    """Tables as `key = value` lines, nested keys dotted."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _pairs(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield ", ".join(f"{key} {each}" for key, each in inner.items() if each)
    elif value is not None:
        yield f"{name} = {str(value).lower() if isinstance(value, bool) else value}"
