"""`key`: the keys our stores sign their notifications with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from forwarder.cli.options import Config, Json

if TYPE_CHECKING:
    from forwarder.cli.folder import Folder

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="The keys our stores sign with.")


@app.callback()
def key() -> None:
    """The keys our stores sign with."""


@app.command()
def rotate(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The store that notifications name.")],
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="DURATION", help="Publish it so long before it signs; 0s: sign at once."),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Make a new key: published now, signing once its record has got about. The old one stays published 35 days more.

    Where we do not serve the zone ourselves the record is printed to be pasted, and the key waits a day for it.
    """
    from datetime import UTC, datetime

    from forwarder.cli.errors import No
    from forwarder.cli.folder import a_domain, open_folder
    from forwarder.cli.keys import a_store, print_rotated, waits
    from forwarder.config.disk import Locked
    from forwarder.config.keys import SigningKeys, TooSoon

    name = a_domain(domain)
    folder = open_folder(config)
    serving = a_store(folder, name)
    keys = SigningKeys(folder.settings.folder)
    try:
        made = keys.rotate(name, datetime.now(UTC), waits(wait, serving))
    except (TooSoon, Locked) as error:
        raise No(f"forwarder: {error}") from None
    return print_rotated(made, serving is not None, folder.tell("reload"), json)


@app.command("list")
def list_(
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]")] = None, config: Config = None, json: Json = False
) -> int:
    """List the keys: which signs, which waits, which is only published still."""
    from forwarder.cli.folder import a_domain, open_folder
    from forwarder.cli.keys import print_keys

    folder: Folder = open_folder(config)
    return print_keys(folder, a_domain(domain) if domain else None, json)
