"""The same mail, world to sink: once through Postfix, twice through Postfix, and Postfix, us, Postfix; in turn.

A private Postfix on the loopback, in a folder of its own, with the lines that `forwarder postfix` prints; smtp-source
is the world and smtp-sink the far side. Needs root and Debian's postfix. Ratios to one pass count.
"""

from __future__ import annotations

import argparse
import grp
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

FORWARDER = [sys.executable, "-m", "forwarder"]
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"
PATIENCE = 120.0
SESSIONS = 20
DOMAIN, OUTSIDE = "pobox.example", "isp.example"
MAIN = """
queue_directory = {here}/queue
data_directory = {here}/data
maillog_file = {here}/log
maillog_file_prefixes = {here}
myhostname = mx1.pobox.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = native
smtp_tls_security_level = none
default_transport = smtp:[127.0.0.1]:{sink}
default_destination_recipient_limit = 1
in_flow_delay = 0
"""
MASTER = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
127.0.0.1:{once} inet n - n - - smtpd -o local_header_rewrite_clients=
127.0.0.1:{twice} inet n - n - - smtpd -o local_header_rewrite_clients= -o content_filter=smtp:[127.0.0.1]:{again}
127.0.0.1:{again} inet n - n - - smtpd -o local_header_rewrite_clients= -o content_filter=
"""


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class Sink:
    """smtp-sink and how many messages it has had."""

    def __init__(self, port: int) -> None:
        command = ["smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{port}", "500"]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_env())
        self._text = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        while octets := os.read(self.child.stdout.fileno(), 65536):
            self._text = (self._text + octets)[-200:]

    @property
    def count(self) -> int:
        found = re.findall(rb"mesg=(\d+)", self._text)
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(10)


def _env() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}


def run(*command: object) -> str:
    ended = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, timeout=120, env=_env()
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:6]))}: {ended.stdout}{ended.stderr}")
    return ended.stdout


@contextmanager
def node(here: Path, smarthost: int) -> Iterator[Path]:
    """Our daemon, with the sockets in Postfix's queue; its configuration folder."""
    config = here / "node"
    sets = [
        *(f'listen.{name}=["127.0.0.1:0"]' for name in ("rnasp", "msrap", "rnaqp", "msoap")),
        "listen.dns=[]",
        f'bridge.smtp_out.smarthost="127.0.0.1:{smarthost}"',
        f"bridge.smtp_in.sessions={SESSIONS}",
        'store.quota="100GiB"',
        "limits.waiting=0",
        "limits.waiting_per_sender=0",
        "limits.submitter_rate=0",
        f'resolve.via."{OUTSIDE}"="smtp"',
    ]
    words = [word for each in sets for word in ("--set", each)]
    names = ("--name", f"mx1.{DOMAIN}", "--domain", DOMAIN)
    run(*FORWARDER, "init", config, *names, "--postfix", "--queue", here / "queue", *words)
    add = [*FORWARDER, "account", "add", "smtpgateway", "--may", "originate", "--config", config]
    known = (config / "accounts" / "smtpgateway.toml").exists()
    if not known:
        subprocess.run(list(map(str, add)), input="secret\n", text=True, check=True, capture_output=True, timeout=60)
    run(*FORWARDER, "add", f"bob@{DOMAIN}", f"to=bob@{OUTSIDE}", "--config", config)
    log = here / "node.log"
    with log.open("w") as said:
        child = subprocess.Popen(
            [*FORWARDER, "serve", "--config", str(config)], stderr=said, stdin=subprocess.DEVNULL, env=_env()
        )
    try:
        _until(lambda: log.read_text().count('"listening"') >= 6 and '"lmtp"' in log.read_text(), "the daemon's start")
        yield config
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)


@contextmanager
def edge(here: Path) -> Iterator[tuple[Sink, Sequence[tuple[str, int, str]]]]:
    """All of it; the ways: (name, port, recipient)."""
    sink, once, twice, again, smarthost, world = free_ports(6)
    for name in ("etc", "queue", "data"):
        (here / name).mkdir()
    shutil.chown(here / "data", "postfix")
    here.chmod(0o755)
    sockets = here / "queue" / "forwarder"
    sockets.mkdir()
    os.chown(sockets, 0, grp.getgrnam("postfix").gr_gid)
    sockets.chmod(0o2750)
    with node(here, smarthost) as config:
        main = MAIN.format(here=here, sink=sink) + run(*FORWARDER, "postfix", "main.cf", "--config", config)
        master = MASTER.format(once=once, twice=twice, again=again)
        master += f"127.0.0.1:{world} inet n - n - - smtpd -o local_header_rewrite_clients=\n"
        printed = run(*FORWARDER, "postfix", "master.cf", "--config", config)
        master += (
            re.sub(r"^submission ", "127.0.0.1:0 ", printed, flags=re.MULTILINE)
            if "submission " in printed
            else printed
        )
        (here / "etc" / "main.cf").write_text(main)
        (here / "etc" / "master.cf").write_text(_without_submission(master))
        run("postfix", "-c", here / "etc", "start")
        receiver = Sink(sink)
        try:
            bob = f"bob@{OUTSIDE}"
            yield (
                receiver,
                [
                    ("Postfix", once, bob),
                    ("Postfix, Postfix", twice, bob),
                    ("Postfix, us, Postfix", world, f"bob@{DOMAIN}"),
                ],
            )
        finally:
            receiver.stop()
            run("postfix", "-c", here / "etc", "stop")


def _without_submission(master: str) -> str:
    """The submission service has a port of this machine's, which nothing here needs."""
    kept, skipping = [], False
    for line in master.splitlines():
        skipping = line.startswith("127.0.0.1:0 ") or (skipping and line.startswith((" ", "\t")))
        if not skipping:
            kept.append(line)
    return "\n".join([*kept, ""])


def _until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {PATIENCE:.0f} s")
        time.sleep(0.01)


def seconds(sink: Sink, port: int, to: str, messages: int, size: int) -> float:
    """From the first connection until the sink has had them all."""
    before = sink.count
    start = time.monotonic()
    command = ["smtp-source", "-d", "-s", str(SESSIONS), "-m", str(messages), "-l", str(size)]
    subprocess.run(
        [*command, "-f", "ann@world.example", "-t", to, f"127.0.0.1:{port}"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE,
        env=_env(),
    )
    _until(lambda: sink.count - before >= messages, f"{messages} mails for {to}, {sink.count - before}")
    return time.monotonic() - start


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--messages", type=int, default=1000)
    options.add_argument("--size", type=int, default=2048, help="octets of each")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    if os.geteuid() or shutil.which("postfix", path=SBIN) is None:
        print("needs root, and Debian's postfix", file=sys.stderr)
        return 2
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, edge(Path(name)) as (sink, ways):
        for _, port, to in ways:  # once unmeasured: processes, connections, caches
            seconds(sink, port, to, 50, chosen.size)
        for _ in range(chosen.rounds):
            for way, port, to in ways:
                spent = seconds(sink, port, to, chosen.messages, chosen.size)
                rates.setdefault(way, []).append(chosen.messages / spent)
    alone = rates["Postfix"]
    for way, found in rates.items():
        ratios = [a / b for a, b in zip(found, alone, strict=True)]
        spread = f"({min(ratios):.2f}..{max(ratios):.2f})"
        print(f"{way:22} {statistics.median(found):7,.0f}/s  {statistics.median(ratios):.2f} of one pass {spread}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
