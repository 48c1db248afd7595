"""A permanent redirect between two real daemons is remembered over verified TLS only, until `reload` (protocol 5.2)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from .node import PASSWORD, Node, running

MESSAGE = "Date: Tue, 24 Nov 2026 08:00:00 +0000\nFrom: toby@a.example\nMessage-ID: <1@a.example>\nSubject: x\n\nhi\n"
REDIRECT = """
strategy = "redirect"
to = ["brian@b.example"]
fallback = "rewrite_resend"
[redirect]
scope = "permanent"
ttl = "1d"
"""


class World:
    """A sender `a`; `b` has brian and an old address of his, in clear or by TLS."""

    def __init__(self, folder: Path, stack: ExitStack, *, tls: bool) -> None:
        self.folder, self.tls = folder, tls
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        listen = {"listen.rnasp": "[]", "listen.rnasp_tls": '["127.0.0.1:0"]'} if tls else {}
        self.b = Node(folder / "b", "b.example", listen)
        self._certify(authority)
        self.b.account("brian")
        self.b.address("brian@b.example", 'strategy = "subscribe"\nreaders = ["brian"]')
        self.b.address("old@b.example", REDIRECT)
        stack.enter_context(running(self.b))
        service = "rnasp_tls" if tls else "rnasp"
        place = f'{{"b.example" = {{{service} = "127.0.0.1:{self.b.port(service)}"}}}}'
        settings = {"resolve.static": place, "network.ca": '"../ca.pem"'}
        self.a = Node(folder / "a", "a.example", settings)
        self.a.account("toby")
        stack.enter_context(running(self.a))
        (folder / "password").write_text(f"{PASSWORD}\n")
        login = f'account = "toby"\npassword_file = "{folder}/password"\n'
        (folder / "me.toml").write_text(f'[store]\nmsoap = "127.0.0.1:{self.a.port("msoap")}"\n{login}')

    def _certify(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("b.example")
        issued.cert_chain_pems[0].write_to_path(str(self.b.folder / "c.pem"))
        issued.private_key_pem.write_to_path(str(self.b.folder / "k.pem"))
        (self.b.folder / "k.pem").chmod(0o600)
        node = self.b.folder / "forwarder.toml"
        node.write_text(
            f'tls = [{{domains = ["b.example"], certificate = "c.pem", key = "k.pem"}}]\n{node.read_text()}'
        )

    def send(self, number: int) -> None:
        """To the old address; returns when brian's inbox holds that many."""
        words = ("send", "--to", "old@b.example", "--me", str(self.folder / "me.toml"))
        ended = subprocess.run(
            [sys.executable, "-m", "forwarder", *words], input=MESSAGE.replace("<1@", f"<{number}@"),
            env={"XDG_DATA_HOME": str(self.folder), "HOME": str(self.folder)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        deadline = time.monotonic() + 20
        while (counts := self.counts())["taken"] < number:
            assert time.monotonic() < deadline, counts

    def counts(self) -> Any:
        return self.b.ask("status")["notifications"]

    @property
    def remembered(self) -> int:
        return int(self.a.ask("status")["waiting"]["redirects remembered"])


@pytest.fixture(params=[True, False], ids=["tls", "clear"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack, tls=request.param)


def test_it_is_remembered_only_where_the_server_proved_its_name(world: World) -> None:
    world.send(1)
    assert (world.counts()["redirected"], world.remembered) == (1, int(world.tls))
    world.send(2)
    assert world.counts()["redirected"] == (1 if world.tls else 2)
    world.a.ask("reload")
    assert world.remembered == 0
    world.send(3)
    assert world.counts()["redirected"] == (2 if world.tls else 3)
