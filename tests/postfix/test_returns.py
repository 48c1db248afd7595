"""Return paths through Postfix: reports find their way back to the world's senders, forged paths do not get in."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest

from ..program.peers import eventually  # noqa: TID252  # the real daemons that other tests have too
from ..smtp_bridge.test_returns import POSTSRSD, Postsrsd  # noqa: TID252
from .edge import Edge
from .far_side import Letter

MAIL = b"From: ann@x.example\r\nTo: box@pobox.example\r\nSubject: hello\r\n\r\nsecret words\r\n"


@pytest.fixture(autouse=True)
def ready(edge: Edge) -> None:
    edge.node.address("box@pobox.example", 'to = ["bob@world.example"]')
    edge.far.got.clear()
    edge.far.refuse.clear()


def path_of(edge: Edge, sender: str) -> str:
    """Under which sender his mail goes on."""
    before = len(edge.far.got)
    edge.send(sender, "box@pobox.example", MAIL)
    return edge.far.receives(before + 1)[-1].sender


def test_the_far_sides_refusal_reaches_the_worlds_sender(edge: Edge) -> None:
    edge.far.refuse["bob@world.example"] = b"550 5.7.1 we do not want it"
    edge.send("ann@x.example", "box@pobox.example", MAIL)
    [letter] = edge.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    assert b"we do not want it" in letter.octets
    assert b"multipart/report" in letter.octets
    edge.is_empty()
    assert len(edge.far.got) == 1


def test_whoever_answers_an_srs_address_reaches_the_sender_unchanged_and_with_null_sender(edge: Edge) -> None:
    path = path_of(edge, "Ann.Other@x.example")
    report = b"From: MAILER-DAEMON@world.example\r\nSubject: late\r\n\r\n.\r\nraw \xff\r\n"
    edge.send("", path, report)
    letter = edge.far.receives(2)[-1]
    assert (letter.sender, letter.recipients) == ("", ["Ann.Other@x.example"])
    assert letter.octets.endswith(report)


def test_forged_and_foreign_paths_are_refused_at_rcpt(edge: Edge) -> None:
    path = path_of(edge, "ann@x.example")
    local = path.partition("@")[0]
    hashed = local.split("=")[1]
    wrong = ("A" if hashed[0] not in "Aa" else "B") + hashed[1:]  # case does not count
    forged = {
        "another sender": path.replace("ann@", "eve@"),
        "wrong hash": path.replace(hashed, wrong),
        "hash cut short": path.replace(hashed, hashed[:1]),
        "no hash": "SRS0=ann=x.example=JN=x@srs.pobox.example",
        "a row": "b=aaaaaaaaaaaaaaaaaaaa@srs.pobox.example",
        "nobody": "postmaster2@srs.pobox.example",
    }
    answers = dict(zip(forged, edge.asks(*forged.values(), sender=""), strict=True))
    assert {name: code for name, (code, _) in answers.items()} == dict.fromkeys(forged, 550)
    assert (
        edge.asks(path.lower(), path.upper().replace("SRS.POBOX.EXAMPLE", "srs.pobox.example"), sender="")
        == [(250, "2.1.5 Ok")] * 2
    )


def test_a_foreign_srs_address_becomes_srs1_and_comes_back(edge: Edge) -> None:
    path = path_of(edge, "SRS0=abcd=JN=far.example=eve@x.example")
    assert path.startswith("SRS1=") and "=x.example==abcd=JN=far.example=eve@" in path
    edge.send("", path, MAIL)
    letter = edge.far.receives(2)[-1]
    assert (letter.sender, letter.recipients) == ("", ["SRS0=abcd=JN=far.example=eve@x.example"])


def test_a_sender_too_long_for_srs_comes_back_by_the_row(edge: Edge) -> None:
    sender = f"{'a' * 60}@x.example"
    edge.far.refuse["bob@world.example"] = b"550 5.7.1 no"
    edge.send(sender, "box@pobox.example", MAIL)
    [letter] = edge.far.receives()
    assert (letter.sender, letter.recipients) == ("", [sender])


def test_hosted_senders_keep_their_name(edge: Edge) -> None:
    assert path_of(edge, "brian@pobox.example") == "brian@pobox.example"


def test_mail_that_nobody_can_deliver_makes_one_report_and_a_null_sender_none(edge: Edge) -> None:
    edge.node.address("dead@pobox.example", 'to = ["dan@world.example"]')
    edge.far.refuse |= dict.fromkeys(("dan@world.example", "eve@x.example"), b"550 5.1.1 nobody here")
    edge.send("eve@x.example", "dead@pobox.example", MAIL)
    edge.send("", "dead@pobox.example", MAIL)
    eventually(lambda: edge.log.count("to=<eve@x.example>") == 1 and edge.log.count("to=<dan@world.example>") == 2)
    edge.is_empty()
    assert edge.far.got == []


def letters_to(edge: Edge, recipient: str) -> list[Letter]:
    return [letter for letter in edge.far.got if letter.recipients == [recipient]]


def test_unread_for_its_whole_life_a_mail_is_reported(edge: Edge) -> None:
    """With headers only; and not before its time."""
    node = edge.node
    edge.send("ann@x.example", "freda@pobox.example", MAIL)
    eventually(lambda: edge.waiting("freda") == 1)
    node.stop()
    node.start(turnable=True, turned=364 * 86400)
    assert edge.waiting("freda") == 1
    node.stop()
    assert edge.far.got == []
    node.start(turnable=True, turned=366 * 86400)
    [letter] = edge.far.receives()
    assert (letter.sender, letter.recipients) == ("", ["ann@x.example"])
    assert b"Subject: hello" in letter.octets and b"secret words" not in letter.octets
    assert edge.waiting("freda") == 0
    node.stop()
    node.start()


@pytest.mark.skipif(POSTSRSD is None, reason="postsrsd IS NOT INSTALLED: apt-get install postsrsd")
def test_what_the_daemon_sends_under_postsrsd_would_make_and_reads(edge: Edge) -> None:
    """With the same secret, and four characters of hash, which is all that postsrsd makes by itself."""
    node = edge.node
    node.stop()
    file = node.folder / "forwarder.toml"
    before = file.read_text()
    file.write_text(before.replace("# hash = 8", "hash = 4"))
    node.start()
    oracle = Postsrsd(node.folder / "srs.secret")
    try:
        for sender in ("ann@x.example", "a+b@x.example", "SRS0=abcd=JN=far.example=eve@x.example"):
            path = path_of(edge, sender)
            assert oracle.ask(0, sender) == f"200 {path}"
            assert oracle.ask(1, path) == f"200 {sender}"
            made = oracle.ask(0, sender).removeprefix("200 ")
            edge.send("", made, MAIL)
            eventually(partial(letters_to, edge, sender))
    finally:
        oracle.process.terminate()
        oracle.process.wait(10)
        node.stop()
        file.write_text(before)
        node.start()


def test_check_network_hears_what_postfix_takes(edge: Edge) -> None:
    """Its message_size_limit is the printed one; told less, it says so."""
    config = str(edge.node.folder)
    words = [sys.executable, "-m", "forwarder", "check", "--network", "--config", config]
    assert subprocess.run(words, capture_output=True, timeout=60, check=True).stderr == b""
    file = edge.node.folder / "forwarder.toml"
    before = file.read_text()
    file.write_text(before.replace('max_size = "30MiB"', 'max_size = "31MiB"'))
    said = subprocess.run(words, capture_output=True, timeout=60, check=True).stderr
    file.write_text(before)
    assert b"32505856 octets come in, and the smarthost takes 31457280" in said
