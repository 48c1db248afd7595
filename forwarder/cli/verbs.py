"""The table of verbs, and how a command line becomes a call of one of them. A verb's file is imported when it is named.

Typer parses; its complaints are made one line here, with the nearest word where one is near.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from forwarder.cli.errors import Wrong, one_line

VERBS = {
    "demo": "demo:demo",
    "init": "init:init",
    "domain": "domain:app",
    "account": "account:app",
    "add": "add:add",
    "set": "setting:set_",
    "show": "show:show",
    "list": "listing:list_",
    "off": "state:off",
    "on": "state:on",
    "remove": "remove:remove",
    "serve": "serve:serve",
    "check": "check:check",
    "why": "why:why",
    "trace": "trace:trace",
    "status": "status:status",
    "reload": "reload:reload",
    "send": "send:send",
    "sent": "sent:sent",
    "unsend": "unsend:unsend",
    "read": "read:app",
    "dns": "dns:app",
    "postfix": "postfix:postfix",
    "fsck": "fsck:fsck",
    "backup": "backup:backup",
    "restore": "restore:restore",
    "key": "key:app",
    "plugins": "plugins:plugins",
}
"""Verb to "file:what" in this folder; what: a function, or a Typer with verbs below it.

No file is named like a builtin: it would hide it in this package.
"""

Command = TyperCommand | TyperGroup


class Verbs(TyperGroup):
    """The top of the program: verbs by the table above."""

    def get_command(self, ctx: Any, cmd_name: str) -> Command | None:
        return load(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb for verb, where in VERBS.items() if find_spec(f"forwarder.cli.{where.partition(':')[0]}")]


def load(verb: str) -> Command:
    file, _, what = VERBS[verb].partition(":")
    found = getattr(importlib.import_module(f"forwarder.cli.{file}"), what)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(verb)(found)
        found = app
    command = typer.main.get_command(found)
    assert isinstance(command, TyperCommand | TyperGroup)
    command.name = verb
    return command


def version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        typer.echo(f"forwarder {installed('forwarder')}")
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line. Raises Complaint and whatever the verb raises."""
    program = typer.Typer(cls=Verbs, add_completion=False, no_args_is_help=False, rich_markup_mode=None)

    @program.callback()
    def forwarder(
        version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
    ) -> None:
        """A mail forwarder for Internet Mail 2000: it passes on notifications, not messages."""

    try:
        result = typer.main.get_command(program).main(list(arguments), "forwarder", standalone_mode=False)
    except typer.TyperException as error:
        raise Wrong(_say(error, arguments)) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else 0


def _say(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Typer's complaint as one line: where, what, and the nearest word or where help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "forwarder"
    text = error.format_message().strip().rstrip(".")
    if not text.endswith(("?", ")")):
        near = _nearest(context, arguments) if "No such command" in text else None
        text += f". Did you mean {near!r}?" if near else f" (see `{path} --help`)"
    return one_line(f"{path}: {text[0].lower()}{text[1:]}")


def _nearest(context: Any, arguments: Sequence[str]) -> str | None:
    group = context.command if context else None
    known = group.list_commands(context) if isinstance(group, TyperGroup) else []
    wrong = [word for word in arguments if word not in known]
    found = [near for word in wrong for near in get_close_matches(word, known, n=1, cutoff=0.5)]
    return found[0] if found else None
