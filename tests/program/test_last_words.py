"""What a real daemon says to sessions that it ends: at a cap, at SIGTERM, and when the drain may last no longer; and
that another daemon, told so, takes it for "later" (docs/protocol.md 5.3).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import parse_mailbox
from forwarder.wire import msoap, rnasp
from forwarder.wire.msoap import Status as StatusO
from forwarder.wire.rnasp import Status

from .node import Node, running
from .peers import TODAY, Agent, Client, Reader, eventually, notification, submit

STRANGER, OTHER = "127.61.0.1", "127.62.0.1"
SERVICES = ("rnasp", "rnaqp", "msrap", "msoap")
NOT_NOW: dict[str, Any] = {name: StatusO.errorserviceshutdown if name == "msoap" else Status.errorserviceshutdown
                           for name in SERVICES}  # fmt: skip


@pytest.fixture
def agent() -> Iterator[Agent]:
    with closing(Agent()) as agent:
        yield agent


def _node(folder: Path, agent: Agent, **settings: object) -> Node:
    static = f'{{"out.example" = {{rnasp = "127.0.0.1:{agent.port}"}}}}'
    more = {name.replace("__", "."): value for name, value in settings.items()}
    node = Node(folder / "config", "pobox.example", {"resolve.static": static, **more})
    node.account("brian")
    node.address("box@pobox.example", 'strategy = "subscribe"\nreaders = ["brian"]')
    node.address("fwd@pobox.example", 'to = ["bob@out.example"]')
    return node


def _not_now(node: Node, service: str, source: str = STRANGER) -> None:
    with Client(node, service, source) as client:
        assert client.last_word() == (True, NOT_NOW[service])


# -- caps


@pytest.mark.parametrize("limit", ["sessions", "sessions_per_address"])
def test_over_a_cap_each_service_says_not_now_and_the_cap_is_named(tmp_path: Path, agent: Agent, limit: str) -> None:
    node = _node(tmp_path, agent, network__trusted="[]", **{f"limits__{limit}": 4})
    with running(node), ExitStack() as held:
        clients = [held.enter_context(Client(node, service, STRANGER)) for service in SERVICES]
        eventually(lambda: sum(node.ask("status")["sessions"].values()) == 4)
        for service in SERVICES:
            _not_now(node, service)
        assert node.ask("status")["limits"][limit] == 4
        assert node.event("limit struck")["limit"] == limit
        assert clients[0].notify(notification("box@pobox.example", "in time")) == [0], "those who are in go on"
        if limit == "sessions_per_address":
            with Client(node, "rnasp", OTHER) as other:
                assert other.notify(notification("box@pobox.example", "elsewhere")) == [0]
        clients[-1].socket.close()
        eventually(lambda: sum(node.ask("status")["sessions"].values()) == 3)
        with Client(node, "rnasp", STRANGER) as again:
            assert again.notify(notification("box@pobox.example", "room again")) == [0]


# -- SIGTERM


def test_at_sigterm_whoever_is_in_the_midst_of_something_is_told(tmp_path: Path, agent: Agent) -> None:
    """A submission with its last chunk to come, half a PDU, a reader between two commands."""
    node = _node(tmp_path, agent)
    with running(node), ExitStack() as held:
        clients = {name: held.enter_context(Client(node, name)) for name in SERVICES}
        envelope = msoap.SubmitEnvelope((parse_mailbox("box@pobox.example"),), (), 3600)
        assert not clients["msoap"].login("brian").ask(envelope).status
        clients["rnaqp"].login("brian")
        clients["rnasp"].send(rnasp.Notify((notification("box@pobox.example", "one"),)))
        assert not clients["rnasp"].hear().status
        clients["rnasp"].socket.sendall(b"\0\0\0\x55\xa1")
        node.send_signal(signal.SIGTERM)
        for name, client in clients.items():
            assert client.last_word() == (True, NOT_NOW[name]), name
        assert node.ended() == 0
        assert node.event("drained")["in_time"] is True


def test_a_daemon_that_is_told_not_now_comes_again_later(tmp_path: Path, agent: Agent) -> None:
    """Store and forwarder in one node, the agent another: it goes down in mid-PDU, and comes back."""
    there = _node(tmp_path / "there", agent, node__drain='"1s"')
    with running(there):
        port = there.port("rnasp")
        static = f'{{"pobox.example" = {{rnasp = "127.0.0.1:{port}"}}}}'
        here = Node(tmp_path / "here" / "config", "staff.example", {"resolve.static": static})
        here.account("anna")
        here.address("all@staff.example", 'to = ["fwd@pobox.example"]')
        here.address("box@staff.example", 'to = ["box@pobox.example"]')
        with running(here, turnable=True), Client(here, "rnasp") as store:
            agent.hold()
            sent = submit(here, "anna", "fwd@pobox.example", b"Subject: x\n\nlater\n")
            agent.hears(1)
            store.send(rnasp.Notify((notification("all@staff.example", "k"),), TODAY))
            agent.hears(2)
            assert there.stop() == 0
            [outcome] = store.hear().data.results
            assert (outcome.code, outcome.retryafter) == (32, 300), "temporary, soon again"
            here.event("not notified", detail="the agent takes nothing now: errorserviceshutdown")
            agent.release()
            _come_back(there, port)
            here.turn_clock(700)
            assert store.notify(notification("box@staff.example", "k")) == [0]
            submit(here, "anna", "box@pobox.example", b"wakes the sending, which does not see the clock turn")
            assert Reader(there, "brian").gets("fwd@pobox.example").identifier == sent, "nothing was lost"


def _come_back(node: Node, port: int) -> None:
    """On the same port; its own target has moved in."""
    node.address("fwd@pobox.example", 'strategy = "subscribe"\nreaders = ["brian"]')
    path = node.folder / "forwarder.toml"
    path.write_text(path.read_text().replace('rnasp = ["127.0.0.1:0"]', f'rnasp = ["127.0.0.1:{port}"]'))
    node.start()
