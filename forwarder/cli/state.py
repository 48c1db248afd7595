"""`off` and `on`: an address that is off takes nothing; its senders try again."""

from __future__ import annotations

from forwarder.cli.options import Address, Config, Json


def off(address: Address, config: Config = None, json: Json = False) -> int:
    """Switch an address off.

    Its senders are told to try again, for as long as it is off.
    """
    return _switch(address, "off", config, json)


def on(address: Address, config: Config = None, json: Json = False) -> int:
    """Switch an address on again."""
    return _switch(address, "on", config, json)


def _switch(address: str, state: str, config: str | None, json: bool) -> int:
    from forwarder.cli import changes
    from forwarder.cli.folder import an_address, open_folder

    mailbox, wanted = an_address(address), changes.assignments([f"state={state}"])
    folder = open_folder(config)
    return changes.change_address(folder, mailbox, state, lambda editor: editor.set_address(mailbox, wanted), json)
