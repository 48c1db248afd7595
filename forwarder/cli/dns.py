"""`dns`: the records a domain needs."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="The records a domain needs.")


@app.callback()
def dns() -> None:
    """The records a domain needs."""


@app.command()
def show(domain: Annotated[str, typer.Argument(metavar="DOMAIN")], config: Config = None, json: Json = False) -> int:
    """Print the records a domain needs, to paste into its zone and those above."""
    from forwarder.cli.errors import No
    from forwarder.cli.folder import a_domain, open_folder
    from forwarder.cli.output import print_json
    from forwarder.cli.zones import zone_facts
    from forwarder.dns.published import published, zone_text

    name = a_domain(domain)
    folder = open_folder(config)
    host = folder.addresses.domains.get(name)
    if host is None:
        raise No(f"forwarder: {name} is not hosted here")
    facts, serve = zone_facts(folder, host)
    parts = published(facts, serve=serve)
    if json:
        print_json([{"title": part.title, "records": [record._asdict() for record in part.records]} for part in parts])
    else:
        print(zone_text(parts), end="")
    return 0
