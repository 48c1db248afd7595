"""How domains are listed."""

from __future__ import annotations

from typing import Any

from forwarder.cli.errors import one_line
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_json, print_line, print_table
from forwarder.cli.waiting import complain
from forwarder.config.lines import inside
from forwarder.config.names import ADDRESSES, domain_file, localpart_of
from forwarder.config.reading import Host
from forwarder.config.sweep import address_paths

COLUMNS = ("domain", "addresses", "patterns", "catch-all", "unknown", "tag", "dns")


def print_domains(folder: Folder, json: bool) -> int:
    """A broken file is a row without what it would say; the mistake goes to stderr."""
    hosts = folder.addresses.domains
    rows = [_row(folder, host) for host in hosts.values()]
    if json:
        print_json(rows)
    elif rows:
        print_table(COLUMNS, [_line(row) for row in rows])
    else:
        print_line("no domain is hosted here (see `forwarder domain add`)")
    complain(one_line(str(host.error)) for host in hosts.values() if host.error)
    return 0


def _row(folder: Folder, host: Host) -> dict[str, Any]:
    at = folder.settings.folder
    count = sum(localpart_of(path.name) is not None for path in address_paths(at / ADDRESSES / host.name))
    row: dict[str, Any] = {"domain": host.name, "file": inside(domain_file(at, host.name), at), "addresses": count}
    if host.domain is None:
        return row | {"broken": str(host.error)}
    catch_all = host.domain.catch_all
    return row | {
        "broken": None,
        "patterns": len(host.domain.patterns),
        "catch_all": [*map(str, catch_all.to), *catch_all.readers] if catch_all else None,
        "unknown": host.domain.unknown,
        "tag": host.domain.tag,
        "store": host.domain.store,
        "dns": host.domain.dns.mode,
    }


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "catch-all": row.get("catch_all"), "unknown": row.get("unknown", "broken")}
