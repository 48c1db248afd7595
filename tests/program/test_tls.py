"""TLS in real daemons: a forward between two nodes that speak nothing else, certificates changed under way, logins."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.session import NEED_DATA, RNAQP, ClientSession

PROGRAM = [sys.executable, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]
MESSAGE = "From: toby@a.example\nSubject: hello\n\nhi\n"
SERVICES = ("rnasp", "msrap", "rnaqp", "msoap")
PASSWORD = "secret"


class World:
    """A folder with nodes in it and one authority; `brian` has an account at each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        (folder / "password").write_text(f"{PASSWORD}\n")

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def type_(self, *words: str, stdin: str = "") -> str:
        ended = self.run(*words, stdin=stdin)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def certify(self, node: str, *names: str) -> None:
        issued = self.authority.issue_cert(*names)
        for file, pem in (("c.pem", issued.cert_chain_pems[0]), ("k.pem", issued.private_key_pem)):
            new = self.folder / node / f"{file}.new"
            new.write_bytes(pem.bytes())
            new.chmod(0o600)
            new.rename(self.folder / node / file)

    def start(self, name: str, *sets: str) -> dict[str, str]:
        """A node for NAME.example that listens with TLS only; where."""
        domain = f"{name}.example"
        listen = [f"listen.{service}=[]" for service in (*SERVICES, "dns")]
        listen += [f'listen.{service}_tls=["127.0.0.1:0"]' for service in SERVICES]
        network = ['network.allow=["127.0.0.0/8"]', 'network.require_tls=["*"]', 'network.ca="../ca.pem"']
        tls = f'tls=[{{domains=["{domain}"], certificate="c.pem", key="k.pem"}}]'
        text = [word for one in (*listen, *network, *sets) for word in ("--set", one)]
        self.type_("init", name, "--name", f"mx.{domain}", "--domain", domain, *text)
        node = self.folder / name / "forwarder.toml"
        node.write_text(f"{tls}\n{node.read_text()}")
        self.certify(name, domain)
        self.type_("account", "add", "brian", "--may", "read,originate", "--config", name, stdin=f"{PASSWORD}\n")
        self.running.append(
            subprocess.Popen([*PROGRAM, "serve", "--config", name], cwd=self.folder, env=self.environment)
        )
        return {door: places[0] for door, places in self.status(name)["listeners"].items()}

    def status(self, name: str) -> Any:
        deadline = time.monotonic() + 30
        while True:
            try:
                return json.loads(self.type_("status", "--config", name, "--json"))
            except AssertionError:
                assert time.monotonic() < deadline

    def me(self, **where: str) -> None:
        """Where brian's store and agent are, and the store of a.example."""
        login = f'account = "brian"\npassword_file = "{self.folder}/password"\n'
        path = self.folder / "forwarder" / "me.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'[store]\nmsoap_tls = "{where["msoap"]}"\nserver = "a.example"\n{login}'
            f'[[agent]]\nrnaqp_tls = "{where["rnaqp"]}"\nserver = "{where["agent"]}"\n{login}'
            f'[resolve.static]\n"a.example" = {{ msrap_tls = "{where["msrap"]}" }}\n'
            '[network]\nallow = ["127.0.0.0/8"]\nrequire_tls = ["*"]\nca = "../ca.pem"\n'
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for process in made.running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in made.running] == [0] * len(made.running)


def names_shown(where: str, authority: trustme.CA) -> Any:
    host, _, port = where.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    authority.configure_trust(context)
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname="b.example") as secure,
    ):
        certificate: Any = secure.getpeercert()
        return [name for _, name in certificate["subjectAltName"]]


def log_in(connection: socket.socket) -> Any:
    """What an agent answers to the right password."""
    session = ClientSession(RNAQP)
    connection.sendall(session.send(Authenticate("brian", PASSWORD)))
    while (response := session.next_event()) is NEED_DATA:
        session.receive_data(connection.recv(4096))
    return response


def test_a_forward_over_tls_alone(world: World) -> None:
    reader = world.start("b")
    sender = world.start("a", f'resolve.static={{"b.example"={{rnasp_tls="{reader["rnasp_tls"]}"}}}}')
    where = {"msoap": sender["msoap_tls"], "msrap": sender["msrap_tls"], "rnaqp": reader["rnaqp_tls"]}
    world.me(**where, agent="b.example")
    world.type_("add", "brian@b.example", "strategy=subscribe", "readers=brian", "--config", "b")
    world.type_("add", "sales@a.example", "to=brian@b.example", "--config", "a")

    world.type_("send", "--to", "sales@a.example", stdin=MESSAGE)
    deadline = time.monotonic() + 30
    while not (items := json.loads(world.type_("read", "--json"))["items"]):
        assert time.monotonic() < deadline
    assert [item["store"] for item in items] == ["a.example"]
    assert world.type_("read", "show", "1", "--raw") == MESSAGE
    assert world.status("b")["notifications"]["received"] == 1

    world.me(**where, agent="elsewhere.example")
    refused = world.run("read", "--json")
    assert refused.returncode == 1
    assert "Hostname mismatch" in refused.stderr, "an agent that does not prove its name gets no password"


def test_a_certificate_is_renewed_without_a_restart(world: World) -> None:
    where = world.start("b")["rnaqp_tls"]
    assert names_shown(where, world.authority) == ["b.example"]
    world.certify("b", "b.example", "mail.b.example")
    deadline = time.monotonic() + 10
    while names_shown(where, world.authority) != ["b.example", "mail.b.example"]:
        assert time.monotonic() < deadline
    (world.folder / "b" / "k.pem").write_text("broken")
    assert "last good certificate" in json.dumps(world.status("b")["broken"])
    assert names_shown(where, world.authority) == ["b.example", "mail.b.example"]
    world.certify("b", "b.example")
    assert world.status("b")["broken"] == {}
    assert names_shown(where, world.authority) == ["b.example"]


def _own_address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address


@pytest.mark.skipif(_own_address() is None, reason="this machine has no address but loopback")
def test_a_password_is_taken_in_clear_from_loopback_alone_and_over_tls_from_anywhere(world: World) -> None:
    address = _own_address()
    world.start("b", f'listen.rnaqp=["127.0.0.1:0", "{address}:0"]', f'listen.rnaqp_tls=["{address}:0"]')
    listeners = world.status("b")["listeners"]

    def connect(where: str) -> socket.socket:
        host, _, port = where.rpartition(":")
        return socket.create_connection((host, int(port)), 30)

    near, far = listeners["rnaqp"]
    with connect(near) as clear:
        assert isinstance(log_in(clear).data, Authenticated)
    with connect(far) as clear:
        assert log_in(clear).status.name == "errornotauthenticated"
    context = ssl.create_default_context()
    world.authority.configure_trust(context)
    with connect(listeners["rnaqp_tls"][0]) as plain, context.wrap_socket(plain, server_hostname="b.example") as secure:
        assert isinstance(log_in(secure).data, Authenticated)


def test_tls_without_a_certificate_does_not_start(world: World) -> None:
    world.type_(
        "init", "c", "--name", "mx.c.example", "--domain", "c.example", "--set", 'listen.rnasp_tls=["127.0.0.1:0"]'
    )
    ended = world.run("serve", "--config", "c")
    said = r"forwarder.toml:\d+: listen.rnasp_tls: needs a certificate: add a \[\[tls\]\] table\n"
    assert ended.returncode == 2
    assert re.fullmatch(said, ended.stderr)
