"""The stranger over TLS, from both sides (docs/protocol.md 12)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from ..program.node import PASSWORD, Node  # noqa: TID252
from ..program.peers import eventually  # noqa: TID252
from .agent import Agent
from .conftest import HERE, THERE, World
from .notices import at_domain
from .reader import Mailbox, Messages
from .sender import Notifier
from .wire import Tls

MESSAGE = b"From: toby@stranger.example\r\nSubject: sealed\r\n\r\nhello\r\n"
SERVICES = ("rnasp", "msrap", "rnaqp")


class Sealed(World):
    """A daemon that listens in TLS only, but for submissions, and an authority that all trust."""

    authority: trustme.CA

    def certify(self, folder: Path) -> None:
        """For the daemon's own domain, in its folder."""
        issued = self.authority.issue_cert(HERE)
        for name, pem in (("c.pem", issued.cert_chain_pems[0]), ("k.pem", issued.private_key_pem)):
            pem.write_to_path(str(folder / name))
            (folder / name).chmod(0o600)
        node = folder / "forwarder.toml"
        node.write_text(f'tls=[{{domains=["{HERE}"], certificate="c.pem", key="k.pem"}}]\n{node.read_text()}')

    def tls(self, name: str = HERE) -> Tls:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context, name

    def tls_agent(self, name: str, proves: str) -> Agent:
        """At the twin of `name`.stranger.example, with a certificate for another name maybe."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(proves).configure_cert(context)
        made = self.stack.enter_context(closing(Agent(tls=context)))
        self.publish("rnasps", f"{name}.{THERE}", made.port)
        return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    listen: dict[str, object] = {f"listen.{service}": "[]" for service in SERVICES}
    listen |= {f"listen.{service}_tls": '["127.0.0.1:0"]' for service in SERVICES}
    with ExitStack() as stack:
        made = Sealed(tmp_path, stack, **listen, **{"network.ca": '"../ca.pem"'})
        made.authority = authority
        made.certify(tmp_path / "d")
        made.start()
        yield made
        assert made.node.stop() == 0


def where(node: Node, service: str) -> tuple[str, int]:
    return "127.0.0.1", node.port(f"{service}_tls")


def test_a_message_goes_all_its_way_in_tls(world: Sealed) -> None:
    agent = world.tls_agent("safe", f"safe.{THERE}")
    [key] = world.originator().submit([f"bob@safe.{THERE}"], MESSAGE)
    came = agent.next()
    assert (came["identifier"], came["storessl"]) == (key, at_domain(HERE))
    with closing(Messages(where(world.node, "msrap"), world.tls())) as store:
        assert store.fetch(came) == MESSAGE
        assert store.unpin(key)
    told = world.store("tlsstore").notification(f"brian@{HERE}", MESSAGE)
    [outcome] = Notifier(where(world.node, "rnasp"), ["results"], world.tls()).tell([told])
    assert outcome.code == 0
    with closing(Mailbox(where(world.node, "rnaqp"), "brian", PASSWORD, world.tls())) as brian:
        [item] = brian.waiting()
    assert item["notification"]["identifier"] == told["identifier"]


def test_another_name_in_the_certificate_is_no_reason_to_speak_in_clear(world: Sealed) -> None:
    wrong, clear = world.tls_agent("forged", "elsewhere.example"), world.agent("forged")
    toby = world.originator()
    [key] = toby.submit([f"bob@forged.{THERE}"], MESSAGE)
    eventually(lambda: toby.track(key)["notificationstatus"] == "noserver")
    assert clear.came.empty()
    assert wrong.came.empty()


def test_a_name_server_that_does_not_answer_for_the_twin_is_no_consent(world: Sealed) -> None:
    clear = world.agent("mute")
    world.names.broken.add(f"_im2000-rnasps._tcp.mute.{THERE}")
    toby = world.originator()
    [key] = toby.submit([f"bob@mute.{THERE}"], MESSAGE)
    eventually(lambda: toby.track(key)["notificationstatus"] == "noserver")
    assert clear.came.empty()
