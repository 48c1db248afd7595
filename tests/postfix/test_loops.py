"""Rings across worlds end with one report, and the report arrives."""

from __future__ import annotations

import grp
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..program.node import Node  # noqa: TID252  # the real daemons that other tests have too
from ..program.peers import eventually  # noqa: TID252
from .edge import Edge, opened

MAIL = b"From: ann@x.example\r\nTo: box@pobox.example\r\nSubject: round and round\r\n\r\nwords\r\n"
RING = (
    "virtual_alias_domains =",
    "virtual_alias_maps = inline:{ {bob@ring.example = box@pobox.example}, {dan@ring.example = one@pobox.example},",
    "  {eve@ring.example = far@pobox.example} }",
    "transport_maps = inline:{ {srs.other.example = im2000:unix:other/lmtp} }",
)


@pytest.fixture(scope="module")
def ring() -> Iterator[Edge]:
    """Elsewhere somebody forwards back to us what we send him."""
    with tempfile.TemporaryDirectory(prefix="forwarder-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with opened(folder, main=RING) as running:
            running.world("ring.example")
            running.node.address("box@pobox.example", 'to = ["bob@ring.example"]')
            yield running


@pytest.fixture(autouse=True)
def ready(ring: Edge) -> None:
    ring.far.got.clear()


def test_a_ring_through_a_foreign_alias_ends_with_one_report(ring: Edge) -> None:
    ring.send("ann@x.example", "box@pobox.example", MAIL)
    [letter] = ring.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    assert b"mail forwarding loop for box@pobox.example" in letter.octets
    ring.is_empty()
    assert len(ring.far.got) == 1
    assert ring.node.ask("status")["kept"]["messages"] == 0


def test_a_null_sender_in_a_ring_makes_no_report(ring: Edge) -> None:
    before = ring.log.count("mail forwarding loop")
    ring.send("", "box@pobox.example", MAIL)
    eventually(lambda: ring.log.count("mail forwarding loop") > before)
    ring.is_empty()
    assert ring.far.got == []


def test_a_ring_of_two_addresses_here(ring: Edge) -> None:
    """one@ goes to two@ inside, two@ goes out and comes back to one@."""
    ring.node.address("one@pobox.example", 'to = ["two@pobox.example"]')
    ring.node.address("two@pobox.example", 'to = ["dan@ring.example"]')
    ring.send("ann@x.example", "one@pobox.example", MAIL)
    [letter] = ring.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    ring.is_empty()
    assert len(ring.far.got) == 1


def test_a_ring_over_two_nodes_ends_with_one_report(ring: Edge) -> None:
    """SMTP to us, IM2000 to the next node, SMTP from there and by a foreign alias back to us. The report reaches the
    other node's row, and so our store at its next repeat, and so the sender."""
    other = other_node(ring)
    try:
        other.start()
        ring.peer(other)
        ring.peer(ring.node)
        ring.node.address("far@pobox.example", 'to = ["x@other.example"]')
        ring.send("ann@x.example", "far@pobox.example", MAIL)
        other.event("not carried", target="eve@ring.example")
        ring.is_empty()
        assert ring.far.got == []
        for node in (other, ring.node):
            node.stop()
        for node in (other, ring.node):
            node.start(turnable=True, turned=30 * 3600)
            ring.peer(node)
        [letter] = ring.far.receives()
        assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
        ring.is_empty()
        assert len(ring.far.got) == 1
        ring.node.stop()
        ring.node.start()
    finally:
        other.end()


def other_node(ring: Edge) -> Node:
    """Behind the same Postfix, with return paths of its own."""
    sockets = ring.folder / "queue" / "other"
    sockets.mkdir(mode=0o750)
    os.chown(sockets, 0, grp.getgrnam("postfix").gr_gid)
    smarthost = tomllib.loads((ring.node.folder / "forwarder.toml").read_text())["bridge"]["smtp_out"]["smarthost"]
    services = {"lmtp": "lmtp", "submission": "submit", "postfix_map": "map", "postfix_auth": "auth"}
    settings = {f"listen.{name}": f'["unix:{sockets}/{file}"]' for name, file in services.items()}
    settings |= {"bridge.smtp_out.smarthost": f'"{smarthost}"', "listen.pop3": '["127.0.0.1:0"]'}
    settings |= {"resolve.nameservers": f'["127.0.0.1:{ring.names.port}"]'}
    node = Node(ring.folder / "other", "other.example", settings, ("--postfix", "--queue", str(ring.folder / "queue")))
    node.address("x@other.example", 'to = ["eve@ring.example"]')
    return node


def test_more_received_lines_than_allowed_are_a_loop(ring: Edge) -> None:
    lines = b"Received: from a by b; Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    ring.node.address("calm@pobox.example", 'to = ["bob@world.example"]')
    ring.send("ann@x.example", "calm@pobox.example", lines * 45 + MAIL)
    [letter] = ring.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    assert b"5.4.6" in letter.octets


def test_an_address_of_ours_is_never_given_to_the_smarthost(ring: Edge) -> None:
    """A target in a hosted domain that nobody has is nobody, and not Postfix's to find."""
    ring.node.address("lost@pobox.example", 'to = ["nobody@pobox.example"]')
    ring.send("ann@x.example", "lost@pobox.example", MAIL)
    [letter] = ring.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    ring.is_empty()
    assert "to=<nobody@pobox.example>" not in ring.log
