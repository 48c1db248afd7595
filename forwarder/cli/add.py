"""`add`: a new address."""

from __future__ import annotations

from forwarder.cli.options import Address, Config, Json, Pairs


def add(address: Address, pairs: Pairs = None, config: Config = None, json: Json = False) -> int:
    """Add an address.

    forwarder add sales@pobox.example to=bob@staff.example,freda@staff.example kind=role
    """
    from forwarder.cli import changes
    from forwarder.cli.folder import an_address, open_folder

    mailbox, wanted = an_address(address), changes.assignments(pairs or [])
    folder = open_folder(config)
    return changes.change_address(folder, mailbox, "added", lambda editor: editor.add_address(mailbox, wanted), json)
