"""`trace`: the story of a notification, or of an address."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config, Json


def trace(
    handle: Annotated[
        str | None, typer.Argument(metavar="[HANDLE]", help="As logs, `send` and `read` show it.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help="All that came for this address.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="And what comes, until Ctrl-C.")] = False,
    most: Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many steps, the newest.")] = 200,
    config: Config = None,
    json: Json = False,
) -> int:
    """Tell the story of a notification.

    Each step: time, from whom or to which target, result, what the strategy said. Exit 1 if nothing is known of it.
    """
    from forwarder.cli import tracing

    return tracing.print_story(tracing.Wanted(handle, to), config, most, follow=follow, json=json)
