"""A new configuration folder, commented for an operator: what `forwarder init` writes and what `config/` shows.

Every key of the node file is there; those that stand as comments say the default, so to change one is to uncomment it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit

from forwarder.config.assign import BadAssignment, toml_value
from forwarder.config.disk import FOLDER_MODE, make_folder, sync_folder, write_new
from forwarder.config.domains import compile_domain
from forwarder.config.edge import bridged, write_gateway
from forwarder.config.lines import ConfigError, ConfigErrors, key_path, parse
from forwarder.config.names import ACCOUNTS, ADDRESSES, DOMAINS, domain_file, hosted_domain
from forwarder.config.settings import FILE, Limits, Settings
from forwarder.config.tables import validate
from forwarder.model import parse_domain

INODES_LEAST = 100
INODES_FEW = 100_000

NODE = """\
# The node: who we are, where we listen, what we keep. `forwarder check` reads it and says what is wrong.
# A line that begins with "# " and a key shows the default; take the mark away to change it.

[node]
name = "{name}"
# state = "state"                      # folder of the database and of message bodies, beside this file
# recheck = "1s"                       # how long a looked-up address file is trusted
# drain = "15s"                        # SIGTERM: finish what is under way, at most this long

[listen]                               # each service on its own address; port 0 picks a free one
rnasp = ["0.0.0.0:7101"]               # the world notifies
msrap = ["0.0.0.0:7102"]               # the world fetches from our store
rnaqp = ["127.0.0.1:7103"]             # our readers poll
msoap = ["127.0.0.1:7104"]             # our originators submit
dns = ["127.0.0.1:7153"]               # our zones, if we serve them ourselves
# rnasp_tls = []                       # the same with TLS from the first octet, once [[tls]] has a certificate
# msrap_tls = []
# rnaqp_tls = []
# msoap_tls = []

# [[tls]]                              # one for each certificate; the first is the default
# domains = ["{domain}", "{name}"]
# certificate = "tls/fullchain.pem"
# key = "tls/privkey.pem"

[public]                               # what the world is told where it differs from [listen], as behind NAT
# rnasp = "{name}:7101"
# msrap = "{name}:7102"

[resolve]
# nameservers = []                     # "ADDRESS" or "ADDRESS:PORT"; empty: the system's
[resolve.zones]                        # zones asked elsewhere
# "isp.example" = ["127.0.0.1:7253"]
[resolve.static]                       # asked before the DNS, like a hosts file
# "isp.example" = {{ rnasp = "127.0.0.1:7201", msrap = "127.0.0.1:7202" }}

[network]
# allow = []                           # private networks we may connect to nevertheless
# literals = false                     # accept stores named by IP address
# clear_login = []                     # networks that may log in without TLS, besides loopback
# trusted = ["127.0.0.0/8", "::1/128"] # our own machines: no rate limits
# redirect_require_tls = false
# require_tls = []                     # domains (and those below) we only speak to over TLS; "*": all
# clear_fallback = []                  # domains we speak to in clear if the TLS they publish fails; "*": all
# ca = ""                              # a file of authorities to believe besides the system's, as of a lab

[store]
# lifetime = "30d"                     # of what nobody fetches
# max_size = "200MiB"                  # of one message
# quota = "1GiB"                       # of one account, and of the copies of one address
# quota_per_store = "768MiB"           # of these copies, from one store; 0: no more limit
# quota_per_sender = "256MiB"          # of these, from one sender there

[trace]
# keep = "90d"                         # what `forwarder trace` can still tell

[retry]                                # what is owed to a target
# first = "30s"                        # doubling to `longest`
# longest = "24h"
# give_up = "7d"

[limits]                               # each named in the answer when it strikes; 0: none
# sessions = 12000
# sessions_per_address = 100
# submitter_rate = 200                 # notifications a second from one address
# targets = 50                         # of one address
# depth = 10                           # addresses that forward to addresses here
# hops = 8                             # forwarders a notification may have passed
# waiting = 10000                      # of a mailbox that waits or holds here
# waiting_per_sender = 200
# per_sender_per_day = 1000
# per_store_per_day = 5000
# remembered = 5000000                 # rows of memory against repeats

[plugins]
# disable = []
"""

DOMAIN = """\
# {domain} is hosted here because this file exists. Its addresses: addresses/{domain}/NAME.toml, one file each.

# catch_all = {{ to = ["lost@isp.example"] }}   # for names nobody has; absent: none
# unknown = "refuse"                            # or "accept": tell strangers nothing
# tag = "+"                                     # sales+de is sales; "" switches tags off
# store = "{domain}"                            # the domain our own notifications name as the store

[defaults]                                      # any key of an address; its own file wins
# note = ""

# [[pattern]]                                   # names by pattern; most literal characters win, a tie is an error
# match = "sales-*"
# to = ["{{1}}@staff.example"]

[dns]
# mode = "delegate"                             # we serve only _im2000-user.{domain}; "serve": the whole zone; "off"
# nameservers = []                              # the names that the delegation gives; none: this node's
# contact = "hostmaster@{domain}"
# ttl = "1h"
"""

ADDRESSES_README = """\
One address, one file: `addresses/DOMAIN/NAME.toml`. `forwarder add NAME@DOMAIN to=SOMEBODY@ELSEWHERE` writes one,
any editor changes it, `forwarder check` reads them all, `forwarder why NAME@DOMAIN` says what will happen.
"""

ACCOUNTS_README = """\
Who may log in, one file each: `accounts/NAME.toml`. `forwarder account add NAME --may read,originate` writes one.
"""


def write_fresh(folder: Path, name: str, domain: str, sets: Sequence[str] = (), queue: str = "") -> list[str]:
    """Writes a new configuration folder; sets: `TABLE.KEY=VALUE` of the node file, the values TOML.

    queue: the queue directory of the Postfix at its edge, "" = none.
    What to be wary of (few free inodes) is returned. Raises ValueError for a name or domain that is none, ConfigErrors,
    BadAssignment, OSError; a folder that has contents is left alone.
    """
    name, domain = parse_domain(name), hosted_domain(domain)
    fresh = NODE.format(name=name, domain=domain)
    node = with_sets(bridged(fresh, domain, queue) if queue else fresh, sets)
    document = parse(node, FILE)
    validate(Settings, document.data, document)
    text, file = DOMAIN.format(domain=domain), f"{DOMAINS}/{domain}.toml"
    compile_domain(parse(text, file), domain, {}, Limits())
    if folder.exists() and any(folder.iterdir()):
        raise ConfigErrors([ConfigError(str(folder), 0, "", "is not empty; init writes only new folders")])
    made = not folder.exists()
    make_folder(folder)
    warnings = _inodes(folder)
    if made:
        os.chmod(folder, FOLDER_MODE)
    for inner in (ADDRESSES, f"{ADDRESSES}/{domain}", DOMAINS, ACCOUNTS):
        make_folder(folder / inner)
        os.chmod(folder / inner, FOLDER_MODE)
    write_new(folder / ADDRESSES / "README.md", ADDRESSES_README)
    write_new(folder / ACCOUNTS / "README.md", ACCOUNTS_README)
    write_new(domain_file(folder, domain), text)
    if queue:
        write_gateway(folder)
    write_new(folder / FILE, node)
    sync_folder(folder)
    return warnings


def with_sets(text: str, sets: Sequence[str]) -> str:
    """The node file with `TABLE.KEY=VALUE` set, comments kept. Raises BadAssignment."""
    document: Any = tomlkit.parse(text)
    expected: Any = tomllib.loads(text)
    for assignment in sets:
        path, value = _set(assignment)
        for table, new in ((document, tomlkit.table), (expected, dict)):
            for step in path[:-1]:
                if not isinstance(table.setdefault(step, new()), dict):
                    raise BadAssignment(f"{assignment!r}: {step} is no table")
                table = table[step]
            table[path[-1]] = value
    result = tomlkit.dumps(document)
    if tomllib.loads(result) != expected:
        raise BadAssignment(f"{', '.join(sets)}: cannot be set together; edit {FILE} by hand")
    return result


def _set(text: str) -> tuple[tuple[str, ...], Any]:
    try:
        path, at = key_path(text)
    except ValueError:
        path, at = (), 0
    if len(path) < 2 or text[at : at + 1] != "=":
        raise BadAssignment(f"{text!r}: expected TABLE.KEY=VALUE, the value as in TOML")
    return path, toml_value(text[at + 1 :])


def _inodes(folder: Path) -> list[str]:
    """Every address is a file: a file system without free inodes is no place for them."""
    status = os.statvfs(folder)
    if not status.f_files:  # file systems that make inodes as they go count none
        return []
    if status.f_favail < INODES_LEAST:
        text = f"only {status.f_favail} more files fit on this file system: every address is one"
        raise ConfigErrors([ConfigError(str(folder), 0, "", text)])
    if status.f_favail < INODES_FEW:
        return [f"{status.f_favail} more files fit on this file system: every address is one (mkfs -i 4096 makes more)"]
    return []
