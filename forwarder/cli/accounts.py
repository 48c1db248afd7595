"""What the verbs of `account` share. A daemon need not be told: it looks at the file at each login and poll."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from forwarder.cli import changes
from forwarder.cli.errors import Wrong
from forwarder.cli.folder import Folder, open_folder
from forwarder.cli.output import print_json, print_line, print_table
from forwarder.cli.waiting import complain
from forwarder.config.accounts import compile_account, hash_password
from forwarder.config.assign import Assignment
from forwarder.config.edit import AlreadyThere, Editor, NotThere
from forwarder.config.lines import ConfigErrors, read
from forwarder.config.names import ACCOUNTS, SUFFIX, is_leftover
from forwarder.config.tables import is_account_name

LONGEST_LINE = 4096


def change(name: str, done: str, deed: Callable[[Editor], Path], config: str | None, json: bool) -> int:
    """Changes the file of an account and says so. Raises Complaint, ConfigErrors."""
    if not is_account_name(name):
        raise Wrong(f"forwarder: {name!r} is no account name: 1 to 64 of letters, digits and ._@+-")
    folder = open_folder(config)
    changes.say("account", name, done, changes.change(folder, name, deed), None, json)
    return 0


def make(editor: Editor, name: str, wanted: Sequence[Assignment]) -> Path:
    """A new account. Nobody is asked for a password in vain. Raises AlreadyThere."""
    with suppress(NotThere):
        raise AlreadyThere(editor.set_account(name, []))
    return editor.add_account(name, new_password(name), wanted)


def renew(editor: Editor, name: str) -> Path:
    """A new password for an account that is there. Raises NotThere."""
    editor.set_account(name, [])
    return editor.set_account(name, [Assignment(("password",), "=", new_password(name))])


def new_password(name: str) -> str:
    """The hash of a password: asked twice on a terminal, else one line of stdin. Raises Wrong."""
    if _terminal():
        typed = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Once more: ") != typed:
            raise Wrong("forwarder: the two passwords differ")
    else:
        typed = sys.stdin.readline(LONGEST_LINE).removesuffix("\n").removesuffix("\r")
    try:
        return hash_password(typed)
    except ValueError as error:
        raise Wrong(f"forwarder: {error}") from None


def _terminal() -> bool:
    return sys.stdin.isatty()


def print_accounts(folder: Folder, json: bool) -> int:
    """Broken files are told on stderr."""
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    for path in sorted(_files(folder)):
        try:
            table = compile_account(read(path, folder.settings.folder))
        except ConfigErrors as errors:
            faults.extend(map(str, errors.errors))
            continue
        row = {"account": path.name.removesuffix(SUFFIX), "may": list(table.may), "state": table.state}
        rows.append(row | {"note": table.note, "limits": table.limits.model_dump(exclude_none=True)})
    if json:
        print_json(rows)
    elif rows:
        print_table(("account", "may", "state", "note"), rows)
    elif not faults:
        print_line("there are no accounts (see `forwarder account add`)")
    complain(faults)
    return 0


def _files(folder: Folder) -> list[Path]:
    at = folder.settings.folder / ACCOUNTS
    found = at.iterdir() if at.is_dir() else ()
    return [path for path in found if path.name.endswith(SUFFIX) and not is_leftover(path.name)]
