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
    postfix: Annotated[
        bool, typer.Option("--postfix", help="With a Postfix at its edge; prints the lines that this one needs.")
    ] = False,
    queue: Annotated[
        str, typer.Option("--queue", metavar="DIR", help="With --postfix: its queue_directory.")
    ] = "/var/spool/postfix",
) -> int:
    """Make a configuration folder and say what to type next.

    forwarder init /etc/forwarder --name mx1.pobox.example --domain pobox.example --set 'listen.dns=["0.0.0.0:53"]'
    """
    from os.path import isabs
    from pathlib import Path

    from forwarder.cli.errors import Wrong
    from forwarder.cli.waiting import complain
    from forwarder.config.assign import BadAssignment
    from forwarder.config.fresh import write_fresh

    if postfix and (not isabs(queue) or not queue.isprintable() or set(queue) & set('"\\')):
        raise Wrong(f"forwarder init: --queue {queue!r}: expected a path from the root, without quotes and backslashes")
    wanted = name, domain, sets or [], queue if postfix else ""
    try:
        _rehearse(*wanted)
        warnings = write_fresh(Path(directory), *wanted)
    except (BadAssignment, ValueError) as error:
        raise Wrong(f"forwarder init: {error}") from None
    complain(warnings)
    if postfix:
        from forwarder.cli.edge import lines

        print(lines(directory, None))
    print(_next(directory, domain, queue if postfix else ""))
    return 0


def _rehearse(name: str, domain: str, sets: list[str], queue: str) -> None:
    """In a folder of its own, so that what a plugin says of its tables leaves no half of one. Raises what it says."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from forwarder.cli.folder import open_folder
    from forwarder.config.doors import doors
    from forwarder.config.fresh import write_fresh

    with TemporaryDirectory() as place:
        draft = Path(place) / "draft"
        write_fresh(draft, name, domain, sets, queue)
        folder = open_folder(str(draft))
        doors(folder.settings, folder.plugins.services, folder.plugins.carriers)


def _next(directory: str, domain: str, queue: str) -> str:
    from shlex import quote

    config = f"--config {quote(directory)}"
    sockets = f"""
  install -d -o USER -g postfix -m 2750 {quote(queue)}/forwarder     # USER: whom forwarder runs as
  forwarder postfix main.cf {config} >> /etc/postfix/main.cf
  forwarder postfix master.cf {config} >> /etc/postfix/master.cf"""
    return f"""{directory} is ready for {domain}. Next:{sockets if queue else ""}
  forwarder account add brian --may read,originate {config}
  forwarder add brian@{domain} strategy=subscribe readers=brian {config}
  forwarder add sales@{domain} to=bob@staff.example {config}
  forwarder check {config}
  forwarder dns show {domain} {config}
  forwarder serve {config}"""
