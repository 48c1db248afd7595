"""How the list of what waits is printed, and how an item is finished."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from forwarder.cli.errors import one_line
from forwarder.cli.output import print_json, print_line, print_table, size_of, when
from forwarder.model import Notification, handle
from forwarder.plugin import PeerError
from forwarder.reader.desk import Desk, Refreshed
from forwarder.reader.notebook import Item
from forwarder.reader.stores import notification_of

COLUMNS = ("n", "from", "to", "date", "size", "subject", "marks")


def print_refreshed(found: Refreshed, json: bool) -> int:
    """0, or 1 where an agent or list could not be asked: the list may lack something."""
    rows = [describe(item) for item in found.waiting]
    if json:
        gone = [{"number": item.number, "handle": handle(item.key)} for item in found.dead]
        print_json({"items": rows, "gone": gone, "faults": found.faults})
    else:
        for item in found.dead:
            print_line(f"{item.number}: already handled or withdrawn")
        if rows:
            print_table(COLUMNS, [_line(row) for row in rows])
        elif not found.faults:
            print_line("nothing waits")
    complain(found.faults)
    return 1 if found.faults else 0


def describe(item: Item) -> dict[str, Any]:
    """An item as `--json` has it. What only the sender says is under "claims"."""
    notification = notification_of(item)
    return {
        "number": item.number,
        "handle": handle(item.key),
        "list": item.list,
        "sender": notification.sender if notification else None,
        "store": item.store if notification else None,
        "origin": _origin(notification),
        "to": str(notification.recipient) if notification else item.list,
        "original": str(notification.original) if notification and notification.original else None,
        "date": when(item.date),
        "size": item.size,
        "shared": notification is not None and notification.shared,
        "signature": _signature(item, notification),
        "claims": {
            "from": str(notification.claimedfrom) if notification and notification.claimedfrom else None,
            "header_from": item.sender,
            "subject": item.subject,
        },
    }


async def finish(desk: Desk, item: Item) -> dict[str, Any]:
    """Un-pins and clears one item; what came of it, as `--json` has it."""
    try:
        unpinned, faults = await desk.done(item)
    except PeerError as error:
        return {"number": item.number, "handle": handle(item.key), "done": False, "text": str(error), "faults": []}
    text = "done" if unpinned else "closed, perhaps by you"
    return {"number": item.number, "handle": handle(item.key), "done": True, "text": text, "faults": faults}


def print_done(results: Sequence[dict[str, Any]], json: bool) -> int:
    """1 where a store could not be asked: nothing of that item has changed."""
    if json:
        print_json(list(results))
    for result in results:
        if not json and result["done"]:
            print_line(f"{result['number']}: {result['text']}")
        if not result["done"]:
            complain([f"{result['number']}: {result['text']}"])
        complain(f"{fault} (told at the next `forwarder read`)" for fault in result["faults"])
    return 0 if all(result["done"] for result in results) else 1


def complain(lines: Any) -> None:
    for line in lines:
        print(one_line(f"forwarder: {line}"), file=sys.stderr)


def _origin(notification: Notification | None) -> dict[str, str] | None:
    if notification is None or notification.origin is None:
        return None
    location = notification.origin.store
    store = location.domain or (str(location.literals[0]) if location.literals else "")
    return {"sender": notification.origin.sender, "store": store}


def _signature(item: Item, notification: Notification | None) -> dict[str, str] | None:
    """state: good, wrong, expired, unverified (no key to be found yet), none. None for an item of a list."""
    if notification is None:
        return None
    if notification.signature is None:
        return {"state": "none"}
    return {"state": item.signature or "unverified", "domain": notification.signature.domain}


def signature_words(signature: dict[str, str] | None) -> str:
    """For people; nothing for an item of a list."""
    if signature is None:
        return ""
    domain = signature.get("domain", "")
    return {
        "good": f"signed by {domain}",
        "wrong": "SIGNATURE WRONG",
        "expired": f"signed by {domain} for a time that is over",
        "unverified": f"signature of {domain} not verified",
        "none": "unsigned",
    }[signature["state"]]


def _line(row: dict[str, Any]) -> dict[str, Any]:
    claims, origin = row["claims"], row["origin"]
    sender = f"{row['sender']} at {row['store']}" if row["sender"] is not None else f"list {row['list']}"
    if origin:
        sender = f"{origin['sender']} at {origin['store']} by {row['store']}"
    claimed = claims["header_from"] or claims["from"]
    marks = ["shared"] if row["shared"] else []
    marks += [signature_words(row["signature"])] if row["signature"] else []
    return {
        "n": row["number"],
        "from": f"{sender}, says {claimed} (unverified)" if claimed else sender,
        "to": f"{row['to']} (first {row['original']})" if row["original"] else row["to"],
        "date": row["date"],
        "size": size_of(row["size"]),
        "subject": claims["subject"] or "",
        "marks": ", ".join(marks),
    }
