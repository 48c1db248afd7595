"""A real daemon on a fresh folder, and sessions with it: what `races.py` and `large_message.py` stand on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from forwarder.config.fresh import write_fresh
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, ClientSession, Protocol

DOMAIN = "pobox.example"
PASSWORD = "secret"
PATIENCE = 30.0
SERVICES = ("rnasp", "msrap", "rnaqp", "msoap")
PROTOCOLS: dict[str, Protocol] = {"msoap": MSOAP, "msrap": MSRAP, "rnaqp": RNAQP}
DAEMON = [sys.executable, "-m", "forwarder", "serve", "--config"]


class Session:
    """One session, blocking; a command may be sent now and its response read later."""

    def __init__(self, service: str, port: int) -> None:
        self._session = ClientSession(PROTOCOLS[service])
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, command: Any) -> None:
        self._socket.sendall(self._session.send(command))

    def hear(self) -> Any:
        while True:
            event = self._session.next_event()
            if hasattr(event, "status"):
                return event
            some = self._socket.recv(1 << 16)
            if not some:
                raise SystemExit("the daemon hung up")
            self._session.receive_data(some)

    def ask(self, command: Any) -> Any:
        """The data of a good response."""
        self.send(command)
        response = self.hear()
        if response.status.name != "noerror":
            raise SystemExit(f"{type(command).__name__}: {response.status.name}")
        return response.data

    def close(self) -> None:
        self._socket.close()


class Node:
    """The daemon's process and where it listens."""

    def __init__(self, pid: int, ports: dict[str, int]) -> None:
        self.pid = pid
        self.ports = ports

    def session(self, service: str, account: str | None = None) -> Session:
        session = Session(service, self.ports[service])
        if account is not None:
            session.ask(Authenticate(account, PASSWORD))
        return session


@contextmanager
def one_node(
    folder: Path, accounts: Sequence[str], addresses: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> Iterator[Node]:
    """`forwarder serve` for pobox.example with these accounts and addresses (local part: TOML).

    What it notifies at isp.example goes nowhere. more: TABLE.KEY=VALUE of the node file.
    """
    listen = [f'listen.{name}=["127.0.0.1:0"]' for name in SERVICES]
    nowhere = 'resolve.static."isp.example"={ rnasp = "127.0.0.1:9" }'
    config = folder / "config"
    write_fresh(
        config, f"mx1.{DOMAIN}", DOMAIN, [*listen, "listen.dns=[]", 'network.allow=["127.0.0.0/8"]', nowhere, *more]
    )
    for localpart, toml in (addresses or {}).items():
        (config / "addresses" / DOMAIN / f"{localpart}.toml").write_text(toml)
    words = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    for account in accounts:
        file = config / "accounts" / f"{account}.toml"
        file.write_text(f'password = "{words}"\nmay = ["read", "originate"]\n')
        file.chmod(0o640)
    log = folder / "log"
    with log.open("w") as errors:
        child = subprocess.Popen([*DAEMON, str(config)], stderr=errors, stdin=subprocess.DEVNULL)
    try:
        yield Node(child.pid, _listening(log, child))
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _listening(log: Path, child: subprocess.Popen[bytes]) -> dict[str, int]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and child.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        if any(line["event"] == "ready" for line in lines):
            return {
                line["service"]: int(line["address"].rpartition(":")[2])
                for line in lines
                if line["event"] == "listening" and not line["address"].startswith("unix:")
            }
        time.sleep(0.05)
    raise SystemExit(f"the daemon did not start:\n{log.read_text()}")
