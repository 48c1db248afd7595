"""Polling: what waits at my agents and lists comes into the notebook, what is closed is cleared at them (protocol 5.1).

The order is the law: saved durably, then anything else. An agent that knows peek keeps what it shows until we clear it;
one of 2004 forgets what it hands over, so its answer is on disk before the next command is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from forwarder.plugin import PeerError
from forwarder.ports import Gone
from forwarder.reader.calls import Calls, Refused, Talk, expect, twice
from forwarder.reader.me import AgentAccount, ListAccount, Me
from forwarder.reader.notebook import Arrived, Item, Notebook
from forwarder.wire.msrap import ScanList, Scanned
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnaqp import Clear, Cleared, Peek, Peeked, RetrieveAndClear, RetrievedAndCleared
from forwarder.wire.rnaqp import Item as Handed

PAGE = 1000
"""Items asked for in one answer."""
CLEAR_OCTETS = 32 << 10
"""Of cursors in one command."""
PAGES = 100
"""Pages in one poll at most: an agent that always has more is left for the next time."""


class Polled(NamedTuple):
    """missing: items an agent showed earlier and shows no more. faults: a line for each agent or list that failed."""

    missing: list[Item]
    faults: list[str]


async def poll(calls: Calls, notebook: Notebook, me: Me) -> Polled:
    """All agents and lists, one after the other."""
    polled = Polled([], [])
    for agent in me.agents:
        with _noting(polled.faults, agent.name):
            shown = await twice(partial(_poll_agent, calls, notebook, agent))
            polled.missing.extend(notebook.missing(agent.name, shown) if shown is not None else [])
    for entry in me.lists:
        with _noting(polled.faults, f"list {entry.name}"):
            await twice(partial(_poll_list, calls, notebook, entry))
    return polled


async def clear(calls: Calls, notebook: Notebook, me: Me, numbers: Iterable[int] | None = None) -> list[str]:
    """Tells the agents what is closed (all of it, or these numbers); a line for each agent that failed.

    What cannot be told now is told at the next poll.
    """
    faults: list[str] = []
    wanted = set(numbers) if numbers is not None else {item.number for item in notebook.items(closing=True)}
    owed = [place for number in wanted for place in notebook.places(number)]
    for agent in me.agents:
        cursors = tuple(cursor for name, cursor in owed if name == agent.name)
        if not cursors:
            continue
        with _noting(faults, agent.name):
            async with calls.own(agent.where, "rnaqp", agent) as talk:
                for some in _portions(cursors):
                    expect(await talk.ask(Clear(some)), Cleared, agent.name)
                    notebook.told(agent.name, some)
    return faults


def _portions(cursors: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    """As many as one command may hold."""
    some: list[bytes] = []
    for cursor in cursors:
        if some and sum(len(each) + 4 for each in some) + len(cursor) > CLEAR_OCTETS:
            yield tuple(some)
            some = []
        some.append(cursor)
    if some:
        yield tuple(some)


@contextmanager
def _noting(faults: list[str], who: str) -> Iterator[None]:
    try:
        yield
    except Gone:
        faults.append(f"{who}: errornosuchmessage, where no message was asked for")
    except PeerError as error:
        faults.append(str(error) if str(error).startswith(who) else f"{who}: {error}")


async def _poll_agent(calls: Calls, notebook: Notebook, agent: AgentAccount) -> set[bytes] | None:
    """The cursors that the agent shows; None where its list was not read to its end, or is of 2004."""
    now = int(calls.now())
    if not notebook.is_legacy(agent.name, now):
        try:
            async with calls.own(agent.where, "rnaqp", agent) as talk:
                return await _peek(talk, notebook, agent)
        except Refused as refused:
            if not refused.legacy:
                raise
            notebook.legacy(agent.name, now)
    async with calls.own(agent.where, "rnaqp", agent) as talk:
        await _retrieve_and_clear(talk, notebook, agent)
    return None


async def _peek(talk: Talk, notebook: Notebook, agent: AgentAccount) -> set[bytes] | None:
    after, shown = None, set[bytes]()
    for _ in range(PAGES):
        page = expect(await talk.ask(Peek(after, PAGE)), Peeked, agent.name)
        notebook.save(agent.name, [_arrived(item) for item in page.items])
        cursors = [item.cursor for item in page.items if item.cursor is not None]
        shown.update(cursors)
        if not page.more:
            return shown
        if not cursors:
            return None
        after = cursors[-1]
    return None


async def _retrieve_and_clear(talk: Talk, notebook: Notebook, agent: AgentAccount) -> None:
    for _ in range(PAGES):
        page = expect(await talk.ask(RetrieveAndClear(PAGE)), RetrievedAndCleared, agent.name)
        notebook.save(agent.name, [_arrived(item)._replace(cursor=None) for item in page.items])
        if not page.more or not page.items:
            return


async def _poll_list(calls: Calls, notebook: Notebook, entry: ListAccount) -> None:
    async with calls.own(entry.where, "msrap", entry) as talk:
        for _ in range(PAGES):
            begin = notebook.begintime(entry.name)
            page = expect(await talk.ask(ScanList(entry.name, begin)), Scanned, f"list {entry.name}")
            notebook.save_list(entry.name, page.messages, page.endtime, int(calls.now()))
            if not page.messages or page.endtime <= begin:
                return


def _arrived(item: Handed) -> Arrived:
    notification = item.notification
    octets = notification.raw or encode_notification(notification)
    return Arrived(notification.store, notification.identifier, octets, item.date, notification.size, item.cursor)
