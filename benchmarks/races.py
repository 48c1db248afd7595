"""Roles: of readers who un-pin one message at the same moment, exactly one wins (protocol 4, 5.3).

    python benchmarks/races.py [--races 1000] [--readers 20]

Every race is a message submitted at the real daemon, and one UnPin from each reader, all written before any answer is
read, over sessions of their own. All share the one key, as the readers of a rewrite_resend role do. Then everybody
looks once more: the key must be dead for all. Half of the readers are logged in: the winner among them who repeats his
UnPin must hear noerror again, everybody else errornosuchmessage.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from one_node import Node, Session, one_node

from forwarder.model import parse_mailbox
from forwarder.wire.msoap import SubmitEnvelope, SubmitMsgChunk
from forwarder.wire.msrap import QuerySize, UnPin

ROLE = parse_mailbox("sales@isp.example")
FINE, DEAD = "noerror", "errornosuchmessage"


class Figures(NamedTuple):
    """winners: how many races had how many. wins: by reader. wrong: answers after the race that should not be."""

    winners: Counter[int]
    wins: Counter[int]
    wrong: int
    seconds: float


def race(node: Node, races: int, readers: int) -> Figures:
    originator = node.session("msoap", "toby")
    sessions = [node.session("msrap", f"reader{n}" if n % 2 else None) for n in range(readers)]
    winners: Counter[int] = Counter()
    wins: Counter[int] = Counter()
    wrong = 0
    began = time.monotonic()
    for number in range(races):
        key = submit(originator, number)
        said = at_once(sessions, UnPin(key))
        first = [n for n, word in enumerate(said) if word == FINE]
        wrong += sum(word not in (FINE, DEAD) for word in said)
        winners[len(first)] += 1
        wins.update(first)
        again = at_once(sessions, UnPin(key))
        wrong += sum(word != (FINE if n in first and n % 2 else DEAD) for n, word in enumerate(again))
        wrong += sum(word != DEAD for word in at_once(sessions, QuerySize(key)))
    return Figures(winners, wins, wrong, time.monotonic() - began)


def submit(originator: Session, number: int) -> bytes:
    originator.ask(SubmitEnvelope((ROLE,), (), 86400))
    [key] = originator.ask(
        SubmitMsgChunk(True, 0, f"Subject: race {number}\n\nwho deals with it?\n".encode())
    ).identifiers
    return bytes(key)


def at_once(sessions: list[Session], command: UnPin | QuerySize) -> list[str]:
    """Everybody speaks before anybody listens, in an order that changes."""
    for n in random.sample(range(len(sessions)), len(sessions)):
        sessions[n].send(command)
    return [session.hear().status.name for session in sessions]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--races", type=int, default=1000)
    options.add_argument("--readers", type=int, default=20)
    chosen = options.parse_args()
    accounts = ["toby", *(f"reader{n}" for n in range(chosen.readers))]
    with tempfile.TemporaryDirectory() as folder, one_node(Path(folder), accounts) as node:
        figures = race(node, chosen.races, chosen.readers)
    exact = figures.winners[1]
    print(f"{chosen.races} races of {chosen.readers} readers in {figures.seconds:.1f} s")
    print(f"exactly one winner   {exact}")
    print(f"none, or several     {chosen.races - exact}")
    print(f"different winners    {len(figures.wins)} of {chosen.readers} readers")
    print(f"wrong answers after  {figures.wrong}")
    return 0 if exact == chosen.races and not figures.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
