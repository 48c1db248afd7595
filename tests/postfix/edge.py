"""A node with Postfix at its edge, as `forwarder init --postfix` says: both real, in folders and on ports of their own.

The world speaks to `port` from an address that Postfix does not trust, machines of ours to `household_port`; what is
for elsewhere reaches the far side.
"""

from __future__ import annotations

import grp
import os
import re
import smtplib
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from io import BufferedRWPair, StringIO
from pathlib import Path
from poplib import POP3

import pytest
import trustme

from forwarder.cli import main as program

from ..program.names import Names  # noqa: TID252  # the real daemons that other tests have too
from ..program.node import PASSWORD, Node  # noqa: TID252
from ..program.peers import eventually  # noqa: TID252
from ..program.ports import free_port  # noqa: TID252
from ..smtp_bridge.private_postfix import POSTFIX, postfix  # noqa: TID252
from .far_side import FarSide

SETTINGS = {"listen.pop3": '["127.0.0.1:0"]', "bridge.smtp_in.answer_wait": '"1s"', "bridge.smtp_out.settle": '"5s"'}
WORLD = """
127.0.0.1:{port} inet n - n - - smtpd -o mynetworks= -o local_header_rewrite_clients=
127.0.0.1:{household} inet n - n - - smtpd -o mynetworks=127.0.0.0/8 -o local_header_rewrite_clients=
tlsmgr unix - - n 1000? 1 tlsmgr
flush unix n - n 1000? 0 flush
"""
MAIN = """
smtp_tls_security_level = none
smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/certificate.pem
smtpd_tls_key_file = {folder}/key.pem
default_transport = smtp:[127.0.0.1]:{far}
bounce_queue_lifetime = 1h
lmtp_connection_cache_on_demand = no
"""


class Edge:
    """All of it; `far` is every other domain's MTA."""

    def __init__(self, folder: Path, node: Node, far: FarSide, names: Names, ports: Sequence[int]) -> None:
        self.folder, self.node, self.far, self.names = folder, node, far, names
        self.port, self.submission_port, self.household_port = ports

    # -- the world's side

    def send(self, sender: str, to: Sequence[str] | str, octets: bytes) -> None:
        """As any MTA would, octets as they are. Raises smtplib.SMTPException where it is refused."""
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="x.example", timeout=60) as client:
            client.sendmail(sender, [to] if isinstance(to, str) else list(to), octets, ["BODY=8BITMIME"])

    def asks(self, *recipients: str, sender: str = "ann@x.example", port: int = 0) -> list[tuple[int, str]]:
        """What RCPT is answered."""
        with smtplib.SMTP("127.0.0.1", port or self.port, local_hostname="x.example", timeout=60) as client:
            client.ehlo()
            client.docmd("MAIL", f"FROM:<{sender}>")
            answers = [client.docmd("RCPT", f"TO:<{recipient}>") for recipient in recipients]
        return [(code, text.decode()) for code, text in answers]

    @contextmanager
    def line(self, port: int | None = None) -> Iterator[BufferedRWPair]:
        """A session by hand, greeting read."""
        with socket.create_connection(("127.0.0.1", port or self.port), 60) as plain, plain.makefile("rwb") as peer:
            assert peer.readline().startswith(b"220")
            yield peer

    # -- Postfix

    def flush(self) -> None:
        subprocess.run(["postqueue", "-c", f"{self.folder}/etc", "-f"], check=True, capture_output=True, timeout=60)

    def queued(self) -> int:
        """Mails that Postfix still has."""
        told = subprocess.run(
            ["postqueue", "-c", f"{self.folder}/etc", "-j"], check=True, capture_output=True, timeout=60
        )
        return len(told.stdout.splitlines())

    def is_empty(self) -> None:
        """Waits until Postfix has nothing left."""

        def empty() -> bool:
            if not self.queued():
                return True
            self.flush()
            return False

        eventually(empty)

    @property
    def log(self) -> str:
        return (self.folder / "maillog").read_text()

    # -- our side

    def reads(self, user: str, folder: Path, count: int = 1, *, keep: bool = False) -> list[bytes]:
        """All that waits for him, fetched by fetchmail and removed; waits until there are so many."""
        eventually(lambda: self.waiting(user) >= count)
        return fetchmail(folder, self.node.port("pop3"), user, keep=keep)

    def waiting(self, user: str) -> int:
        client = POP3("127.0.0.1", self.node.port("pop3"), timeout=30)
        client.user(user)
        client.pass_(PASSWORD)
        count, _ = client.stat()
        client.quit()
        return count

    def retrieves(self, user: str, count: int = 1) -> list[bytes]:
        """All that waits for him, octet by octet, and removed; waits until there are so many."""
        eventually(lambda: self.waiting(user) >= count)
        with (
            socket.create_connection(("127.0.0.1", self.node.port("pop3")), 30) as plain,
            plain.makefile("rwb") as peer,
        ):

            def say(words: str) -> list[bytes]:
                peer.write(f"{words}\r\n".encode())
                peer.flush()
                answer = peer.readline()
                assert answer.startswith(b"+OK"), answer
                return answer.split()

            peer.readline()
            say(f"USER {user}")
            say(f"PASS {PASSWORD}")
            found: list[bytes] = []
            for number in range(1, int(say("STAT")[1]) + 1):
                say(f"RETR {number}")
                lines = iter(peer.readline, b".\r\n")
                found.append(b"".join(line.removeprefix(b".") for line in lines))
                say(f"DELE {number}")
            say("QUIT")
        return found

    def world(self, *domains: str) -> None:
        """Domains of today: mail goes to an MX."""
        for domain in domains:
            self.names.records[domain, "MX"] = [f"10 mx.{domain}."]

    def peer(self, node: Node) -> None:
        """A domain with an agent and a store."""
        self.names.records[f"host.{node.domain}", "A"] = ["127.0.0.1"]
        for service in ("rnasp", "msrap"):
            srv = [f"0 0 {node.port(service)} host.{node.domain}."]
            self.names.records[f"_im2000-{service}._tcp.{node.domain}", "SRV"] = srv


def fetchmail(folder: Path, port: int, user: str, *, keep: bool = False) -> list[bytes]:
    """What it takes, without what it adds; line ends as it leaves them."""
    folder.mkdir(exist_ok=True)
    agent, rc, box = folder / "mda", folder / "rc", folder / "box"
    box.mkdir(exist_ok=True)
    agent.write_text(f'#!/bin/sh\nexec cat > "{box}/$(date +%s%N)"\n')
    agent.chmod(0o700)
    more = "keep" if keep else "nokeep"
    rc.write_text(
        f"poll localhost service {port} protocol pop3 timeout 30 uidl no dns\n"
        f'  user "{user}" password "{PASSWORD}" mda "{agent}" sslproto \'\' fetchall {more} no rewrite\n'
    )
    rc.chmod(0o600)
    command = ["fetchmail", "-f", str(rc), "--pidfile", str(folder / "pid"), "--nosyslog", "--invisible"]
    ended = subprocess.run(
        command,
        capture_output=True,
        timeout=60,
        check=False,
        env={"FETCHMAILHOME": str(folder), "HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    assert ended.returncode in (0, 1), (ended.stdout, ended.stderr)
    return [path.read_bytes() for path in sorted(box.iterdir())]


def body_of(message: bytes) -> bytes:
    return message.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def printed(node: Node, file: str) -> str:
    """What the program prints for the operator to paste."""
    with redirect_stdout(StringIO()) as said:
        assert program(["postfix", file, "--config", str(node.folder)]) == 0
    return said.getvalue()


def new_node(folder: Path, names: Names, settings: Mapping[str, object] | None = None) -> Node:
    """A node for a Postfix in this folder, not yet running."""
    asks = {"resolve.nameservers": f'["127.0.0.1:{names.port}"]'}
    smarthost = {"bridge.smtp_out.smarthost": f'"127.0.0.1:{free_port()}"'}
    queue = ("--postfix", "--queue", str(folder / "queue"))
    return Node(folder / "node", "pobox.example", SETTINGS | asks | smarthost | dict(settings or {}), queue)


@contextmanager
def opened(
    folder: Path, settings: Mapping[str, object] | None = None, main: Sequence[str] = (), accounts: Sequence[str] = ()
) -> Iterator[Edge]:
    """Everything runs until the block ends, and stops in order. main: more lines of main.cf. accounts: made before."""
    if not POSTFIX:
        pytest.skip("POSTFIX IS NOT INSTALLED: nothing is tried with it")
    with ExitStack() as held:
        far, names = held.enter_context(closing(FarSide())), held.enter_context(closing(Names()))
        node, ports = new_node(folder, names, settings), (free_port(), free_port(), free_port())
        for name in accounts:
            node.account(name)
        _certificate(folder)
        submission = re.compile("^submission ", re.MULTILINE)
        master = submission.sub(f"127.0.0.1:{ports[1]} ", printed(node, "master.cf"))
        lines = MAIN.format(folder=folder, far=far.port), printed(node, "main.cf"), *main
        held.enter_context(
            postfix(folder, free_port(), lines, [WORLD.format(port=ports[0], household=ports[2]), master])
        )
        sockets = folder / "queue" / "forwarder"
        sockets.mkdir(mode=0o750)
        sockets.chmod(0o2750)
        os.chown(sockets, 0, grp.getgrnam("postfix").gr_gid)
        edge = Edge(folder, node, far, names, ports)
        edge.world("world.example", "x.example")
        held.callback(node.end)
        node.start()
        eventually(lambda: node.ask("status")["catalogue"]["complete"])
        yield edge
        assert not node.running or node.stop() == 0


def _certificate(folder: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
