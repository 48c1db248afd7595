"""Three running forwarders that lead in a circle, a -> b -> c -> a, each with a target outside (protocol 5.0 a to g).

Whatever stands in the ring: at most the documented hops, each outside target served once, no storm (the PDUs are
counted, and stay as they are), and a mere retry is never refused for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import parse_mailbox
from forwarder.wire.msoap import ChunkAnswer, SubmitEnvelope, SubmitMsgChunk
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.session import MSOAP, NEED_DATA, ClientSession

from .agents import Agent, Of2004, codes, notification, notify
from .node import PASSWORD, Node
from .ports import free_port

NAMES = ("a", "b", "c")
HOPS = 8
MESSAGE = b"From: toby@s.example\nSubject: round and round\n\nhi\n"


class Ring:
    """Three daemons, a store's, an agent outside, and a forwarder of 2004 who is in the ring where an address says."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.outside = Agent()
        held.callback(self.outside.close)
        ports = {name: (free_port(), free_port()) for name in (*NAMES, "s")}
        self.old = Of2004(
            {
                "person@old.example": ["person2004@c.example"],
                "role@old.example": ["role2004@c.example", "old@out.example"],
                "pull@old.example": ["pull2004@c.example", "oldpull@out.example"],
                "pulls@old.example": ["pulls@c.example", "oldpulls@out.example"],
            },
            {"out.example": self.outside.port, **{f"{name}.example": rnasp for name, (rnasp, _) in ports.items()}},
        )
        held.callback(self.old.close)
        places = [
            f'"{n}.example" = {{rnasp = "127.0.0.1:{r}", msrap = "127.0.0.1:{m}"}}' for n, (r, m) in ports.items()
        ]
        places += [
            f'"{n}.example" = {{rnasp = "127.0.0.1:{p}"}}'
            for n, p in (("out", self.outside.port), ("old", self.old.port))
        ]
        self.nodes: dict[str, Node] = {}
        for name, (rnasp, msrap) in ports.items():
            settings = {
                "resolve.static": f"{{{', '.join(places)}}}",
                "listen.rnasp": f'["127.0.0.1:{rnasp}"]',
                "listen.msrap": f'["127.0.0.1:{msrap}"]',
                "listen.dns": "[]",
                "retry.first": '"1s"',
            }
            node = self.nodes[name] = Node(folder / name, f"{name}.example", settings)
            held.callback(node.end)
        self._addresses()
        for node in self.nodes.values():
            node.start(ready=False)
        for node in self.nodes.values():
            node.event("ready")
            node.listeners = node.ask("status")["listeners"]
        self.key = 0

    def _addresses(self) -> None:
        after = {"a": "b", "b": "c", "c": "a"}
        for name, node in self.nodes.items():
            if name == "s":
                node.account("toby")
                continue
            following = after[name]
            before_old = "old" if name == "a" else following
            for kind, onward in (("", following), ("2004", before_old)):
                person = f"person{kind if onward != 'old' else ''}@{onward}.example"
                role = f"role{kind if onward != 'old' else ''}@{onward}.example"
                pull = f"pull{kind if onward != 'old' else ''}@{onward}.example"
                node.address(f"person{kind}@{name}.example", f'to = ["{person}"]')
                both = f'kind = "role"\nto = ["{role}", "{name}{kind}@out.example"]'
                node.address(f"role{kind}@{name}.example", both)
                both = f'kind = "role"\nto = ["{pull}", "{name}{kind}pull@out.example"]'
                if name == "c":
                    both += '\nstrategy = "pull_repush"'
                node.address(f"pull{kind}@{name}.example", both)
            both = f'kind = "role"\nto = ["open@{following}.example", "{name}open@out.example"]'
            node.address(f"open@{name}.example", f"{both}\n[rewrite_resend]\nstateless = true")
            if name != "b":
                onward = "old" if name == "a" else "a"
                both = f'kind = "role"\nto = ["pulls@{onward}.example", "{name}pulls@out.example"]'
                node.address(f"pulls@{name}.example", f'strategy = "pull_repush"\n{both}')
            for lap in range(4):
                onward = f"lap{lap if name != 'c' else lap + 1}@{following}.example"
                node.address(f"lap{lap}@{name}.example", f'to = ["{onward}"]')

    def send(self, to: str, *, again: bool = False, extended: bool = True) -> int:
        """The code that the sender hears; 0 or 32 of a peer of 2004's."""
        self.key += not again
        name = parse_mailbox(to).domain.partition(".")[0]
        response = notify(self.nodes[name].port("rnasp"), [notification(to, self.key)], extended=extended)
        if extended:
            return codes(response)[0]
        return 32 if response.abort else 0

    def submit(self, to: str) -> None:
        """A real message, at the store of its own."""
        session = ClientSession(MSOAP)
        envelope, chunk = SubmitEnvelope((parse_mailbox(to),), (), 86400), SubmitMsgChunk(True, 0, MESSAGE)
        with self.nodes["s"].connect("msoap") as connection:
            for command in (Authenticate("toby", PASSWORD), envelope, chunk):
                connection.sendall(session.send(command))
                response: Any
                while (response := session.next_event()) is NEED_DATA:
                    session.receive_data(connection.recv(65536))
                assert response.status.name == "noerror", response
        assert isinstance(response.data, ChunkAnswer)

    def pdus(self) -> int:
        """RNASP commands so far, of all whom anybody can have told anything."""
        heard = sum(node.ask("status")["commands"]["rnasp"] for node in self.nodes.values())
        return int(heard) + self.outside.pdus + self.old.pdus

    def settled(self) -> bool:
        """Whether nothing is under way or owed anywhere."""
        waiting = [node.ask("status")["waiting"] for node in self.nodes.values()]
        return not any(there[what] for there in waiting for what in ("decisions", "for agents"))

    def took(self, *who: str) -> list[int]:
        return [self.outside.took[f"{name}@out.example"] for name in who]

    def most_hops(self) -> int:
        return max((one.hops or 0 for one in self.outside.heard), default=0)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    with ExitStack() as held:
        yield Ring(tmp_path_factory.mktemp("ring"), held)


def test_plain_forwards_in_a_circle_say_loop(ring: Ring) -> None:
    before = ring.pdus()
    assert ring.send("person@a.example") == 50
    assert ring.pdus() - before == 4  # the sender's, and each hop once


def test_a_circle_with_more_addresses_than_hops_says_too_many(ring: Ring) -> None:
    before = ring.pdus()
    assert ring.send("lap0@a.example") == 52
    assert ring.pdus() - before == 1 + HOPS


def test_roles_in_a_circle_serve_each_outside_target_once(ring: Ring) -> None:
    before = ring.pdus()
    assert ring.send("role@a.example") == 0
    assert ring.outside.wait(lambda: ring.took("a", "b", "c") == [1, 1, 1])
    assert ring.send("role@a.example", again=True) == 1  # a lost answer's repeat: taken, no effect
    assert ring.send("role@b.example", again=True) == 1
    assert ring.took("a", "b", "c") == [1, 1, 1]
    assert ring.pdus() - before == 3 + 3 + 3  # from the sender, round the ring, out of it
    assert ring.most_hops() == 3


def test_stateless_roles_in_a_circle_fail_for_now_and_never_for_good(ring: Ring) -> None:
    before = ring.pdus()
    assert ring.send("open@a.example") == 32
    assert ring.send("open@a.example", again=True) == 32
    assert ring.pdus() - before <= 2 * (1 + 3 + 3)  # `stateless`: who chose it accepts that a retry serves again


def test_plain_forwards_with_one_of_2004_among_them(ring: Ring) -> None:
    """It drops trace and hops; what is in flight is the only mark, and that is told as "busy", not as a loop."""
    before, old = ring.pdus(), ring.old.pdus
    assert ring.send("person2004@a.example") == 32
    assert ring.old.pdus - old == 1
    assert ring.pdus() - before == 4
    assert ring.send("person2004@a.example", again=True) == 32  # a retry is a retry
    assert ring.send("person2004@a.example", again=True, extended=False) == 32
    assert ring.pdus() - before == 12


def test_roles_with_one_of_2004_among_them_serve_each_outside_target_once(ring: Ring) -> None:
    before = ring.pdus()
    assert ring.send("role2004@a.example") == 0
    assert ring.outside.wait(lambda: ring.took("a2004", "old", "c2004") == [1, 1, 1])
    assert ring.send("role2004@a.example", again=True) == 1
    assert ring.send("role2004@a.example", again=True, extended=False) == 0
    assert ring.took("a2004", "old", "c2004") == [1, 1, 1]
    assert ring.pdus() - before == 3 + 3 + 3


def test_a_pull_in_the_circle_ends_it_by_the_trace(ring: Ring) -> None:
    """c fetches the message and notifies afresh, with keys of its own: only the trace says that it has been at a."""
    before = ring.pdus()
    ring.submit("pull@a.example")
    assert ring.outside.wait(lambda: ring.took("apull", "bpull", "cpull") == [1, 1, 1])
    ring.nodes["c"].event("pulled", code=0)
    assert ring.took("apull", "bpull", "cpull") == [1, 1, 1]
    assert ring.pdus() - before <= 1 + 3 + 3
    keys = {one.identifier for one in ring.outside.heard if str(one.recipient).endswith("pull@out.example")}
    assert len(keys) == 2  # the store's own, and c's


def test_a_pull_and_one_of_2004_in_the_circle_end_by_the_copy_that_comes_home(ring: Ring) -> None:
    """The trace is lost, but c knows the keys it minted for this very address (5.0 e)."""
    before = ring.pdus()
    ring.submit("pull2004@a.example")
    ring.nodes["c"].event("pulled", address="pull2004@c.example", code=50)
    assert ring.outside.wait(lambda: ring.took("a2004pull", "oldpull", "c2004pull") == [2, 2, 1])
    assert ring.pdus() - before <= 2 * (3 + 3)


def test_two_pulls_and_one_of_2004_in_the_circle_go_round_three_times(ring: Ring) -> None:
    """Each round has keys of its own and a new trace; only the octets are the same: the fourth pull of them ends it."""
    before = ring.pdus()
    ring.submit("pulls@a.example")
    ring.nodes["a"].event("pulled", address="pulls@a.example", code=50)
    assert ring.outside.wait(lambda: ring.took("apulls", "oldpulls", "cpulls") == [3, 3, 3])
    assert ring.pdus() - before <= 3 * (3 + 3) + 1
    assert ring.most_hops() <= HOPS


def test_nothing_goes_on_afterwards(ring: Ring) -> None:
    """What was counted is all there is: nothing is under way, and a look later nothing has moved."""
    before = ring.pdus()
    assert ring.settled()
    assert ring.pdus() == before
