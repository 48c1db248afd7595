"""`read`: what waits at my agents and lists, as 1, 2, 3; show it, save it, be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwarder.cli.options import Config, Json, Me

if TYPE_CHECKING:
    from forwarder.reader.desk import Desk
    from forwarder.reader.notebook import Item

app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="N", min=1, help="The number that `read` lists.")]
Given = tuple[str | None, str | None, bool]
SHOWN_AT_MOST = 64 << 20


@app.callback()
def read(context: typer.Context, me: Me = None, config: Config = None, json: Json = False) -> int:
    """List what waits for me; show, save, finish it.

    Polls the agents; subjects are known once an item was shown. ~/.config/forwarder/me.toml names [store] msoap,
    [[agent]] rnaqp and [[list]] msrap, each with account and password_file; msoap_tls, rnaqp_tls, msrap_tls where TLS
    is spoken, with server where the certificate names another host.
    """
    context.obj = (me, config, json)
    if context.invoked_subcommand is not None:
        return 0
    from forwarder.cli import personal, waiting
    from forwarder.reader.desk import Refreshed

    async def work(desk: Desk) -> Refreshed:
        return await desk.refresh()

    return waiting.print_refreshed(personal.at_desk(me, config, work), json)


@app.command()
def show(
    context: typer.Context,
    number: Number,
    raw: Annotated[bool, typer.Option("--raw", help="The octets as they are.")] = False,
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Show a message: headers, text, attachments by name and size. The sender can see that it was read."""
    from forwarder.cli import message, personal

    me, config, json = _inherited(context, me, config, json)

    async def work(desk: Desk) -> tuple[Item, bytes]:
        item = personal.waiting(desk, number)
        octets = bytearray()
        await personal.fetch(desk, item, octets.extend, SHOWN_AT_MOST)
        message.note(desk, item, bytes(octets))
        return item, bytes(octets)

    return message.print_message(*personal.at_desk(me, config, work), raw=raw, json=json)


@app.command()
def save(
    context: typer.Context,
    number: Number,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is the standard output.")],
    attachment: Annotated[str | None, typer.Option("--attachment", metavar="NAME", help="Only this part.")] = None,
    limit: Annotated[str, typer.Option("--limit", metavar="SIZE", help="Octets at most.")] = "1GiB",
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """Save a message, or one of its attachments, octet for octet."""
    from forwarder.cli import personal, saving

    me, config, json = _inherited(context, me, config, json)
    most = saving.size(limit)
    saving.check(file, force)

    async def work(desk: Desk) -> dict[str, Any]:
        item = personal.waiting(desk, number)
        octets = await saving.save(desk, item, file, attachment, most)
        return {"number": number, "file": file, "octets": octets}

    return saving.print_saved(personal.at_desk(me, config, work), json)


@app.command()
def done(
    context: typer.Context,
    numbers: Annotated[list[int], typer.Argument(metavar="N...", min=1, help="The numbers that `read` lists.")],
    me: Me = None,
    config: Config = None,
    json: Json = False,
) -> int:
    """I need it no more: un-pin at the store, clear at the agent."""
    from forwarder.cli import personal, waiting

    me, config, json = _inherited(context, me, config, json)

    async def work(desk: Desk) -> list[dict[str, Any]]:
        items = [personal.waiting(desk, number) for number in dict.fromkeys(numbers)]
        return [await waiting.finish(desk, item) for item in items]

    return waiting.print_done(personal.at_desk(me, config, work), json)


def _inherited(context: typer.Context, me: str | None, config: str | None, json: bool) -> Given:
    """Options may stand before the word and after it."""
    before: Given = context.obj
    return me or before[0], config or before[1], json or before[2]
