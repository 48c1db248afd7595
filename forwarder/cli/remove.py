"""`remove`: an address is nobody's from now on."""

from __future__ import annotations

from forwarder.cli.options import Address, Config, Json


def remove(address: Address, config: Config = None, json: Json = False) -> int:
    """Remove an address. A pattern or catch-all of its domain may serve it from now on (see `forwarder why`)."""
    from forwarder.cli import changes
    from forwarder.cli.folder import an_address, open_folder

    mailbox = an_address(address)
    folder = open_folder(config)
    return changes.change_address(folder, mailbox, "removed", lambda editor: editor.remove_address(mailbox), json)
