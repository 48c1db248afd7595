"""The record of a user in the DNS, read (protocol 5.0 "User-level DNS"). Its writer is `model.format_user_record`.

Strict: any syntax error voids the record, as if it were not there; unknown tags are passed over.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from forwarder.model import LOCALPART_OCTETS, Mailbox, parse_domain
from forwarder.ports import UserRecord

RECORDS = 10  # of a user; more are cut off

_TAG = re.compile(r"\s*([a-z][a-z0-9_-]*)\s*=\s*([\x21-\x3a\x3c-\x7e]*)\s*\Z", re.ASCII)
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~@-]|%[0-9A-Fa-f]{2})+\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,5}\Z", re.ASCII)


def parse_user_record(text: str) -> UserRecord | None:
    """One TXT record, its strings joined. None: void."""
    try:
        return _parse(text)
    except ValueError:
        return None


def parse_user_records(texts: Iterable[str]) -> tuple[UserRecord, ...]:
    """What the records of a user say, by (group, priority, to), the first ten."""
    records = [record for record in map(parse_user_record, texts) if record]
    return tuple(sorted(records, key=lambda r: (r.group, r.priority, str(r.to or "")))[:RECORDS])


def _parse(text: str) -> UserRecord:
    tags: dict[str, str] = {}
    for part in text.removesuffix(";").split(";"):
        match = _TAG.match(part)
        if not match or match[1] in tags or (not tags and match.groups() != ("v", "im2k1")):
            raise ValueError("no list of tags that begins with the version")
        tags[match[1]] = match[2]
    to = _mailbox(tags["to"]) if tags.get("to") else None
    if "to" not in tags or tags.get("k", "temp") not in ("perm", "temp"):
        raise ValueError("no target, or an unknown kind")
    rna = parse_domain(tags["rna"]) if "rna" in tags else to.domain if to else ""
    return UserRecord(to, rna, _number(tags, "g", 0), _number(tags, "pri", 10), tags.get("k") == "perm")


def _number(tags: dict[str, str], tag: str, default: int) -> int:
    value = tags.get(tag, str(default))
    if not _NUMBER.match(value) or int(value) > 65535:
        raise ValueError(f"{tag} is no number")
    return int(value)


def _mailbox(encoded: str) -> Mailbox:
    if not _ENCODED.match(encoded):
        raise ValueError("characters that should be percent-encoded")
    local, at, domain = unquote_to_bytes(encoded).decode("utf-8").rpartition("@")
    if not at or not 0 < len(local.encode()) <= LOCALPART_OCTETS:
        raise ValueError("no mailbox")
    if any(unicodedata.category(character) == "Cc" for character in local):
        raise ValueError("control characters in a mailbox")
    return Mailbox(local, parse_domain(domain))
