"""What `send` does: who, what, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forwarder.cli.errors import No, Wrong
from forwarder.cli.output import print_json, print_table
from forwarder.cli.waiting import complain
from forwarder.model import Mailbox, handle, parse_duration, parse_mailbox
from forwarder.reader.desk import Desk
from forwarder.reader.view import missing_headers, subject_of

STDIN = "-"


def recipients(options: Sequence[str], words: Sequence[str]) -> tuple[tuple[Mailbox, ...], str]:
    """Who shall have it, each once, and the file: the last word if it is there or is no address. Raises Wrong."""
    names, file = [*options, *words], STDIN
    if words and (words[-1] == STDIN or Path(words[-1]).exists() or "@" not in words[-1]):
        names, file = [*options, *words[:-1]], words[-1]
    found: dict[Mailbox, Mailbox] = {}
    for name in names:
        for one in _split(name):
            try:
                mailbox = parse_mailbox(one)
            except ValueError as error:
                raise Wrong(f"forwarder send: {error}") from None
            found.setdefault(mailbox.folded, mailbox)
    if not found:
        raise Wrong("forwarder send: to whom? (--to ADDRESS)")
    return tuple(found.values()), file


def seconds(lifetime: str) -> int:
    try:
        return int(parse_duration(lifetime).total_seconds())
    except ValueError as error:
        raise Wrong(f"forwarder send: --lifetime: {error}") from None


def read_message(file: str) -> bytes:
    """The octets, as they are. Raises Wrong for none, OSError."""
    if file == STDIN and sys.stdin.isatty():
        print("Type the message, header first; end with Ctrl-D.", file=sys.stderr)
    octets = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    if not octets:
        raise Wrong("forwarder send: the message is empty")
    lacking = missing_headers(octets)
    if lacking:
        complain([f"the message has no {', no '.join(lacking)}: sent as it is"])
    return octets


async def submit(desk: Desk, to: tuple[Mailbox, ...], octets: bytes, lifetime: int) -> dict[str, Any]:
    """Submits, and notes the keys before anything is said of them. Raises PeerError."""
    originator = desk.originator()
    submitted = await originator.submit(to, octets, lifetime)
    keys = [(key, str(mailbox)) for key, mailbox in submitted.keys]
    desk.notebook.sent(originator.name, keys, desk.now(), subject_of(octets), len(octets))
    rows = [{"to": name, "handle": handle(key), "taken": True} for key, name in keys]
    rows += [{"to": str(mailbox), "handle": None, "taken": False} for mailbox in submitted.denied]
    return {"recipients": rows, "octets": len(octets)}


def print_submitted(submitted: dict[str, Any], json: bool) -> int:
    """1 where the store would not take a recipient."""
    rows = submitted["recipients"]
    denied = [row["to"] for row in rows if not row["taken"]]
    if json:
        print_json(submitted)
    elif len(denied) < len(rows):
        print_table(("handle", "to"), [row for row in rows if row["taken"]])
    if denied:
        raise No(*(f"forwarder send: {name}: the store does not take it" for name in denied))
    return 0


def _split(name: str) -> list[str]:
    """Addresses between commas; a quoted local part keeps its own."""
    return [name] if '"' in name else [part.strip() for part in name.split(",") if part.strip()]
