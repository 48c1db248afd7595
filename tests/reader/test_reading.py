"""`forwarder read`, `send`, `sent`, `unsend` as typed, against small services on loopback."""

from __future__ import annotations

import hashlib
import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from forwarder.model import Mailbox, handle
from forwarder.wire.msrap import UnPin
from forwarder.wire.rnaqp import Clear


@pytest.fixture
def letter() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Toby <toby@store.example>", "brian@pobox.example", "Grüße"
    message.set_content("Hello Brian,\n\x1b[31mred\n")
    message.add_attachment(b"\x00\x01picture" * 200, maintype="image", subtype="png", filename="cat.png")
    return message.as_bytes()


def test_nothing_waits(mine: Path, type_: Any) -> None:
    assert type_("read") == (0, b"nothing waits\n", "")


def test_the_list_names_sender_recipient_and_marks_but_no_subject(
    mine: Path, type_: Any, world: Any, letter: bytes
) -> None:
    world.put(letter, shared=True, original=Mailbox("sales", "pobox.example"), claimedfrom=Mailbox("t", "x.example"))
    code, out, err = type_("read")
    assert (code, err) == (0, "")
    line = out.decode().splitlines()[1]
    for shown in (
        "toby at store.example, says t@x.example (unverified)",
        "brian@pobox.example (first sales@pobox.example)",
        "shared",
    ):
        assert shown in line
    assert "Gr" not in line, "asking for the subject would count as read"


def test_json_has_a_stable_schema(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    key = world.put(letter).identifier
    code, out, _ = type_("read", "--json")
    assert code == 0
    (item,) = json.loads(out)["items"]
    assert item == {
        "number": 1, "handle": handle(key), "list": None, "sender": "toby", "store": "store.example", "origin": None,
        "to": "brian@pobox.example", "original": None, "date": "2023-11-14T22:13:20Z", "size": len(letter),
        "shared": False, "signature": {"state": "none"}, "claims": {"from": None, "header_from": None, "subject": None},
    }  # fmt: skip
    assert key.hex().encode() not in out


def test_show_is_a_mime_viewer_and_teaches_the_list(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    type_("read")
    code, out, err = type_("read", "show", "1")
    assert (code, err) == (0, "")
    text = out.decode()
    assert "Subject: Grüße\n" in text
    assert "Hello Brian,\n[31mred" in text, "control characters are dropped"
    assert "attachment  cat.png  image/png  1.8 KiB" in text
    assert "Grüße" in type_("read")[1].decode()


def test_show_raw_and_save_give_the_octets(mine: Path, type_: Any, world: Any, letter: bytes, tmp_path: Path) -> None:
    world.put(letter)
    type_("read")
    assert type_("read", "show", "1", "--raw")[1] == letter
    assert type_("read", "save", "1", "m.eml")[0] == 0
    assert (tmp_path / "m.eml").read_bytes() == letter
    assert type_("read", "save", "1", "cat.png", "--attachment", "cat.png")[0] == 0
    assert (tmp_path / "cat.png").read_bytes() == b"\x00\x01picture" * 200
    assert type_("read", "save", "1", "m.eml")[0] == 2, "no file is overwritten unasked"
    assert type_("read", "save", "1", "-", "--attachment", "dog.png")[0] == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["cat.png", "m.eml", "password"]


def test_done_closes_and_done_again_is_no_item(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    type_("read")
    assert type_("read", "done", "1") == (0, b"1: done\n", "")
    assert (world.bodies, world.waiting) == ({}, {})
    code, _, err = type_("read", "done", "1")
    assert (code, err.count("\n")) == (1, 1)


def test_a_lost_answer_to_unpin_is_closed_perhaps_by_you(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    type_("read")
    world.lose = [UnPin]
    assert type_("read", "done", "1") == (0, b"1: closed, perhaps by you\n", "")


def test_a_lost_answer_to_clear_is_told_and_made_good(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    type_("read")
    world.lose = [Clear]
    code, out, err = type_("read", "done", "1")
    assert (code, out, err.count("\n")) == (0, b"1: done\n", 1)
    assert type_("read") == (0, b"nothing waits\n", "")


def test_what_another_dealt_with_is_said_so_and_leaves(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter, shared=True)
    type_("read")
    world.bodies.clear()
    code, out, err = type_("read", "show", "1")
    assert (code, out, err) == (1, b"", "forwarder: 1: already handled or withdrawn\n")
    assert type_("read") == (0, b"nothing waits\n", "")


def test_another_message_than_announced_is_shown_as_an_error(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    key = world.put(letter).identifier
    type_("read")
    world.bodies[key] = letter.replace(b"Brian", b"Bryan")
    code, out, err = type_("read", "show", "1")
    assert (code, out, err.count("\n")) == (1, b"", 1)
    assert "SHA-256" in err
    assert type_("read", "save", "1", "m.eml")[0] == 1
    assert not Path("m.eml").exists()


def test_an_agent_of_2004(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.legacy = True
    world.put(letter)
    assert type_("read")[0] == 0
    assert world.waiting == {}
    assert b"toby at store.example" in type_("read")[1]
    assert type_("read", "done", "1")[0] == 0


def test_an_agent_that_is_down_is_one_line_and_exit_1(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    type_("read")
    mine.write_text(mine.read_text().replace('rnaqp = "127.0.0.1:', 'rnaqp = "127.0.0.1:1" # '))
    code, out, err = type_("read")
    assert (code, err.count("\n")) == (1, 1)
    assert b"toby" in out, "what was saved is still listed"


def test_a_stranger_cannot_make_us_connect_into_our_own_network(
    mine: Path, type_: Any, world: Any, letter: bytes
) -> None:
    mine.write_text(mine.read_text().replace('allow = ["127.0.0.0/8"]', ""))
    world.put(letter)
    assert type_("read")[0] == 0, "my own agent is where I say it is"
    code, out, err = type_("read", "show", "1")
    assert (code, out, err.count("\n")) == (1, b"", 1)
    assert "loopback address" in err
    assert world.silenced == []


def test_a_wrong_password_is_one_line_and_exit_1(mine: Path, type_: Any, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong\n")
    code, _, err = type_("read")
    assert (code, err.count("\n")) == (1, 1)
    assert "not logged in" in err


def test_each_me_file_has_a_notebook_of_its_own(
    mine: Path, type_: Any, world: Any, letter: bytes, tmp_path: Path
) -> None:
    world.put(letter)
    other = tmp_path / "other.toml"
    other.write_text(mine.read_text())
    assert b"toby" in type_("read", "--me", str(other))[1]
    assert b"toby" in type_("read", "--me", str(other), "--json")[1]
    name = hashlib.sha256(bytes(other)).hexdigest()[:12]
    notebook = tmp_path / "data" / "forwarder" / f"reader-{name}.db"
    assert notebook.stat().st_mode & 0o777 == 0o600
    assert type_("read", "done", "1", "--me", str(other))[0] == 0


def test_a_wrong_me_file_is_told_by_line(mine: Path, type_: Any) -> None:
    mine.write_text(mine.read_text().replace("account =", "acount =", 1))
    code, out, err = type_("read")
    assert (code, out) == (2, b"")
    assert f'{mine.relative_to(Path.cwd())}:4: store.acount: unknown key; did you mean "account"?' in err.splitlines()


def test_send_sent_unsend(mine: Path, type_: Any, world: Any, letter: bytes, tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(letter)
    code, out, err = type_("send", "--to", "anna@isp.example,bob@isp.example", "Carol@isp.example", "letter", "--json")
    assert (code, err) == (0, "forwarder: the message has no Date, no Message-ID: sent as it is\n")
    sent = json.loads(out)["recipients"]
    assert [row["to"] for row in sent] == ["anna@isp.example", "bob@isp.example", "Carol@isp.example"]
    assert world.bodies[b"draft"] == letter, "octet for octet"
    code, out, _ = type_("sent", "--json")
    rows = json.loads(out)
    assert {(row["to"], row["status"], row["read"], row["pinned"]) for row in rows} == {
        (row["to"], "notifying", "unread", True) for row in sent
    }
    assert type_("sent", sent[0]["handle"])[0] == 0
    assert type_("unsend", sent[0]["handle"])[0] == 0
    assert b"cancelled" in type_("sent", sent[0]["handle"][:6])[1]
    assert type_("sent", "0123456789ab")[0] == 1
    assert type_("unsend", "nonsense")[0] == 2


def test_send_from_stdin_and_a_recipient_the_store_denies(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    code, out, err = type_("send", "--to", "anna@isp.example", "--to", "nobody@isp.example", "-", stdin=letter)
    assert code == 1
    assert b"anna@isp.example" in out
    assert err.splitlines()[-1] == "forwarder send: nobody@isp.example: the store does not take it"
    assert world.bodies[b"draft"] == letter


def test_a_list_is_merged_into_the_same_numbers(mine: Path, type_: Any, world: Any, letter: bytes) -> None:
    world.put(letter)
    world.bodies[b"k" * 16] = letter
    world.listed = [b"k" * 16]
    code, out, _ = type_("read")
    assert code == 0
    assert [line.split()[:2] for line in out.decode().splitlines()[1:]] == [["1", "toby"], ["2", "list"]]
    assert type_("read", "show", "2", "--raw")[1] == letter
    assert type_("read", "done", "1", "2") == (0, b"1: done\n2: done\n", "")
