"""The options that verbs share, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="DIR", help="Configuration; else $FORWARDER_CONFIG, /etc/forwarder, ./config."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Me = Annotated[str | None, typer.Option("--me", metavar="FILE", help="Your me.toml; else ~/.config/forwarder/me.toml.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="local@domain")]
Pairs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE...]", help="Also KEY+=VALUE, KEY-=VALUE; lists by commas; KEY= removes."),
]
