"""Two real forwarders that point at each other, and a name that leads back to ourselves (protocol 5.0 a-c, 8.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple

import pytest

from forwarder.wire.rnaqp import Peek

from .names import Names
from .node import Node, running
from .peers import Client, eventually, notification


class Pair(NamedTuple):
    first: Node
    second: Node


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as held:
        names = held.enter_context(closing(Names()))
        asks = {"resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
        nodes = [Node(folder / name, f"{name}.example", asks) for name in ("first", "second")]
        for node, other in zip(nodes, reversed(nodes), strict=True):
            node.address(f"ring@{node.domain}", f'to = ["ring@{other.domain}"]')
            node.address(f"foreign@{node.domain}", f'to = ["ring@foreign-{node.domain}"]')
            held.enter_context(running(node))
            names.records[f"host.{node.domain}", "A"] = ["127.0.0.1"]
            for domain in (node.domain, f"foreign-{node.domain}"):
                names.records[f"_im2000-rnasp._tcp.{domain}", "SRV"] = [f"0 0 {node.port('rnasp')} host.{node.domain}."]
        role = 'kind = "role"\nto = ["mixed@second.example", "box@first.example"]'
        nodes[0].account("brian")
        nodes[0].address("box@first.example", 'strategy = "subscribe"\nreaders = ["brian"]')
        nodes[0].address("mixed@first.example", role)
        nodes[1].address("mixed@second.example", 'to = ["mixed@first.example"]')
        yield Pair(*nodes)
        assert [node.stop() for node in nodes] == [0, 0]


def _commands(pair: Pair) -> list[int]:
    return [node.ask("status")["commands"]["rnasp"] for node in pair]


def test_a_ring_of_stateless_hops_is_refused_by_who_meets_his_own_mark(pair: Pair) -> None:
    before = _commands(pair)
    with Client(pair.first, "rnasp") as store:
        assert store.notify(notification("ring@first.example", "round")) == [50]
    after = _commands(pair)
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1], "once round, and no further"


def test_a_ring_is_no_storm_when_it_is_tried_again(pair: Pair) -> None:
    before = sum(_commands(pair))
    for _ in range(5):
        with Client(pair.second, "rnasp") as store:
            assert store.notify(notification("ring@second.example", "again")) == [50]
    assert sum(_commands(pair)) - before == 15


def test_a_role_in_a_ring_serves_whoever_stands_outside(pair: Pair) -> None:
    with Client(pair.first, "rnasp") as store:
        assert store.notify(notification("mixed@first.example", "outside")) == [0]
        assert store.notify(notification("mixed@first.example", "outside")) == [1]
    with Client(pair.first, "rnaqp").login("brian") as reader:
        items = eventually(lambda: reader.ask(Peek(None, 10)).data.items)
        assert [str(item.notification.recipient) for item in items] == ["box@first.example"]


def test_ourselves_under_a_foreign_name_are_never_called(pair: Pair) -> None:
    before = _commands(pair)
    with Client(pair.first, "rnasp") as store:
        assert store.notify(notification("foreign@first.example", "foreign")) == [32]
    assert [now - then for now, then in zip(_commands(pair), before, strict=True)] == [1, 0]
