"""`demo`: a whole small mail world on loopback."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the world running until Ctrl-C, and its folder.")] = False,
) -> int:
    """See it work: real mail through each of the six ways.

    Starts a sender's node, this forwarder and a recipients' node on loopback, by the verbs a person types, and sends a
    letter to an address of each kind. Touches nothing but a temporary folder. Exit 0 if all went as it must.
    """
    from forwarder.demo.story import tell

    return tell(keep=keep)
