"""One real daemon at d.example, a name server, and a stranger of many names below stranger.example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import dns.message
import dns.query
import pytest

from ..program.names import Names  # noqa: TID252  # one way to start a daemon and a name server, for all tests
from ..program.node import PASSWORD, Node, running, verb  # noqa: TID252
from ..program.peers import eventually  # noqa: TID252
from .agent import Agent, Decide, taken
from .reader import Mailbox, Messages
from .sender import Notifier, Originator
from .store import Store

HERE = "d.example"
THERE = "stranger.example"


class World:
    """The daemon, and what the stranger needs to meet it."""

    def __init__(self, folder: Path, stack: ExitStack, **settings: object) -> None:
        self.stack = stack
        self.names = stack.enter_context(closing(Names()))
        asks = {"resolve.nameservers": f'["127.0.0.1:{self.names.port}"]'}
        self.node = Node(folder / "d", HERE, asks | settings)
        for name in ("brian", "anna", "carl", "toby"):
            self.node.account(name)
        verb("domain", "set", HERE, "dns.mode=serve", "--config", self.node.folder)
        verb("key", "rotate", HERE, "--wait", "0s", "--config", self.node.folder)
        self.address("brian", 'strategy = "subscribe"\nreaders = ["brian"]')

    def start(self, *, turnable: bool = False) -> None:
        self.stack.enter_context(running(self.node, turnable=turnable))
        for service in ("msrap", "rnasp"):
            for door, published in ((service, service), (f"{service}_tls", f"{service}s")):
                if self.node.listeners.get(door):
                    self.publish(published, HERE, self.node.port(door))
        eventually(lambda: self.node.ask("status")["catalogue"]["complete"])

    def publish(self, service: str, domain: str, port: int) -> None:
        self.names.records[f"_im2000-{service}._tcp.{domain}", "SRV"] = [f"0 0 {port} host.{THERE}."]
        self.names.records[f"host.{THERE}", "A"] = ["127.0.0.1"]

    def address(self, name: str, toml: str) -> str:
        """An address of the daemon; its name in full."""
        self.node.address(f"{name}@{HERE}", toml)
        return f"{name}@{HERE}"

    def where(self, service: str) -> tuple[str, int]:
        return "127.0.0.1", self.node.port(service)

    def agent(self, name: str, decide: Decide = taken, legacy: bool = False) -> Agent:
        """An agent of the stranger's for the domain `name`.stranger.example."""
        made = self.stack.enter_context(closing(Agent(decide, legacy)))
        self.publish("rnasp", f"{name}.{THERE}", made.port)
        return made

    def store(self, name: str, legacy: bool = False) -> Store:
        made = self.stack.enter_context(closing(Store(f"{name}.{THERE}", legacy)))
        self.publish("msrap", made.name, made.port)
        return made

    def notifier(self, *features: str) -> Notifier:
        return Notifier(self.where("rnasp"), features or None)

    def originator(self) -> Originator:
        return self.stack.enter_context(closing(Originator(self.where("msoap"), "toby", PASSWORD)))

    def mailbox(self, account: str) -> Mailbox:
        return self.stack.enter_context(closing(Mailbox(self.where("rnaqp"), account, PASSWORD)))

    def messages(self) -> Messages:
        return self.stack.enter_context(closing(Messages(self.where("msrap"))))

    def text(self, name: str) -> str:
        """The TXT record that the daemon publishes there; empty if there is none."""
        query = dns.message.make_query(name, "TXT")
        answer = dns.query.udp(query, "127.0.0.1", timeout=5, port=self.node.port("dns")).answer
        return str(answer[0][0].to_text()).strip('"') if answer else ""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path_factory.mktemp("stranger"), stack)
        made.start()
        yield made
        assert made.node.stop() == 0
