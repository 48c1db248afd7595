"""What TLS costs the daemon: singles in clear and over TLS in turn, and handshakes (protocol 2; speed 13).

    python benchmarks/tls.py [--seconds 1] [--rounds 5] [--connections 20]

The daemon is `forwarder serve` on a fresh folder, its certificate ECDSA P-256, its client OpenSSL's by the ssl module.
Each connection writes a notification for a mailbox that nobody has and reads the answer: the door, the dispatcher and
the answer, without another agent. CPU is the daemon's user and system time for each; medians, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from forwarder.config.fresh import write_fresh
from forwarder.model import Mailbox, Notification, ServiceLocation
from forwarder.wire.frames import frame
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Capabilities, encode_batch, encode_capabilities

PROGRAM = [sys.executable, "-c", "import sys; from forwarder.cli import main; sys.exit(main())"]
DOMAIN = "pobox.example"
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def daemon(folder: Path, authority: trustme.CA) -> Iterator[tuple[int, int, int]]:
    """Its pid, the clear port and the TLS port."""
    issued = authority.issue_cert(DOMAIN)
    doors = [f'listen.{name}=["127.0.0.1:0"]' for name in ("rnasp", "rnasp_tls", "msrap", "rnaqp", "msoap")]
    write_fresh(folder, f"mx.{DOMAIN}", DOMAIN, [*doors, "listen.dns=[]", "limits.sessions_per_address=0"])
    issued.private_key_pem.write_to_path(str(folder / "k.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "c.pem"))
    node = folder / "forwarder.toml"
    node.write_text(f'tls = [{{ domains = ["{DOMAIN}"], certificate = "c.pem", key = "k.pem" }}]\n{node.read_text()}')
    child = subprocess.Popen([*PROGRAM, "serve", "--config", str(folder)], stderr=subprocess.DEVNULL)
    try:
        asked = [*PROGRAM, "status", "--config", str(folder), "--json"]
        deadline = time.monotonic() + 30
        while (said := subprocess.run(asked, capture_output=True, text=True, timeout=30)).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(said.stderr)
        listeners = json.loads(said.stdout)["listeners"]
        clear, secure = (int(listeners[door][0].rpartition(":")[2]) for door in ("rnasp", "rnasp_tls"))
        yield child.pid, clear, secure
    finally:
        child.terminate()
        child.wait(30)


def cpu(pid: int) -> float:
    """Seconds of user and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def singles(pid: int, connections: list[socket.socket], seconds: float) -> float:
    """The daemon's CPU in microseconds for each notification."""
    offer = encode_capabilities(Capabilities(1, frozenset({"results"})))
    begun, end, count = cpu(pid), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for connection in connections:
            count += 1
            key = os.urandom(16)
            store, nobody = ServiceLocation("store.example"), Mailbox("nobody", DOMAIN)
            notification = encode_notification(Notification(store, None, nobody, key, "toby"))
            connection.sendall(frame(encode_batch([notification], offer)))
        for connection in connections:
            if not connection.recv(4096):
                raise SystemExit("the daemon ended a session")
    return (cpu(pid) - begun) / count * 1e6


def handshakes(pid: int, port: int, context: ssl.SSLContext, seconds: float) -> float:
    begun, end, count = cpu(pid), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        secured(port, context).close()
        count += 1
    return (cpu(pid) - begun) / count * 1e6


def secured(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=DOMAIN)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=20)
    asked = parser.parse_args()
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder) / "node", authority) as (pid, clear, secure):
        plain = [socket.create_connection(("127.0.0.1", clear)) for _ in range(asked.connections)]
        tls: list[socket.socket] = [secured(secure, context) for _ in range(asked.connections)]
        for connection in (*plain, *tls):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way in (plain, tls):
            singles(pid, way, 0.3)
        figures = [(singles(pid, plain, asked.seconds), singles(pid, tls, asked.seconds)) for _ in range(asked.rounds)]
        ratios = [secured / unsecured for unsecured, secured in figures]
        in_clear, over_tls = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"a single: {in_clear:.0f} us in clear, {over_tls:.0f} us over TLS")
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})")
        print(f"a handshake: {handshakes(pid, secure, context, asked.seconds):.0f} us")
        for connection in (*plain, *tls):
            connection.close()


if __name__ == "__main__":
    main()
