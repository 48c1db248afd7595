"""`init`: a new configuration folder."""

from __future__ import annotations

from typing import Annotated

import typer


def init(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The folder to make.")],
    name: Annotated[str, typer.Option("--name", metavar="HOST", help="Who this node is, such as mx1.pobox.example.")],
    domain: Annotated[str, typer.Option("--domain", metavar="DOMAIN", help="The first hosted domain.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Of the node file, VALUE as in TOML; may be repeated."),
    ] = None,
) -> int:
    """Make a configuration folder and say what to type next.

    forwarder init /etc/forwarder --name mx1.pobox.example --domain pobox.example --set 'listen.dns=["0.0.0.0:53"]'
    """
    from pathlib import Path

    from forwarder.cli.errors import Wrong
    from forwarder.cli.waiting import complain
    from forwarder.config.assign import BadAssignment
    from forwarder.config.fresh import write_fresh

    try:
        warnings = write_fresh(Path(directory), name, domain, sets or [])
    except (BadAssignment, ValueError) as error:
        raise Wrong(f"forwarder init: {error}") from None
    complain(warnings)
    print(_next(directory, domain))
    return 0


def _next(directory: str, domain: str) -> str:
    from shlex import quote

    config = f"--config {quote(directory)}"
    return f"""{directory} is ready for {domain}. Next:
  forwarder account add brian --may read,originate {config}
  forwarder add brian@{domain} strategy=subscribe readers=brian {config}
  forwarder add sales@{domain} to=bob@staff.example {config}
  forwarder check {config}
  forwarder dns show {domain} {config}
  forwarder serve {config}"""
