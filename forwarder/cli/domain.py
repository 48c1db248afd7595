"""`domain`: the domains whose mail is ours."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from forwarder.cli.errors import Wrong
from forwarder.cli.options import Config, Json, Pairs

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="The domains whose mail is ours.")

Domain = Annotated[str, typer.Argument(metavar="DOMAIN")]


@app.command()
def add(domain: Domain, pairs: Pairs = None, config: Config = None, json: Json = False) -> int:
    """Host a domain: forwarder domain add pobox.example dns.mode=serve."""
    from forwarder.cli import changes
    from forwarder.cli.folder import a_new_domain

    wanted, name = changes.assignments(pairs or []), a_new_domain(domain)
    return _change(domain, "added", lambda editor: editor.add_domain(name, wanted), config, json)


@app.command("set")
def set_(domain: Domain, pairs: Pairs = None, config: Config = None, json: Json = False) -> int:
    """Change a domain's file: forwarder domain set pobox.example tag=-."""
    from forwarder.cli import changes
    from forwarder.cli.folder import a_domain

    wanted = changes.assignments(pairs or [])
    if not wanted:
        raise Wrong("forwarder domain set: set what? (KEY=VALUE)")
    return _change(domain, "changed", lambda editor: editor.set_domain(a_domain(domain), wanted), config, json)


@app.command()
def remove(domain: Domain, config: Config = None, json: Json = False) -> int:
    """Host a domain no more. The files of its addresses stay."""
    from forwarder.cli.folder import a_domain

    return _change(domain, "removed", lambda editor: editor.remove_domain(a_domain(domain)), config, json)


@app.command("list")
def list_(config: Config = None, json: Json = False) -> int:
    """List the hosted domains."""
    from forwarder.cli.domains import print_domains
    from forwarder.cli.folder import open_folder

    return print_domains(open_folder(config), json)


def _change(domain: str, done: str, deed: Any, config: str | None, json: bool) -> int:
    from forwarder.cli import changes
    from forwarder.cli.folder import a_domain, open_folder

    name = a_domain(domain)
    folder = open_folder(config)
    file = changes.change(folder, name, deed)
    changes.say("domain", name, done, file, folder.tell("reload"), json)
    return 0
