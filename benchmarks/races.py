"""Roles: of readers who un-pin one message at the same moment, exactly one wins (protocol 4, 5.3, 5.5).

    python benchmarks/races.py [--races 1000] [--readers 20] [--linked]

Every race is a message submitted at the real daemon, and one UnPin from each reader, all written before any answer is
read, over sessions of their own. All share the one key, as the readers of a rewrite_resend role do; with --linked each
has a key of his own, linked to the others', as the readers of a pull_hold role have. Then everybody speaks once more: a
winner who is logged in must hear noerror again, everybody else errornosuchmessage, and no key may open anything. (With
one shared key half of the readers are logged in, with linked ones all.)
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from one_node import PATIENCE, Node, Session, one_node

from forwarder.model import Mailbox, parse_mailbox
from forwarder.wire.msoap import SubmitEnvelope, SubmitMsgChunk
from forwarder.wire.msrap import QuerySize, ScanList, UnPin

ROLE, DESK = parse_mailbox("sales@isp.example"), parse_mailbox("desk@pobox.example")
FINE, DEAD = "noerror", "errornosuchmessage"


class Figures(NamedTuple):
    """winners: how many races had how many. wins: by reader. wrong: answers after the race that should not be."""

    winners: Counter[int]
    wins: Counter[int]
    wrong: int
    seconds: float


def race(node: Node, races: int, readers: int, linked: bool) -> Figures:
    originator = node.session("msoap", "toby")
    known = [linked or n % 2 == 1 for n in range(readers)]
    sessions = [node.session("msrap", f"reader{n}" if known[n] else None) for n in range(readers)]
    winners: Counter[int] = Counter()
    wins: Counter[int] = Counter()
    wrong = 0
    began = time.monotonic()
    for number in range(races):
        key = submit(originator, number, DESK if linked else ROLE)
        keys = [listed(session) for session in sessions] if linked else [key] * readers
        said = at_once(sessions, [UnPin(each) for each in keys])
        first = [n for n, word in enumerate(said) if word == FINE]
        wrong += sum(word not in (FINE, DEAD) for word in said)
        winners[len(first)] += 1
        wins.update(first)
        again = at_once(sessions, [UnPin(each) for each in keys])
        wrong += sum(word != (FINE if n in first and known[n] else DEAD) for n, word in enumerate(again))
        wrong += sum(word != DEAD for word in at_once(sessions, [QuerySize(each) for each in keys]))
    return Figures(winners, wins, wrong, time.monotonic() - began)


def listed(session: Session) -> bytes:
    """The reader's own key, once the desk holds the message."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        session.send(ScanList(str(DESK), 0))
        response = session.hear()
        if response.status.name == FINE and response.data.messages:
            [key] = response.data.messages
            return bytes(key)
        time.sleep(0.005)
    raise SystemExit("the message was never listed")


def submit(originator: Session, number: int, to: Mailbox) -> bytes:
    originator.ask(SubmitEnvelope((to,), (), 86400))
    [key] = originator.ask(
        SubmitMsgChunk(True, 0, f"Subject: race {number}\n\nwho deals with it?\n".encode())
    ).identifiers
    return bytes(key)


def at_once(sessions: list[Session], commands: Sequence[UnPin | QuerySize]) -> list[str]:
    """Everybody speaks before anybody listens, in an order that changes."""
    for n in random.sample(range(len(sessions)), len(sessions)):
        sessions[n].send(commands[n])
    return [session.hear().status.name for session in sessions]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--races", type=int, default=1000)
    options.add_argument("--readers", type=int, default=20)
    options.add_argument("--linked", action="store_true", help="a key for each, linked (pull_hold)")
    chosen = options.parse_args()
    accounts = ["toby", *(f"reader{n}" for n in range(chosen.readers))]
    desk = f'strategy = "pull_hold"\nkind = "role"\nreaders = {json.dumps(accounts[1:])}\n'
    with tempfile.TemporaryDirectory() as folder, one_node(Path(folder), accounts, {"desk": desk}) as node:
        figures = race(node, chosen.races, chosen.readers, chosen.linked)
    exact = figures.winners[1]
    print(f"{chosen.races} races of {chosen.readers} readers in {figures.seconds:.1f} s")
    print(f"exactly one winner   {exact}")
    print(f"none, or several     {chosen.races - exact}")
    print(f"different winners    {len(figures.wins)} of {chosen.readers} readers")
    print(f"wrong answers after  {figures.wrong}")
    return 0 if exact == chosen.races and not figures.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
