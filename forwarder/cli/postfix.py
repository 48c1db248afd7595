"""`postfix`: the lines that the Postfix at our edge needs."""

from __future__ import annotations

from typing import Annotated

import typer

from forwarder.cli.options import Config

FILES = ("main.cf", "master.cf")


def postfix(
    file: Annotated[str, typer.Argument(metavar="[main.cf|master.cf]", help="Of one of them; absent: both.")] = "",
    config: Config = None,
) -> int:
    """Print the lines that Postfix needs to bring mail in and out; again whenever a domain came or went.

    forwarder postfix main.cf >> /etc/postfix/main.cf && postfix reload
    """
    from forwarder.cli.edge import lines
    from forwarder.cli.errors import Wrong

    if file and file not in FILES:
        raise Wrong(f"forwarder postfix: {file!r}: expected main.cf or master.cf")
    print(lines(config, file or None))
    return 0
