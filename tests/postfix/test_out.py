"""Out to the world through Postfix: what came by SMTP, what came natively; octets, signatures, failures, injections."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import dkim
import pytest

from ..program.node import Node, running  # noqa: TID252  # the real daemons that other tests have too
from ..program.peers import eventually, submit, track  # noqa: TID252
from ..smtp_bridge.test_smarthost_postfix import signed  # noqa: TID252
from .edge import Edge

HEAD = b"From: Ann <ann@x.example>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@x.example>\r\n"
FORWARD = 'to = ["bob@world.example"]'


@pytest.fixture(scope="module")
def store(edge: Edge) -> Iterator[Node]:
    """The store of a native sender, toby."""
    asks = {"resolve.nameservers": f'["127.0.0.1:{edge.names.port}"]'}
    node = Node(edge.folder / "store", "store.example", asks)
    node.account("toby")
    with running(node):
        edge.peer(node)
        edge.peer(edge.node)
        yield node
        assert node.stop() == 0


@pytest.fixture(autouse=True)
def ready(edge: Edge) -> None:
    edge.node.address("box@pobox.example", FORWARD)
    edge.far.got.clear()
    edge.far.refuse.clear()


def test_octets_and_dkim_of_what_came_by_smtp(edge: Edge) -> None:
    message, record = signed(
        HEAD + b"Subject: raw \xe9\r\n\r\n.\r\n..\r\n \xff\x00\x01 \t\r\n\r\n" + b"y" * 900 + b"\r\n\r\n\r\n"
    )
    edge.send("ann@x.example", "box@pobox.example", message)
    [letter] = edge.far.receives()
    assert letter.octets.endswith(message)
    front = letter.octets.removesuffix(message)
    assert b"Return-Path" not in front
    assert b"\r\nDelivered-To: box@pobox.example\r\n" in b"\r\n" + front
    assert dkim.verify(letter.octets, dnsfunc=lambda *_, **__: record)
    assert letter.recipients == ["bob@world.example"]
    assert letter.sender.startswith("SRS0=") and letter.sender.endswith("=x.example=ann@srs.pobox.example")
    assert "BODY=8BITMIME" in letter.mail


def test_null_stays_null(edge: Edge) -> None:
    edge.send("", "box@pobox.example", b"Subject: a report\r\n\r\nx\r\n")
    assert edge.far.receives()[0].sender == ""


def test_why_shows_the_way(edge: Edge) -> None:
    said = edge.node.why("box@pobox.example")
    assert "smtp" in str(said)


def test_octets_and_dkim_of_a_native_message(edge: Edge, store: Node) -> None:
    message, record = signed(HEAD + b"Subject: \xff\r\n\r\n.\r\n.x\r\n\x00 \t\r\n\r\n")
    identifier = submit(store, "toby", "box@pobox.example", message)
    [letter] = edge.far.receives()
    front = letter.octets.removesuffix(message).split(b"\r\n")
    at = front.index(b"Delivered-To: box@pobox.example")
    assert front[at + 1] == b"Received: from store.example (im2000 toby)"
    assert front[at + 2].startswith(b" by mx.pobox.example with IM2000 id ")
    assert dkim.verify(letter.octets, dnsfunc=lambda *_, **__: record)
    assert letter.sender.startswith("b=") and letter.sender.endswith("@srs.pobox.example")
    assert track(store, "toby", identifier).pinned
    eventually(lambda: not track(store, "toby", identifier).pinned)


def test_a_failed_report_ends_the_target_and_un_pins_nothing(edge: Edge, store: Node) -> None:
    edge.far.refuse["bob@world.example"] = b"550 5.1.1 no such user here"
    identifier = submit(store, "toby", "box@pobox.example", HEAD + b"\r\nx\r\n")
    report = edge.node.event("report")
    assert report["failed"] == ["bob@world.example"]
    edge.is_empty()
    edge.node.event("not carried", target="bob@world.example", why="5.1.1 smtp; 550 5.1.1 no such user here")
    assert track(store, "toby", identifier).pinned


def test_lf_dot_crlf_of_a_native_originator_injects_nothing(edge: Edge, store: Node) -> None:
    evil = (
        HEAD + b"\r\none\n.\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@world.example>\r\nDATA\r\n"
        b"Subject: evil\r\n\r\nevil\r\n.\r\n\n.\n\r.\rQUIT\r\n"
    )
    submit(store, "toby", "box@pobox.example", evil)
    edge.far.receives()
    submit(store, "toby", "box@pobox.example", HEAD + b"\r\nthe last\r\n")
    edge.far.receives(2)
    edge.is_empty()
    letters = edge.far.got
    assert [letter.recipients for letter in letters] == [["bob@world.example"]] * 2
    assert all(letter.sender.startswith("b=") for letter in letters)
    octets = next(letter.octets for letter in letters if b"one" in letter.octets)
    assert b"one\r\n.\r\nMAIL FROM:<evil@x.example>\r\n" in octets
    assert octets.replace(b"\r\n", b"").count(b"\r") == octets.replace(b"\r\n", b"").count(b"\n") == 0


def test_a_role_with_a_member_in_the_world_stays_open_for_the_others(edge: Edge, tmp_path: Path) -> None:
    edge.node.address("team@pobox.example", 'kind = "role"\nto = ["bob@world.example", "freda@pobox.example"]')
    edge.send("ann@x.example", "team@pobox.example", HEAD + b"Subject: an order\r\n\r\nx\r\n")
    [letter] = edge.far.receives()
    assert letter.recipients == ["bob@world.example"]
    eventually(lambda: edge.waiting("freda") == 1)
    edge.is_empty()
    assert edge.node.ask("status")["kept"]["messages"] == 1
    [read] = edge.reads("freda", tmp_path / "mail")
    assert b"an order" in read
    eventually(lambda: edge.node.ask("status")["kept"]["messages"] == 0)


def test_a_group_with_a_member_in_the_world(edge: Edge, tmp_path: Path) -> None:
    members = 'to = ["bob@world.example", "freda@pobox.example"]'
    edge.node.address("staff@pobox.example", f'strategy = "pull_repush"\nkind = "group"\n{members}')
    octets = HEAD + b"Subject: party\r\n\r\nx\r\n"
    edge.send("ann@x.example", "staff@pobox.example", octets)
    [letter] = edge.far.receives()
    assert letter.octets.endswith(octets)
    [read] = edge.reads("freda", tmp_path / "mail")
    assert b"Subject: party" in read


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\n.\r"])
def test_no_odd_end_of_data_from_the_world_injects_anything(edge: Edge, end: bytes) -> None:
    evil = b"one" + end + b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<victim@world.example>\r\nDATA\r\nevil\r\n"
    with edge.line() as peer:

        def say(words: bytes) -> bytes:
            peer.write(words)
            peer.flush()
            answer = peer.readline()
            while answer[3:4] == b"-":
                answer = peer.readline()
            return answer

        assert say(b"EHLO x.example\r\n").startswith(b"250")
        for words in (b"MAIL FROM:<ann@x.example>\r\n", b"RCPT TO:<box@pobox.example>\r\n"):
            assert say(words).startswith(b"250")
        assert say(b"DATA\r\n").startswith(b"354")
        assert say(HEAD + b"\r\n" + evil + b"\r\n.\r\n").startswith(b"250")
    edge.far.receives()
    edge.is_empty()
    assert all(letter.recipients == ["bob@world.example"] for letter in edge.far.got)
    assert not any(letter.octets.lstrip().startswith(b"evil") for letter in edge.far.got)


def test_a_line_of_70000_octets_comes_in_whole_and_goes_out_folded(edge: Edge) -> None:
    long = HEAD + b"\r\n" + b"y" * 70_000 + b"\r\n"
    edge.send("ann@x.example", "brian@pobox.example", long)
    [read] = edge.retrieves("brian")
    assert read.endswith(long)
    edge.send("ann@x.example", "box@pobox.example", long)
    [letter] = edge.far.receives()
    assert letter.octets.partition(b"\r\n\r\n")[2].count(b"y") == 70_000
    assert max(map(len, letter.octets.split(b"\r\n"))) <= 1000


def test_a_thousand_recipients(edge: Edge) -> None:
    """Postfix takes so many in one transaction; each that is not here is refused by itself."""
    with smtplib.SMTP("127.0.0.1", edge.port, local_hostname="x.example", timeout=60) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:<ann@x.example>")
        codes = [client.docmd("RCPT", f"TO:<box+{number}@pobox.example>")[0] for number in range(1000)]
        assert codes == [250] * 1000
        assert client.docmd("RCPT", "TO:<box+x@pobox.example>")[0] == 452
        client.rset()
        client.quit()
