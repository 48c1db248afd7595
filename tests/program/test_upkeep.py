"""fsck, backup and restore, of a daemon that runs and of a folder at rest, by the verbs (docs/operations.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dns.message
import dns.query
import dns.rcode
import pytest

from forwarder.config.settings import load_settings
from forwarder.daemon.backup import back_up
from forwarder.model import user_label
from forwarder.storage.bodies import SMALL, Bodies
from forwarder.wire.msrap import QuerySize, Retrieve, UnPin, View
from forwarder.wire.rnaqp import Peek

from .node import Node
from .peers import eventually
from .ports import free_port
from .session import Session, notification, notify, submit

DOMAIN = "pobox.example"


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*words: object) -> Said:
    ended = subprocess.run(
        [sys.executable, "-m", "forwarder", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return Said(ended.returncode, ended.stdout, ended.stderr)


def as_node(folder: Path) -> Node:
    """A restored folder, to be started."""
    made = Node.__new__(Node)
    made.folder, made.domain, made.log = folder, DOMAIN, []
    made._news, made._process, made._reader, made._turn = threading.Condition(), None, None, None
    return made


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Runs; role@isp.example is notified nowhere, brian@pobox.example waits here."""
    static = f'{{ "isp.example" = {{ rnasp = "127.0.0.1:{free_port()}" }} }}'
    made = Node(tmp_path / "node", DOMAIN, {"resolve.static": static})
    made.account("brian")
    made.address(f"brian@{DOMAIN}", 'strategy = "subscribe"\nreaders = ["brian"]')
    try:
        made.start()
        yield made
    finally:
        made.end()


def fill(node: Node) -> bytes:
    """A message with a file of its own, and a notification that waits; the message's key."""
    with Session(node, "rnasp") as store:
        assert notify(store, notification(f"brian@{DOMAIN}", b"k" * 16)) == [0]
    with Session(node, "msoap", "brian") as originator:
        [key] = submit(originator, "role@isp.example", body=b"Subject: x\n\n" + bytes(SMALL))
    return key


def orphan(node: Node) -> Path:
    path = node.folder / "state" / "bodies" / "ab" / ("ab" + "0" * 30)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left over")
    return path


# -- fsck


@pytest.mark.parametrize("running", [True, False])
def test_fsck_finds_and_repairs_with_a_daemon_and_without(node: Node, running: bool) -> None:
    key = fill(node)
    left = orphan(node)
    if not running:
        assert node.stop() == 0
    found = run("fsck", "--config", node.folder, "--json")
    assert found.code == 1
    assert [problem["repaired"] for problem in found.json["problems"]] == [False]
    assert found.json["checked"]["messages"] == 1
    assert left.exists(), "only --repair touches anything"
    repaired = run("fsck", "--repair", "--config", node.folder)
    assert (repaired.code, repaired.err) == (0, "")
    assert repaired.out == f"repaired  body: no message needs the body {left.name}\n"
    assert not left.exists()
    again = run("fsck", "--deep", "--config", node.folder)
    assert again.code == 0
    assert again.out.startswith("all is fine: 1 messages, 1 bodies")
    if running:
        with Session(node, "msrap") as reader:
            assert reader.says(QuerySize(key)) == "noerror"


def test_fsck_holds_the_catalogue_against_the_address_files(node: Node) -> None:
    assert node.stop() == 0
    (node.folder / "addresses" / DOMAIN / "brian.toml").write_text('to = ["brian@isp.example"]\n')
    found = run("fsck", "--config", node.folder)
    assert found.code == 1
    assert f"catalogue: brian@{DOMAIN} is not in the catalogue as its file has it" in found.out
    assert run("fsck", "--repair", "--config", node.folder).code == 0
    (node.folder / "addresses" / DOMAIN / "brian.toml").unlink()
    assert "1 entries of the catalogue have no file any more" in run("fsck", "--config", node.folder).out
    assert run("fsck", "--repair", "--config", node.folder).code == 0
    assert run("fsck", "--config", node.folder).code == 0


@pytest.mark.parametrize("file", [f"addresses/{DOMAIN}/brian.toml", f"domains/{DOMAIN}.toml"])
def test_a_slip_in_a_file_takes_nothing_from_readers_once_it_is_mended(node: Node, file: str) -> None:
    """Neither a sweep (at a start, a reload, each hour) nor fsck takes what cannot be read for what is not there."""
    fill(node)
    path = node.folder / file
    right = path.read_text()
    path.write_text("strategy =\n" + right)
    assert run("fsck", "--repair", "--config", node.folder).out.startswith("all is fine")
    assert node.stop() == 0
    node.start()
    eventually(lambda: file in node.ask("status")["broken"])
    assert run("fsck", "--repair", "--config", node.folder).out.startswith("all is fine")
    path.write_text(right)
    with Session(node, "rnaqp", "brian") as reader:
        eventually(lambda: reader.ask(Peek(None, 10)).data.items)


def test_a_folder_of_addresses_that_is_away_for_a_while_takes_nothing_from_readers(node: Node) -> None:
    fill(node)
    addresses, away = node.folder / "addresses", node.folder / "away"
    with Session(node, "rnaqp", "brian") as reader:
        assert reader.ask(Peek(None, 10)).data.items
        addresses.rename(away)
        run("fsck", "--repair", "--config", node.folder)  # sweeps, as each hour
        eventually(lambda: node.ask("status")["catalogue"]["entries_at_last_sweep"] == 0)
        away.rename(addresses)
        eventually(lambda: reader.ask(Peek(None, 10)).data.items)


@pytest.mark.parametrize(
    ("slip", "rcode"),
    [(f"addresses/{DOMAIN}/anna.toml", dns.rcode.NXDOMAIN), (f"domains/{DOMAIN}.toml", dns.rcode.SERVFAIL)],
)
def test_a_slip_in_a_file_leaves_its_names_to_the_agent_and_to_no_wildcard(
    node: Node, slip: str, rcode: dns.rcode.Rcode
) -> None:
    """A wildcard of user records would take the mail of all whose files cannot be read."""
    catch_all = '{ strategy = "dns_user_lookup", to = ["lost@isp.example"], fallback = "rewrite_resend" }'
    (node.folder / "domains" / f"{DOMAIN}.toml").write_text(f'tag = ""\ncatch_all = {catch_all}\n')
    (node.folder / "addresses" / DOMAIN / "brian.toml").unlink()
    question = dns.message.make_query(f"{user_label('anna')}._im2000-user.{DOMAIN}", "TXT")

    def answer() -> dns.message.Message:
        return dns.query.udp(question, "127.0.0.1", 5, node.port("dns"))

    node.ask("reload")
    eventually(lambda: "lost@isp.example" in answer().to_text())
    with (node.folder / slip).open("a") as file:
        file.write("slip =\n")
    node.ask("reload")
    eventually(lambda: answer().rcode() == rcode)
    assert answer().answer == []
    assert "lost@isp.example" not in run("dns", "show", DOMAIN, "--config", node.folder).out


def test_fsck_tells_a_person_what_it_will_not_touch(node: Node) -> None:
    fill(node)
    assert node.stop() == 0
    [body] = [path for path in (node.folder / "state" / "bodies").rglob("*") if path.is_file()]
    body.write_bytes(b"cut")
    found = run("fsck", "--repair", "--config", node.folder)
    assert found.code == 1
    assert "these need a person" in found.out


def test_fsck_of_what_is_no_state_or_no_database(node: Node, tmp_path: Path) -> None:
    assert node.stop() == 0
    (node.folder / "state" / "forwarder.db").write_bytes(b"what is this?" * 1000)
    torn = run("fsck", "--repair", "--config", node.folder)
    assert torn.code == 1
    assert "database: cannot be opened" in torn.out
    shutil.rmtree(node.folder / "state")
    assert run("fsck", "--config", node.folder).code == 1
    assert run("fsck", "--config", tmp_path / "nowhere").code == 2


# -- backup and restore


def test_a_backup_taken_under_load_becomes_a_daemon_that_serves(node: Node, tmp_path: Path) -> None:
    fill(node)
    before: list[bytes] = []
    started, enough = threading.Event(), threading.Event()

    def write() -> None:
        with Session(node, "msoap", "brian") as originator, Session(node, "msrap") as reader:
            number = 0
            while not enough.is_set():
                number += 1
                body = b"Subject: %d\n\n" % number
                keep, drop = submit(originator, "a@isp.example", "b@isp.example", body=body)
                assert reader.says(UnPin(drop)) == "noerror"
                if not started.is_set():
                    before.append(keep)
                if number == 20:
                    started.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert started.wait(60)
    made = run("backup", tmp_path / "saved", "--config", node.folder, "--json")
    enough.set()
    writer.join(60)
    assert made.code == 0, made.err
    assert made.json["messages"] >= 21
    assert made.json["damaged"] == []
    assert node.stop() == 0
    assert (
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "saved", check=False).returncode
        == 0
    )

    back = run("restore", tmp_path / "saved", "--config", tmp_path / "again")
    assert (back.code, back.err) == (0, "")
    assert run("fsck", "--deep", "--config", tmp_path / "again").code == 0
    restored = as_node(tmp_path / "again")
    try:
        restored.start()
        with Session(restored, "msrap") as reader:
            for key in before:
                assert reader.ask(Retrieve(key, View.all, 0, 1000)).data.data.startswith(b"Subject: ")
        with Session(restored, "rnaqp", "brian") as reader:
            assert len(reader.ask(Peek(None, 10)).data.items) == 1
        assert run("fsck", "--deep", "--config", restored.folder).code == 0
        assert restored.stop() == 0
    finally:
        restored.end()


def test_the_state_and_its_backup_share_nothing_that_changes(node: Node, tmp_path: Path) -> None:
    key = fill(node)
    assert node.stop() == 0
    node.end()
    assert run("backup", tmp_path / "saved", "--config", node.folder).code == 0
    shutil.rmtree(node.folder)
    assert run("restore", tmp_path / "saved", "--config", node.folder).code == 0
    shutil.rmtree(tmp_path / "saved")
    node.start()
    with Session(node, "msrap") as reader:
        assert reader.says(UnPin(key)) == "noerror"


def test_a_backup_appears_complete_or_not_at_all(node: Node, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for place in (tmp_path / "taken", tmp_path / "no" / "parent", node.folder / "state" / "inside"):
        refused = run("backup", place, "--config", node.folder)
        assert (refused.code, refused.out) == (1, "")
    odd = node.folder / "tls"
    odd.mkdir(exist_ok=True)
    (odd / "odd\x07name").write_text("x")
    assert run("backup", tmp_path / "saved", "--config", node.folder).code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node", "taken"]


def test_a_backup_that_is_broken_off_leaves_nothing(node: Node, tmp_path: Path) -> None:
    fill(node)
    assert node.stop() == 0
    settings = load_settings(node.folder)
    asked = 0

    def go_on() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(settings, Bodies(settings.state / "bodies"), tmp_path / "saved", 0, go_on)
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_a_lost_body_is_named_and_no_reason_to_have_no_backup(node: Node, tmp_path: Path) -> None:
    fill(node)
    [body] = [path for path in (node.folder / "state" / "bodies").rglob("*") if path.is_file()]
    body.unlink()
    made = run("backup", tmp_path / "saved", "--config", node.folder)
    assert made.code == 0
    assert body.name in made.out
    assert run("restore", tmp_path / "saved", "--config", tmp_path / "again").code == 0
    assert run("fsck", "--config", tmp_path / "again").code == 1
    assert run("fsck", "--repair", "--config", tmp_path / "again").code == 0


def test_restore_never_goes_over_a_daemon_and_never_deletes(node: Node, tmp_path: Path) -> None:
    key = fill(node)
    assert run("backup", tmp_path / "saved", "--config", node.folder).code == 0
    for force in ((), ("--force",)):
        refused = run("restore", tmp_path / "saved", "--config", node.folder, *force)
        assert refused.code == 1
        assert "another forwarder runs" in refused.err
    with Session(node, "msrap") as reader:
        assert reader.says(UnPin(key)) == "noerror"
    assert node.stop() == 0
    node.end()
    refused = run("restore", tmp_path / "saved", "--config", node.folder)
    assert refused.code == 1
    assert "not empty" in refused.err
    forced = run("restore", tmp_path / "saved", "--config", node.folder, "--force", "--json")
    assert forced.code == 0
    [kept] = forced.json["kept"]
    assert (Path(kept) / "state" / "forwarder.db").is_file()
    node.start()
    with Session(node, "msrap") as reader:
        assert reader.says(QuerySize(key)) == "noerror", "what was un-pinned after the backup has come back"


def test_restore_refuses_what_is_damaged_or_no_backup(node: Node, tmp_path: Path) -> None:
    fill(node)
    assert run("backup", tmp_path / "saved", "--config", node.folder).code == 0

    def attempt(name: str, octets: bytes | None) -> Said:
        copy = tmp_path / "damaged"
        shutil.copytree(tmp_path / "saved", copy)
        if octets is None:
            (copy / name).unlink()
        else:
            (copy / name).write_bytes(octets)
        said = run("restore", copy, "--config", tmp_path / "again")
        shutil.rmtree(copy)
        assert not (tmp_path / "again").exists()
        return said

    sums = (tmp_path / "saved" / "SHA256SUMS").read_bytes()
    [body] = [line.split()[1].decode() for line in sums.splitlines() if b"bodies/" in line]
    for name, octets in (
        (body, b"another"),
        (body, None),
        ("config/forwarder.toml", b""),
        ("state/forwarder.db", None),
        ("SHA256SUMS", sums[:-1]),
        ("manifest.json", b"{"),
    ):
        said = attempt(name, octets)
        assert said.code == 1, name
        assert "the backup is damaged" in said.err
    assert attempt("manifest.json", None).code == 2
    assert run("restore", tmp_path, "--config", tmp_path / "again").code == 2
