"""How a message is printed for a person."""

from __future__ import annotations

import sys

from forwarder.cli.output import print_json, print_line, size_of
from forwarder.cli.waiting import describe, signature_words
from forwarder.reader.desk import Desk
from forwarder.reader.notebook import Item
from forwarder.reader.view import SHOWN, view


def note(desk: Desk, item: Item, octets: bytes) -> None:
    """The list knows sender and subject from now on."""
    seen = view(octets)
    desk.notebook.seen(item.number, seen.header("From"), seen.header("Subject"), len(octets))


def print_message(item: Item, octets: bytes, *, raw: bool, json: bool) -> int:
    if raw:
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return 0
    seen = view(octets)
    if json:
        attachments = [{"name": part.name, "type": part.type, "size": part.size} for part in seen.attachments]
        headers = [list(header) for header in seen.headers]
        print_json({**describe(item), "headers": headers, "text": seen.text, "attachments": attachments})
        return 0
    for name in SHOWN:
        if seen.header(name):
            print_line(f"{name}: {seen.header(name)}")
    if words := signature_words(describe(item)["signature"]):
        print_line(f"Signature: {words}")
    print()
    print(seen.text, end="" if seen.text.endswith("\n") or not seen.text else "\n")
    if seen.attachments:
        print()
        for part in seen.attachments:
            print_line(f"attachment  {part.name}  {part.type}  {size_of(part.size)}")
    return 0
