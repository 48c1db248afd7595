"""How signing keys are found, told and listed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from forwarder.cli.errors import No, Wrong, one_line
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_json, print_line, print_table
from forwarder.cli.waiting import complain
from forwarder.config.domains import Domain
from forwarder.config.keys import KeyFile, KeyState, SigningKeys, text_of
from forwarder.dns.zone import NEGATIVE_TTL
from forwarder.model import parse_duration
from forwarder.signature import key_name, key_record

PASTED_WAIT = timedelta(days=1)
"""For people to paste a record into a zone that others serve."""
COLUMNS = ("store", "selector", "use", "until", "made")


def a_store(folder: Folder, name: str) -> Domain | None:
    """The domain whose zone we serve and that holds this store's keys; None where others serve it.

    Raises No: no notification of ours names it as its store.
    """
    domains = [host.domain for host in folder.addresses.domains.values() if host.domain is not None]
    if name != folder.settings.node.name and name not in {domain.store for domain in domains}:
        other = next((domain.store for domain in domains if domain.name == name), None)
        if other:
            raise No(
                f"forwarder: the notifications of {name} name {other} as their store: forwarder key rotate {other}"
            )
        raise No(f"forwarder: no domain here has {name} as its store")
    within = [domain for domain in domains if domain.dns.mode == "serve" and f".{name}".endswith(f".{domain.name}")]
    return max(within, key=lambda domain: len(domain.name), default=None)


def waits(said: str | None, serving: Domain | None) -> timedelta:
    """Served here: as long as a resolver may believe that there is no such record, and as long again for secondaries.

    Raises Wrong.
    """
    if said is None:
        return PASTED_WAIT if serving is None else serving.dns.ttl + timedelta(seconds=NEGATIVE_TTL)
    try:
        return parse_duration(said)
    except ValueError as error:
        raise Wrong(f"forwarder: --wait {said!r}: {error}") from None


def print_rotated(made: KeyFile, served: bool, told: bool, json: bool) -> int:
    """The record, and when it counts."""
    owner, record = key_name(made.store, made.selector), key_record(made.private)
    file = f"keys/{made.store}/{made.selector}.toml"
    if json:
        row = {"store": made.store, "selector": made.selector, "file": file, "owner": owner, "record": record}
        print_json({**row, "signs": text_of(made.signs), "served": served, "told": told})
        return 0
    print_line(f"key {made.selector} of {made.store} made ({file}); it signs from {text_of(made.signs)}")
    print_line(f'{owner}. IN TXT "{record}"')
    if not served:
        print_line("paste this record into the zone before then (`forwarder dns show` prints it with the others)")
    elif not told:
        print_line("no daemon runs here now: it is served from the next start")
    return 0


def print_keys(folder: Folder, store: str | None, json: bool) -> int:
    """1 where a file cannot be used."""
    keys, now = SigningKeys(folder.settings.folder), datetime.now(UTC)
    wanted = keys.stores if store is None else [store]
    rows = [_row(state) for name in wanted for state in keys.states(name, now)]
    if json:
        print_json(rows)
    elif rows:
        print_table(COLUMNS, rows)
    else:
        print_line("no keys: notifications go out unsigned (see `forwarder key rotate`)")
    complain(one_line(str(error)) for error in keys.errors)
    return 1 if keys.errors else 0


def _row(state: KeyState) -> dict[str, Any]:
    key = state.key
    return {
        "store": key.store,
        "selector": key.selector,
        "use": state.use,
        "until": text_of(state.until) if state.until else None,
        "made": text_of(key.made),
        "owner": key_name(key.store, key.selector),
        "record": key_record(key.private),
    }
