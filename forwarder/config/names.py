"""File names of addresses: one address, one file, and a name that reads back to one local part only.

The folded local part (NFC, lower case), percent-encoded where a file system would object, plus `.toml`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from forwarder.model import LOCALPART_OCTETS, Mailbox, fold_localpart, parse_domain

ADDRESSES = "addresses"
DOMAINS = "domains"
ACCOUNTS = "accounts"
SUFFIX = ".toml"
NAME_OCTETS = 250

_PLAIN = re.compile(r"(?!\.)[ -$&-.0-~]+\Z")


def file_name(localpart: str) -> str | None:
    """The file of a local part; None where it would be over 250 octets long: such an address is nobody's."""
    folded = fold_localpart(localpart)
    if not _PLAIN.match(folded):
        octets = folded.encode("utf-8", "surrogatepass")
        folded = "".join(_encoded(octet, place) for place, octet in enumerate(octets))
    return folded + SUFFIX if 0 < len(folded) <= NAME_OCTETS - len(SUFFIX) else None


def localpart_of(name: str) -> str | None:
    """The folded local part whose file this is; None if no address has this file name."""
    if not name.endswith(SUFFIX):
        return None
    try:
        localpart = unquote_to_bytes(name.removesuffix(SUFFIX)).decode()
    except UnicodeDecodeError:
        return None
    return localpart if file_name(localpart) == name and len(localpart.encode()) <= LOCALPART_OCTETS else None


def is_leftover(name: str) -> bool:
    """What editors leave behind: `*~`, `.*`, `#*#`."""
    return name.endswith("~") or name.startswith(".") or (len(name) > 1 and name[0] == name[-1] == "#")


def address_file(folder: Path, mailbox: Mailbox) -> Path | None:
    """Where the file of a mailbox is, if it can have one."""
    name = file_name(mailbox.localpart)
    return folder / ADDRESSES / mailbox.domain / name if name else None


def hosted_domain(text: str) -> str:
    """A domain that may be ours, as `parse_domain` gives it. Raises ValueError, for an IP address too: no SRV record
    can lead to it, and `[network] literals` is about the stores of others.
    """
    name = parse_domain(text)
    if name.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is an address, not a domain: mail for it could not be found by anybody")
    return name


def domain_file(folder: Path, domain: str) -> Path:
    return folder / DOMAINS / f"{domain}{SUFFIX}"


def account_file(folder: Path, name: str) -> Path:
    """The file of an account; its name is a file name as it stands (tables.is_account_name)."""
    return folder / ACCOUNTS / f"{name}{SUFFIX}"


def _encoded(octet: int, place: int) -> str:
    plain = 0x20 <= octet < 0x7F and octet not in b"/%" and not (place == 0 and octet == 0x2E)
    return chr(octet) if plain else f"%{octet:02X}"
