"""`account`: who may log in, to read and to originate."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.errors import Wrong
from forwarder.cli.options import Config, Json, Pairs

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Who may log in, to read and to originate.")

Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command()
def add(
    name: Name,
    pairs: Pairs = None,
    may: Annotated[str, typer.Option("--may", help="read, originate, or read,originate.")] = "",
    config: Config = None,
    json: Json = False,
) -> int:
    """Add an account; asks for its password, or takes a line of stdin where that is no terminal."""
    from forwarder.cli import accounts, changes

    if not may:
        raise Wrong("forwarder account add: may it read, originate, or both? (--may read,originate)")
    wanted = changes.assignments([f"may={may}", *(pairs or [])])
    return accounts.change(name, "added", lambda editor: accounts.make(editor, name, wanted), config, json)


@app.command()
def passwd(name: Name, config: Config = None, json: Json = False) -> int:
    """Give an account a new password."""
    from forwarder.cli import accounts

    return accounts.change(name, "has a new password", lambda editor: accounts.renew(editor, name), config, json)


@app.command("set")
def set_(name: Name, pairs: Pairs = None, config: Config = None, json: Json = False) -> int:
    """Change an account: forwarder account set brian may=read limits.recipients_per_day=500."""
    from forwarder.cli import accounts, changes

    wanted = changes.assignments(pairs or [])
    if not wanted:
        raise Wrong("forwarder account set: set what? (KEY=VALUE)")
    return accounts.change(name, "changed", lambda editor: editor.set_account(name, wanted), config, json)


@app.command()
def off(name: Name, config: Config = None, json: Json = False) -> int:
    """Let an account in no more, for now."""
    return _switch(name, "off", config, json)


@app.command()
def on(name: Name, config: Config = None, json: Json = False) -> int:
    """Let an account in again."""
    return _switch(name, "on", config, json)


@app.command()
def remove(name: Name, config: Config = None, json: Json = False) -> int:
    """Remove an account. Addresses that name it as reader or owner are errors of `forwarder check` then."""
    from forwarder.cli import accounts

    return accounts.change(name, "removed", lambda editor: editor.remove_account(name), config, json)


@app.command("list")
def list_(config: Config = None, json: Json = False) -> int:
    """List the accounts."""
    from forwarder.cli import accounts
    from forwarder.cli.folder import open_folder

    return accounts.print_accounts(open_folder(config), json)


def _switch(name: str, state: str, config: str | None, json: bool) -> int:
    from forwarder.cli import accounts, changes

    wanted = changes.assignments([f"state={state}"])
    return accounts.change(name, state, lambda editor: editor.set_account(name, wanted), config, json)
