"""`demo`: a whole small mail world on loopback."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the world running until Ctrl-C, and its folder.")] = False,
    postfix: Annotated[
        bool, typer.Option("--postfix", help="Today's mail instead, through a Postfix of its own; needs root.")
    ] = False,
) -> int:
    """See it work: real mail through each of the six ways.

    Starts a sender's node, this forwarder and a recipients' node on loopback, by the verbs a person types, and sends a
    letter to an address of each kind. Touches nothing but a temporary folder. Exit 0 if all went as it must.

    --postfix: mail of today comes in by SMTP, goes out by SMTP, is read with fetchmail, refused at RCPT and returned by
    SRS. Needs Postfix and fetchmail; the Postfix that this machine may have already is not touched.
    """
    if postfix:
        from forwarder.demo.edge.story import tell
    else:
        from forwarder.demo.story import tell
    return tell(keep=keep)
