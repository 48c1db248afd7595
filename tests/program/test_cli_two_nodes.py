"""Two real daemons, a sender's and a reader's, driven by nothing but the verbs, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROGRAM = [sys.executable, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]
MESSAGE = (
    "Date: Tue, 24 Nov 2026 08:00:00 +0000\nFrom: toby@a.example\nMessage-ID: <1@a.example>\nSubject: hello\n\nhi\n"
)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class World:
    """A folder with nodes in it, and the person `brian`, who has an account at both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        (folder / "password").write_text("secret\n")

    def type_(self, *words: str, stdin: str = "") -> Ended:
        ended = subprocess.run(
            [*PROGRAM, *words],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def start(self, name: str, *sets: str) -> dict[str, str]:
        """A new node for NAME.example on free ports; where its services listen."""
        free = [f'listen.{service}=["127.0.0.1:0"]' for service in ("rnasp", "msrap", "rnaqp", "msoap")]
        wanted = [*free, "listen.dns=[]", 'network.allow=["127.0.0.0/8"]', *sets]
        options = [word for one in wanted for word in ("--set", one)]
        domain = f"{name}.example"
        assert self.type_("init", name, "--name", f"mx.{domain}", "--domain", domain, *options).code == 0
        assert (
            self.type_("account", "add", "brian", "--may", "read,originate", "--config", name, stdin="secret\n").code
            == 0
        )
        self.running.append(
            subprocess.Popen([*PROGRAM, "serve", "--config", name], cwd=self.folder, env=self.environment)
        )
        return {service: places[0] for service, places in self._status(name)["listeners"].items()}

    def _status(self, name: str) -> Any:
        deadline = time.monotonic() + 30
        while (said := self.type_("status", "--config", name, "--json")).code:
            assert time.monotonic() < deadline, said.err
        return json.loads(said.out)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for process in made.running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in made.running] == [0] * len(made.running)


def test_a_message_from_send_to_done(world: World) -> None:
    reader = world.start("b")
    sender = world.start("a", f'resolve.static={{"b.example"={{rnasp="{reader["rnasp"]}"}}}}')
    me = world.folder / "forwarder" / "me.toml"
    me.parent.mkdir()
    login = f'account = "brian"\npassword_file = "{world.folder}/password"\n'
    me.write_text(
        f'[store]\nmsoap = "{sender["msoap"]}"\n{login}[[agent]]\nrnaqp = "{reader["rnaqp"]}"\n{login}'
        f'[resolve.static]\n"a.example" = {{ msrap = "{sender["msrap"]}" }}\n[network]\nallow = ["127.0.0.0/8"]\n'
    )
    added = world.type_("add", "brian@b.example", "strategy=subscribe", "readers=brian", "--config", "b", "--json")
    assert json.loads(added.out)["told"] is True, "the running daemon heard of it"

    sent = world.type_("send", "--to", "brian@b.example", "--json", stdin=MESSAGE)
    assert (sent.code, sent.err) == (0, "")
    (row,) = json.loads(sent.out)["recipients"]

    deadline = time.monotonic() + 30
    while not (items := json.loads(world.type_("read", "--json").out)["items"]):
        assert time.monotonic() < deadline
    (item,) = items
    assert (item["handle"], item["sender"], item["store"]) == (row["handle"], "brian", "a.example")
    assert world.type_("read", "show", "1", "--raw") == (0, MESSAGE, "")
    (tracked,) = json.loads(world.type_("sent", "--json").out)
    assert (tracked["status"], tracked["read"], tracked["pinned"]) == ("silenced", "readall", True)
    assert world.type_("read", "done", "1") == (0, "1: done\n", "")
    assert world.type_("read") == (0, "nothing waits\n", "")
    (tracked,) = json.loads(world.type_("sent", row["handle"], "--json").out)
    assert tracked["pinned"] is False

    again = json.loads(world.type_("send", "--to", "brian@b.example", "--json", stdin=MESSAGE + "again\n").out)
    handle = again["recipients"][0]["handle"]
    while not json.loads(world.type_("read", "--json").out)["items"]:
        assert time.monotonic() < deadline
    assert world.type_("unsend", handle) == (0, f"{handle}: cancelled for brian@b.example\n", "")
    assert world.type_("read", "show", "2") == (1, "", "forwarder: 2: already handled or withdrawn\n")


def test_a_pull_hold_address_has_a_name_that_cannot_be_guessed(world: World) -> None:
    world.start("b")
    assert world.type_("add", "minutes@b.example", "strategy=pull_hold", "readers=brian", "--config", "b").code == 0
    shown = json.loads(world.type_("show", "minutes@b.example", "--config", "b", "--json").out)
    assert len(shown["list_names"]["brian"]) >= 32
    assert world.type_("reload", "--config", "b").code == 0
