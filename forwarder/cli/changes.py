"""What the verbs that change files share: KEY=VALUE, the editor and its complaints, news for the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forwarder.cli.errors import No, Wrong
from forwarder.cli.folder import Folder
from forwarder.cli.output import print_json, print_line
from forwarder.config.assign import Assignment, BadAssignment, parse_assignment
from forwarder.config.disk import Locked
from forwarder.config.edit import AlreadyThere, Editor, NotThere
from forwarder.config.lines import inside
from forwarder.model import Mailbox


def assignments(words: Sequence[str]) -> list[Assignment]:
    """Raises Wrong, also where a later one would silently undo an earlier one."""
    try:
        found = [parse_assignment(word) for word in words]
    except BadAssignment as error:
        raise Wrong(f"forwarder: {error}") from None
    for place, later in enumerate(found):
        if later.operator == "=" and any(earlier.path == later.path for earlier in found[:place]):
            raise Wrong(f"forwarder: {later.key} is given twice; several of a list go by commas: to=ADDRESS,ADDRESS")
    return found


def change(folder: Folder, what: str, deed: Callable[[Editor], Path]) -> str:
    """Does it; the file, named from the folder. Raises Complaint, ConfigErrors."""
    try:
        path = deed(Editor(folder.settings, folder.plugins.strategies))
    except AlreadyThere as there:
        raise No(f"forwarder: {what}: is there already, in {there}") from None
    except NotThere:
        raise No(f"forwarder: {what}: nobody there") from None
    except BadAssignment as error:
        raise Wrong(f"forwarder: {what}: {error}") from None
    except Locked as error:
        raise No(f"forwarder: {error}") from None
    return inside(path, folder.settings.folder)


def change_address(folder: Folder, mailbox: Mailbox, done: str, deed: Callable[[Editor], Path], json: bool) -> int:
    """Changes the file of an address, tells the daemon, says so."""
    file = change(folder, str(mailbox), deed)
    told = folder.tell("changed", address=str(mailbox))
    say("address", str(mailbox), done, file, told, json)
    return 0


def say(kind: str, name: str, done: str, file: str, told: bool | None, json: bool) -> None:
    """told: whether a running daemon knows; None: it need not be told."""
    if json:
        print_json({kind: name, "done": done, "file": file, "told": told})
    else:
        print_line(f"{name}: {done}, {file}")
