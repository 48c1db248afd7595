"""Rings across worlds end with one report, and the report arrives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..program.peers import eventually  # noqa: TID252  # the real daemons that other tests have too
from .edge import Edge, opened

MAIL = b"From: ann@x.example\r\nTo: box@pobox.example\r\nSubject: round and round\r\n\r\nwords\r\n"
RING = (
    "virtual_alias_domains =",
    "virtual_alias_maps = inline:{ {bob@ring.example = box@pobox.example}, {dan@ring.example = one@pobox.example} }",
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
