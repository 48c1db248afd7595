"""Mail that comes by LMTP, beside aiosmtpd's LMTP: the sessions alone, where nothing is done with a message; then the
whole daemon, which keeps it and notifies its reader's agent, against a synced file for each. Messages a second, and
processor time for each; the daemon's memory while large ones come; and what a notification waits while mail pours in.

Load is Postfix's smtp-source, 20 sessions at once. Each pair runs in turn; ratios count, rates are for orientation.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from one_node import DOMAIN, Node, one_node

from forwarder.model import Notification, ServiceLocation, parse_mailbox
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Capabilities, decode_response, encode_batch, encode_capabilities

SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
TO = f"brian@{DOMAIN}"
MIB = 1 << 20
RESULTS = encode_capabilities(Capabilities(1, frozenset({"results"})))
OWN = """
import sys
import trio
from forwarder.testing import MemoryLog
from forwarder_smtp_bridge.outcomes import Reply
from forwarder_smtp_bridge.serve import Lmtp
TAKEN = Reply(250, "2.0.0", "taken")
class Nothing:
    def __init__(self, envelope):
        self.replies = [TAKEN] * len(envelope.recipients)
    async def write(self, octets):
        pass
    async def commit(self):
        return self.replies
    async def abort(self):
        pass
class Delivery:
    async def mail(self, mail):
        return TAKEN
    async def rcpt(self, envelope, mailbox):
        return TAKEN
    async def data(self, envelope):
        return Nothing(envelope)
async def main():
    lmtp = Lmtp("x.example", Delivery(), MemoryLog(), sessions=20, max_size=1 << 30)
    listeners = await trio.open_tcp_listeners(int(sys.argv[2]), host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, lmtp.serve, listeners)
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()
trio.run(main)
"""
OTHER = """
import os, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.lmtp import LMTP
class Kept:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        if sys.argv[1] == "-":
            return "250 taken"
        Kept.count += 1
        file = os.open(f"{sys.argv[1]}/{Kept.count}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(file, envelope.original_content)
        os.fsync(file)
        os.close(file)
        return "250 taken"
class Lmtp(Controller):
    def factory(self):
        return LMTP(self.handler, hostname="x.example", ident="x")
controller = Lmtp(Kept(), hostname="127.0.0.1", port=int(sys.argv[2]))
controller.start()
print("ready", flush=True)
sys.stdin.read()
"""


class Rate(NamedTuple):
    """Messages a second, and seconds of processor time (user and system) for each."""

    messages: float
    cpu: float


def pour(place: str, messages: int, size: int, sessions: int) -> float:
    """Seconds until all have been answered."""
    assert SOURCE is not None
    command = [SOURCE, "-L", "-d", "-c", "-s", str(sessions), "-m", str(messages), "-l", str(size)]
    start = time.monotonic()
    subprocess.run(
        [*command, "-f", "ann@x.example", "-t", TO, place], check=True, stdout=subprocess.DEVNULL, timeout=600
    )
    return time.monotonic() - start


@contextmanager
def ours(folder: Path) -> Iterator[Node]:
    more = [
        f'listen.lmtp=["unix:{folder}/lmtp"]',
        "bridge.smtp_in.sessions=20",
        "limits.waiting=0",
        "limits.waiting_per_sender=0",
        "limits.per_sender_per_day=0",
        "limits.per_store_per_day=0",
        "limits.submitter_rate=0",
        'store.quota="100GiB"',
    ]
    addresses = {"brian": 'strategy = "subscribe"\nreaders = ["brian"]\n'}
    with one_node(folder, ["brian", "smtpgateway"], addresses, more) as node:
        yield node


@contextmanager
def server(program: str, folder: str = "-") -> Iterator[tuple[str, int]]:
    """Where it listens, and its process. folder: where aiosmtpd puts a file for each, "-" = nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", program, folder, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        yield f"inet:127.0.0.1:{port}", child.pid
        child.stdin.close()
        child.wait(30)


def rate(place: str, pid: int, messages: int, size: int) -> Rate:
    pour(place, messages // 10, size, 20)  # what is done once only
    before = processor(pid)
    seconds = pour(place, messages, size, 20)
    return Rate(messages / seconds, (processor(pid) - before) / messages)


def rates(messages: int, size: int, rounds: int) -> tuple[list[Rate], list[Rate]]:
    """Ours and aiosmtpd's, in turn."""
    found: tuple[list[Rate], list[Rate]] = ([], [])
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name, ours(Path(name)) as node:
            found[0].append(rate(f"unix:{name}/lmtp", node.pid, messages, size))
        with tempfile.TemporaryDirectory() as name, server(OTHER, name) as (place, pid):
            found[1].append(rate(place, pid, messages, size))
    return found


def alone(messages: int, size: int, rounds: int) -> tuple[list[Rate], list[Rate]]:
    """The sessions, ours and aiosmtpd's, in turn."""
    found: tuple[list[Rate], list[Rate]] = ([], [])
    for _ in range(rounds):
        for program, into in zip((OWN, OTHER), found, strict=True):
            with server(program) as (place, pid):
                into.append(rate(place, pid, messages, size))
    return found


def told(what: str, own: list[Rate], other: list[Rate]) -> None:
    pairs = [a.messages / b.messages for a, b in zip(own, other, strict=True)]
    both = [statistics.median(r.messages for r in found) for found in (own, other)]
    spent = [statistics.median(r.cpu for r in found) * 1e3 for found in (own, other)]
    print(f"{what:24}{both[0]:,.0f}/s, aiosmtpd {both[1]:,.0f}/s")
    print(f"                        {statistics.median(pairs):.2f} : 1 ({min(pairs):.2f}..{max(pairs):.2f})")
    print(f"                        {spent[0]:.2f} ms of processor time each, aiosmtpd {spent[1]:.2f} ms")


def processor(pid: int) -> float:
    """Seconds of processor time that the process has had, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> int:
    """Octets resident at most since the process began."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc")


def memory(messages: int, size: int) -> int:
    """Octets more at the peak, four large messages at once."""
    with tempfile.TemporaryDirectory() as name, ours(Path(name)) as node:
        pour(f"unix:{name}/lmtp", 20, 2048, 4)
        before = peak(node.pid)
        pour(f"unix:{name}/lmtp", messages, size, 4)
        return peak(node.pid) - before


def waits(node: Node, until: Callable[[], bool]) -> list[float]:
    """Seconds for each single notification, one after the other."""
    found, numbers = [], itertools.count(int.from_bytes(os.urandom(8), "big"))
    with socket.create_connection(("127.0.0.1", node.ports["rnasp"]), 30) as connection:
        while not until():
            key = next(numbers).to_bytes(16, "big")
            notification = Notification(ServiceLocation("s.example"), None, parse_mailbox(TO), key, "toby", 1)
            pdu = encode_batch([encode_notification(notification)], RESULTS)
            start = time.monotonic()
            connection.sendall(len(pdu).to_bytes(4, "big") + pdu)
            answer = connection.recv(65536)
            found.append(time.monotonic() - start)
            if decode_response(answer[4:]).abort:
                raise SystemExit("the daemon refused to answer")
    return found


def beside(messages: int, seconds: float) -> tuple[list[float], list[float]]:
    """A notification's wait alone, and while mail pours in over 20 sessions."""
    with tempfile.TemporaryDirectory() as name, ours(Path(name)) as node:
        end = time.monotonic() + seconds
        alone = waits(node, lambda: time.monotonic() > end)
        load = threading.Thread(target=pour, args=(f"unix:{name}/lmtp", messages, 2048, 20))
        load.start()
        loaded = waits(node, lambda: not load.is_alive())
        load.join()
    return alone, loaded


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--messages", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--large", type=int, default=25, help="MiB of a large message")
    chosen = options.parse_args()
    if SOURCE is None:
        print("smtp-source is missing: apt-get install postfix", file=sys.stderr)
        return 2
    told("the sessions, 2 KiB", *alone(chosen.messages, 2048, chosen.rounds))
    told("kept and notified", *rates(chosen.messages, 2048, chosen.rounds))
    more = memory(8, chosen.large * MIB)
    print(f"{chosen.large} MiB, four at once     memory +{more / MIB:.1f} MiB at the peak")
    quiet, loaded = beside(chosen.messages * 2, 3.0)
    for part in (0.5, 0.99):
        a, b = quantile(quiet, part), quantile(loaded, part)
        said = f"{a * 1e3:.2f} ms alone, {b * 1e3:.2f} ms beside the mail, {b / a:.1f} x"
        print(f"a notification, p{part * 100:.0f}    {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
