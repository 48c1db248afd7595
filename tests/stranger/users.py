"""Where one user is, by the records that his domain publishes (docs/protocol.md 11.2)."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

MOST = 10


def label(localpart: str) -> str:
    """Under which label of `_im2000-user.<domain>` his records stand."""
    folded = unicodedata.normalize("NFC", localpart).lower()
    return hashlib.sha256(folded.encode()).digest()[:28].hex()


@dataclass(order=True)
class Target:
    """One record. `to` empty: takes no mail; `rna`: the domain whose agent is asked."""

    group: int
    priority: int
    to: str
    rna: str
    permanent: bool


def parsed(record: str) -> Target | None:
    """None: void, or none of these records."""
    tags = dict(part.strip().partition("=")[::2] for part in record.split(";") if part.strip())
    if not record.startswith("v=im2k1") or "to" not in tags:
        return None
    try:
        to = unquote(tags["to"], errors="strict")
        group, priority = int(tags.get("g", "0")), int(tags.get("pri", "10"))
    except ValueError:
        return None
    return Target(group, priority, to, tags.get("rna", to.rpartition("@")[2]), tags.get("k") == "perm")


def targets(records: Iterable[str]) -> list[Target]:
    """One of each group, the lowest; whoever looks for agents takes the next where one cannot be found."""
    found = sorted(target for target in map(parsed, records) if target)[:MOST]
    return sorted({target.group: target for target in reversed(found)}.values())
