"""Guessing keys at a real store costs its guesser patience, and nobody else (protocol 8.5)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.wire import msrap, rnaqp

from .node import Node, running
from .peers import Client, key, submit

WINNER, LOSER, GUESSER = "127.71.0.1", "127.72.0.1", "127.73.0.1"
FREE = 20
TRIES = 40
BODY, ANOTHER = b"Subject: x\n\nfor whoever is first\n", b"Subject: y\n\nopen still\n"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "config", "pobox.example", {"network.trusted": "[]"})
    node.account("brian")
    node.address("sales@pobox.example", 'strategy = "subscribe"\nkind = "role"\nreaders = ["brian"]')
    with running(node):
        yield node


def _unpin(client: Client, identifier: bytes) -> str:
    return str(client.ask(msrap.UnPin(identifier)).status.name)


def _body(client: Client, identifier: bytes) -> bytes | None:
    response = client.ask(msrap.Retrieve(identifier, msrap.View.all, 0, 1000))
    return None if response.status else bytes(response.data.data)


def test_a_guesser_waits_and_the_losers_of_a_roles_race_do_not(node: Node) -> None:
    lost = submit(node, "brian", "sales@pobox.example", BODY)
    known = submit(node, "brian", "sales@pobox.example", ANOTHER)
    with Client(node, "msrap", WINNER) as winner:
        assert _unpin(winner, lost) == "noerror"
    with Client(node, "msrap", GUESSER) as guesser, Client(node, "msrap", LOSER) as loser:
        for number in range(FREE):
            assert _unpin(guesser, key(f"guess {number}")) == "errornosuchmessage"
        began = time.monotonic()
        for _ in range(TRIES):
            assert _unpin(loser, lost) == "errornosuchmessage", (
                "twice as many as a guesser has free, none of them a miss"
            )
            assert _body(loser, lost) is None
        assert node.ask("status")["limits"].get("key guesses", 0) == 0
        losing = time.monotonic() - began
        assert _unpin(guesser, key("one more")) == "errornosuchmessage"
        began = time.monotonic()
        guesser.send(msrap.UnPin(key("and another")))
        assert _body(loser, known) == ANOTHER, "served while the guesser waits"
        served = time.monotonic() - began
        assert guesser.hear().status.name == "errornosuchmessage", "in the end the answer is the same"
        waited = time.monotonic() - began
        assert waited >= 1.0
        assert served < waited
        assert losing / TRIES < waited / 2
        assert _body(guesser, known) == ANOTHER, "whoever has a key is slower there, never refused"
    assert node.ask("status")["limits"]["key guesses"] >= 2
    assert node.event("limit struck", limit="key guesses")["by"] == GUESSER


def test_the_name_that_a_guesser_gives_himself_fills_no_log(node: Node) -> None:
    name = "x" * (1 << 20)
    with Client(node, "msoap", GUESSER) as guesser:
        assert guesser.ask(rnaqp.Authenticate(name, "guess")).status
    told = node.event("login refused")
    assert str(told["account"]).startswith("xxx")
    assert len(str(told)) < 2_000
