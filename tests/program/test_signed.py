"""Two real daemons: a store that signs, serves its key and follows redirects; an agent that verifies; their reader."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest

from forwarder.model import Mailbox, Notification, Outcome, ServiceLocation, Signature
from forwarder.signature import key_name, new_private, sign
from forwarder.wire.frames import frame
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Capabilities, NotifyAnswer, decode_response, encode_batch, encode_capabilities

from .node import PASSWORD, Node, running, verb
from .ports import free_port

MESSAGE = "Date: Tue, 24 Nov 2026 08:00:00 +0000\nFrom: toby@a.example\nMessage-ID: <1@a.example>\nSubject: x\n\nhi\n"


class World:
    """A signing sender `a`, a verifying `b` with brian, and fwd, who is forwarded to brian."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.dns = folder, free_port()
        zones = {"resolve.zones": f'{{"a.example" = ["127.0.0.1:{self.dns}"]}}'}
        policy = {"plugins.signature": '{require = ["strict.a.example"]}'}
        self.b = Node(folder / "b", "b.example", {**zones, **policy})
        self.b.account("brian")
        self.b.address("brian@b.example", 'strategy = "subscribe"\nreaders = ["brian"]')
        self.b.address("fwd@b.example", 'to = ["brian@b.example"]')
        verb("domain", "add", "c.example", "--config", self.b.folder)
        stack.enter_context(running(self.b))
        agent = f'{{rnasp = "127.0.0.1:{self.b.port("rnasp")}"}}'
        static = f'{{"b.example" = {agent}, "c.example" = {agent}}}'
        self.a = Node(folder / "a", "a.example", {"listen.dns": f'["127.0.0.1:{self.dns}"]', "resolve.static": static})
        self.a.account("toby")
        verb("domain", "set", "a.example", "dns.mode=serve", "--config", self.a.folder)

    def me(self, name: str, node: Node) -> Path:
        (self.folder / "password").write_text(f"{PASSWORD}\n")
        login = f'account = "{name}"\npassword_file = "{self.folder}/password"\n'
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[store]\nmsoap = "127.0.0.1:{node.port("msoap")}"\n{login}'
            f'[[agent]]\nrnaqp = "127.0.0.1:{node.port("rnaqp")}"\n{login}'
            f'[resolve]\nzones = {{"a.example" = ["127.0.0.1:{self.dns}"]}}\n[network]\nallow = ["127.0.0.0/8"]\n'
        )
        return path

    def type_(self, *words: str, stdin: str = "") -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "forwarder", *words],
            env={"XDG_DATA_HOME": str(self.folder), "HOME": str(self.folder)},
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def rows(self, wanted: int) -> list[dict[str, Any]]:
        """What waits for brian, once there are so many."""
        me = self.me("brian", self.b)
        deadline = time.monotonic() + 20
        while True:
            rows: list[dict[str, Any]] = json.loads(self.type_("read", "--json", "--me", str(me)))["items"]
            if len(rows) >= wanted:
                return rows
            assert time.monotonic() < deadline, rows

    def notify(self, octets: bytes) -> Outcome:
        """To b, as any store could."""
        pdu = encode_batch([octets], encode_capabilities(Capabilities(1, frozenset({"results"}))))
        with self.b.connect("rnasp") as stream:
            stream.sendall(frame(pdu))
            file = stream.makefile("rb")
            response = decode_response(file.read(int.from_bytes(file.read(4), "big")))
        assert isinstance(response.data, NotifyAnswer)
        assert response.data.results is not None
        return response.data.results[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, stack)
        verb("key", "rotate", "a.example", "--wait", "0s", "--config", made.a.folder)
        stack.enter_context(running(made.a))
        yield made


def test_what_our_store_sends_is_signed_and_verified_on_the_way_and_by_its_reader(world: World) -> None:
    me = str(world.me("toby", world.a))
    world.type_("send", "--to", "brian@b.example", "--to", "fwd@b.example", "--me", me, stdin=MESSAGE)
    rows = world.rows(2)
    assert [row["signature"] for row in rows] == [{"state": "good", "domain": "a.example"}] * 2
    assert sorted(filter(None, (row["original"] for row in rows))) == ["fwd@b.example"]
    brian = str(world.me("brian", world.b))
    assert "signed by a.example" in world.type_("read", "--me", brian)
    assert "Signature: signed by a.example" in world.type_("read", "show", "1", "--me", brian)


def test_a_forged_one_is_51_and_an_unsigned_one_goes_on_unless_policy_says_no(world: World) -> None:
    (key,) = json.loads(world.type_("key", "list", "--json", "--config", str(world.a.folder)))
    plain = Notification(ServiceLocation("a.example"), None, Mailbox("brian", "b.example"), b"k" * 16, "toby", 5)
    blank = Signature("a.example", key["selector"], 1, 1, b"")
    value = sign(encode_notification(plain._replace(signature=blank)), new_private())
    forged = plain._replace(signature=blank._replace(value=value))
    assert world.notify(encode_notification(forged)).code == 51
    assert world.notify(encode_notification(plain)).code == 0
    strict = plain._replace(storeclear=ServiceLocation("strict.a.example"))
    assert world.notify(encode_notification(strict)).code == 34


def test_a_running_daemon_publishes_a_new_key_before_it_signs_with_it(world: World) -> None:
    verb("key", "rotate", "a.example", "--config", world.a.folder)
    old, new = json.loads(world.type_("key", "list", "--json", "--config", str(world.a.folder)))
    assert (old["use"], new["use"]) == ("signs", "published")
    assert new["owner"] == key_name("a.example", new["selector"])
    query = dns.message.make_query(new["owner"], "TXT")
    deadline = time.monotonic() + 20
    while not (answer := dns.query.udp(query, "127.0.0.1", timeout=5, port=world.dns).answer):
        assert time.monotonic() < deadline
    assert answer[0][0].to_text() == f'"{new["record"]}"'
    me = str(world.me("toby", world.a))
    world.type_("send", "--to", "brian@b.example", "--me", me, stdin=MESSAGE)
    assert world.rows(1)[0]["signature"]["state"] == "good"


def test_a_redirect_proves_itself_by_the_token_that_its_target_issued(world: World) -> None:
    redirect = 'strategy = "redirect"\nto = ["brian@c.example"]\nfallback = "rewrite_resend"\n[redirect]\ntokens = '
    expects = (
        'expects = [{ original = "old@b.example", token = "issued" }, { original = "stolen@b.example", token = "x" }]'
    )
    world.b.address("brian@c.example", f'strategy = "subscribe"\nreaders = ["brian"]\n{expects}')
    world.b.address("old@b.example", f'{redirect}["issued"]')
    world.b.address("stolen@b.example", f'{redirect}["guessed"]')
    me = str(world.me("toby", world.a))
    words = ("--to", "old@b.example", "--to", "stolen@b.example", "--me", me, "--json")
    sent = {row["to"]: row["handle"] for row in json.loads(world.type_("send", *words, stdin=MESSAGE))["recipients"]}
    (row,) = world.rows(1)
    assert (row["to"], row["original"]) == ("brian@c.example", "old@b.example")
    assert row["signature"]["state"] == "good"
    deadline = time.monotonic() + 20
    while (said := tracked(world, me, sent["stolen@b.example"]))["lastcode"] != 49:
        assert time.monotonic() < deadline, said
    assert tracked(world, me, sent["old@b.example"])["redirectedto"] == ["brian@c.example"]


def tracked(world: World, me: str, handle: str) -> Any:
    return json.loads(world.type_("sent", handle, "--me", me, "--json"))[0]
