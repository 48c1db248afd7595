"""What `sent` and `unsend` do: choose by handle, ask the store, print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from forwarder.cli.errors import No, Wrong
from forwarder.cli.output import print_json, print_line, print_table, when
from forwarder.reader.desk import Desk
from forwarder.reader.notebook import Sent
from forwarder.wire.msoap import DeliveryStatus

COLUMNS = ("handle", "to", "sent", "status", "read", "pinned", "went to", "subject")

_HANDLE = re.compile(r"[0-9a-f]{4,12}\Z")


def chosen(desk: Desk, handle: str | None, most: int) -> list[Sent]:
    """All, or the one whose handle begins so. Raises Wrong for what is no handle, No for an unknown one."""
    if handle is None:
        return desk.notebook.sendings(limit=most)
    if not _HANDLE.match(handle):
        raise Wrong(f"forwarder: {handle!r} is no handle: 4 to 12 hexadecimal digits")
    found = desk.notebook.sendings(handle, 2)
    if len(found) != 1:
        raise No(f"forwarder: {handle}: {'begins several handles' if found else 'unknown handle'}")
    return found


async def track(desk: Desk, sendings: Sequence[Sent]) -> list[dict[str, Any]]:
    """One row each; what another store than today's has is not asked for."""
    originator = desk.originator()
    here = [sent for sent in sendings if sent.store == originator.name]
    found = dict(zip((sent.handle for sent in here), await originator.track([s.key for s in here]), strict=True))
    return [_row(sent, found.get(sent.handle)) for sent in sendings]


async def cancel(desk: Desk, sent: Sent) -> dict[str, Any]:
    """Raises No where the store knows it no more."""
    originator = desk.originator()
    if sent.store != originator.name:
        raise No(f"forwarder: {sent.handle} was sent by {sent.store}, not by {originator.name}")
    if not await originator.cancel(sent.key):
        raise No(f"forwarder: {sent.handle}: the store knows it no more")
    desk.notebook.cancelled(sent.handle)
    return {"handle": sent.handle, "to": sent.recipient, "cancelled": True}


def print_tracked(rows: Sequence[dict[str, Any]], json: bool) -> int:
    if json:
        print_json(list(rows))
    elif rows:
        print_table(COLUMNS, [_line(row) for row in rows])
    else:
        print_line("nothing was sent from here")
    return 0


def print_cancelled(row: dict[str, Any], json: bool) -> int:
    if json:
        print_json(row)
    else:
        print_line(f"{row['handle']}: cancelled for {row['to']}")
    return 0


def _row(sent: Sent, status: DeliveryStatus | None) -> dict[str, Any]:
    return {
        "handle": sent.handle,
        "to": sent.recipient,
        "sent": when(sent.at),
        "subject": sent.subject,
        "octets": sent.size,
        "store": sent.store,
        "cancelled": sent.cancelled,
        "status": status.notificationstatus.name if status else None,
        "read": status.read.name if status else None,
        "pinned": status.pinned if status else None,
        "redirectedto": [str(mailbox) for mailbox in status.redirectedto] if status else [],
        "lastcode": status.lastcode if status else None,
    }


def _line(row: dict[str, Any]) -> dict[str, Any]:
    status = row["status"] or "unknown"
    if row["lastcode"]:
        status += f" ({row['lastcode']})"
    return {**row, "status": "cancelled" if row["cancelled"] else status, "went to": ", ".join(row["redirectedto"])}
