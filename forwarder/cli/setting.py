"""`set`: changes of an address."""

from __future__ import annotations

from forwarder.cli.errors import Wrong
from forwarder.cli.options import Address, Config, Json, Pairs


def set_(address: Address, pairs: Pairs = None, config: Config = None, json: Json = False) -> int:
    """Change an address; comments in its file stay.

    forwarder set sales@pobox.example to+=anna@staff.example note=
    """
    from forwarder.cli import changes
    from forwarder.cli.folder import an_address, open_folder

    mailbox, wanted = an_address(address), changes.assignments(pairs or [])
    if not wanted:
        raise Wrong("forwarder set: set what? (KEY=VALUE)")
    folder = open_folder(config)
    return changes.change_address(folder, mailbox, "changed", lambda editor: editor.set_address(mailbox, wanted), json)
