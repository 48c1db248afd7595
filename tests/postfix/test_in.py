"""Outside mail through Postfix: to a person, a role, a group; whoever does not exist is refused at RCPT."""

from __future__ import annotations

import shutil
import smtplib
import socket
import subprocess
from pathlib import Path

import pytest

from ..program.peers import eventually  # noqa: TID252  # the real daemons that other tests have too
from .edge import Edge, body_of

MAIL = b"From: Ann <ann@x.example>\r\nTo: %s\r\nSubject: %s\r\n\r\n.\r\n..two\r\nraw \xe9\xff\r\n\r\n"


def mail(to: str, subject: str) -> bytes:
    return MAIL % (to.encode(), subject.encode())


def test_to_a_person_who_reads_it_with_fetchmail_and_closes_it(edge: Edge, tmp_path: Path) -> None:
    octets = mail("brian@pobox.example", "hello")
    edge.send("ann@x.example", "brian@pobox.example", octets)
    [read] = edge.reads("brian", tmp_path / "mail")
    assert body_of(read) == body_of(octets)
    assert b"Return-Path: <ann@x.example>" in read
    assert b"\nDelivered-To: brian@pobox.example\n" in read
    assert edge.waiting("brian") == 0
    eventually(lambda: edge.node.ask("status")["kept"]["messages"] == 0)


def test_to_a_role_where_the_first_closes_it_for_all(edge: Edge, tmp_path: Path) -> None:
    edge.node.address("sales@pobox.example", 'strategy = "subscribe"\nkind = "role"\nreaders = ["brian", "freda"]')
    edge.send("ann@x.example", "sales@pobox.example", mail("sales@pobox.example", "an order"))
    eventually(lambda: edge.waiting("freda") == 1)
    [read] = edge.reads("brian", tmp_path / "mail")
    assert b"Subject: an order" in read
    assert edge.waiting("freda") == 0


def test_to_a_group_where_everybody_reads_it(edge: Edge, tmp_path: Path) -> None:
    edge.node.address(
        "staff@pobox.example",
        'strategy = "pull_repush"\nkind = "group"\nto = ["brian@pobox.example", "freda@pobox.example"]',
    )
    octets = mail("staff@pobox.example", "party")
    edge.send("ann@x.example", "staff@pobox.example", octets)
    for person in ("brian", "freda"):
        [read] = edge.reads(person, tmp_path / person)
        assert body_of(read) == body_of(octets)


def test_several_recipients_each_get_it(edge: Edge, tmp_path: Path) -> None:
    edge.send("ann@x.example", ["brian@pobox.example", "freda@pobox.example"], mail("both", "two"))
    for person in ("brian", "freda"):
        [read] = edge.reads(person, tmp_path / person)
        assert f"Delivered-To: {person}@pobox.example".encode() in read


def test_who_does_not_exist_is_refused_at_rcpt(edge: Edge) -> None:
    edge.node.address("off@pobox.example", 'state = "off"\nto = ["x@world.example"]')
    edge.node.address("gone@pobox.example", 'state = "gone"')
    edge.node.address("moved@pobox.example", 'state = "moved"\nto = ["x@world.example"]')
    edge.node.address("broken@pobox.example", "strategy = 5")
    names = ("nobody", "off", "gone", "moved", "broken", "brian")
    answers = dict(zip(names, edge.asks(*(f"{name}@pobox.example" for name in names)), strict=True))
    said = {name: (code, text.split(" ")[0]) for name, (code, text) in answers.items()}
    assert said == {
        "nobody": (550, "5.1.1"),
        "off": (450, "4.2.1"),
        "gone": (550, "5.1.1"),
        "moved": (550, "5.1.6"),
        "broken": (451, "4.3.5"),
        "brian": (250, "2.1.5"),
    }
    assert edge.asks("x@elsewhere.example")[0][0] == 454
    below = edge.asks("brian@sub.pobox.example", "x@sub.srs.pobox.example")  # Postfix takes what is below relay_domains
    assert [(code, text.split(" ")[0]) for code, text in below] == [(550, "5.7.1")] * 2


def test_who_does_not_exist_is_refused_to_machines_of_our_own_too(edge: Edge) -> None:
    asked = "nobody@pobox.example", "brian@pobox.example", "x@sub.pobox.example", "x@world.example"
    answers = edge.asks(*asked, port=edge.household_port)
    assert [code for code, _ in answers] == [550, 250, 550, 250]


def test_while_we_are_down_their_mail_for_others_goes_on(edge: Edge) -> None:
    edge.node.stop()
    answers = edge.asks("brian@pobox.example", "x@world.example", port=edge.household_port)
    assert [code for code, _ in answers] == [451, 250]
    edge.node.start()


def test_while_we_are_down_the_world_is_asked_to_come_again(edge: Edge, tmp_path: Path) -> None:
    edge.node.stop()
    assert edge.asks("brian@pobox.example")[0][0] == 451
    edge.node.start()
    edge.send("ann@x.example", "brian@pobox.example", mail("brian@pobox.example", "again"))
    [read] = edge.reads("brian", tmp_path / "mail")
    assert b"Subject: again" in read


def test_what_postfix_has_when_we_go_down_comes_when_we_are_back(edge: Edge, tmp_path: Path) -> None:
    edge.is_empty()
    with smtplib.SMTP("127.0.0.1", edge.port, local_hostname="x.example", timeout=60) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:<ann@x.example>")
        assert client.docmd("RCPT", "TO:<brian@pobox.example>")[0] == 250
        edge.node.stop()
        assert client.data(mail("brian@pobox.example", "kept"))[0] == 250
    edge.node.start()
    edge.is_empty()
    [read] = edge.reads("brian", tmp_path / "mail")
    assert b"Subject: kept" in read


def test_a_mail_that_is_too_big_is_refused_by_postfix(edge: Edge) -> None:
    with smtplib.SMTP("127.0.0.1", edge.port, local_hostname="x.example", timeout=60) as client:
        client.ehlo()
        assert client.docmd("MAIL", f"FROM:<ann@x.example> SIZE={31 << 20}") == (
            552,
            b"5.3.4 Message size exceeds fixed limit",
        )


@pytest.mark.parametrize("recipient", ['"bri an"', "<brian", "SRS0=x", "b=aaaa"])
def test_odd_addresses_harm_nobody(edge: Edge, recipient: str) -> None:
    [(code, _)] = edge.asks(f"{recipient}@pobox.example")
    assert code in (501, 504, 550, 553, 554)


def test_a_full_mailbox_leaves_the_mail_with_postfix(edge: Edge, tmp_path: Path) -> None:
    limits = "[limits]\nwaiting = 1"
    edge.node.address("small@pobox.example", f'strategy = "subscribe"\nreaders = ["brian"]\n{limits}')
    for number in (1, 2):
        edge.send("ann@x.example", "small@pobox.example", mail("small@pobox.example", f"number {number}"))
    eventually(lambda: "452 4.2.2 mailbox is full" in edge.log)
    [read] = edge.reads("brian", tmp_path / "first")
    assert b"Subject: number " in read
    edge.is_empty()
    [read] = edge.reads("brian", tmp_path / "second")
    assert b"Subject: number " in read


def test_a_mailbox_holds_more_than_one_sender_may_have_there(edge: Edge) -> None:
    """All the world's mail has one sender here, the gateway: 200 of one sender is no limit for that."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(30)
        plain.connect(str(edge.folder / "queue" / "forwarder" / "lmtp"))
        with plain.makefile("rwb") as peer:
            peer.write(b"LHLO x\r\n")
            for number in range(210):
                envelope = b"MAIL FROM:<ann%d@x.example>\r\nRCPT TO:<brian@pobox.example>\r\nDATA\r\n" % number
                peer.write(envelope + b"Subject: %d\r\n\r\nx\r\n.\r\n" % number)
                peer.flush()
            peer.write(b"QUIT\r\n")
            peer.flush()
            assert peer.read().count(b"250 2.1.5 taken") == 210
    assert len(edge.retrieves("brian", 210)) == 210


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks IS NOT INSTALLED: apt-get install swaks")
def test_another_mta_may_stand_there_and_speak_lmtp(edge: Edge, tmp_path: Path) -> None:
    words = ["swaks", "--protocol", "LMTP", "--socket", str(edge.folder / "queue" / "forwarder" / "lmtp")]
    words += ["--from", "ann@x.example", "--to", "brian@pobox.example,freda@pobox.example", "--body", "by swaks"]
    ended = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    for person in ("brian", "freda"):
        [read] = edge.reads(person, tmp_path / person)
        assert b"by swaks" in read
