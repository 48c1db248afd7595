"""`dns`: the records a domain needs."""

from __future__ import annotations

from dataclasses import replace
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
    from forwarder.cli.errors import No, Wrong
    from forwarder.cli.folder import a_domain, open_folder
    from forwarder.cli.output import print_json
    from forwarder.config.keys import SigningKeys
    from forwarder.config.lines import ConfigError
    from forwarder.config.reading import Reader
    from forwarder.config.sweep import sweep_domain
    from forwarder.daemon.zones import zone_facts
    from forwarder.dns.published import published, zone_text

    name = a_domain(domain)
    folder = open_folder(config)
    host = folder.addresses.domains.get(name)
    if host is None:
        raise No(f"forwarder: {name} is not hosted here")
    if host.domain is None:
        raise Wrong(str(host.error))
    reader = Reader(folder.settings.folder, folder.settings, folder.plugins.strategies)
    met = list(sweep_domain(reader, host.domain))
    routes = [found for found in met if not isinstance(found, ConfigError)]
    facts = zone_facts(folder.settings, folder.plugins, host.domain, routes, SigningKeys(folder.settings.folder))
    facts = replace(facts, others=facts.others or len(routes) < len(met))  # no wildcard may take a broken file's name
    parts = published(facts, serve=host.domain.dns.mode != "off")
    if json:
        print_json([{"title": part.title, "records": [record._asdict() for record in part.records]} for part in parts])
    else:
        print(zone_text(parts), end="")
    return 0
