"""So many connections that say nothing, and the daemon serves beside them: answers a second, memory for each.

The connections come from many addresses of 127.0.0.0/8. RLIMIT_NOFILE is raised here as far as it may be; the daemon
does the same. Idle RNASP sessions end after a minute, so what is measured is measured within it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path

from one_node import one_node

from forwarder.model import Notification, ServiceLocation, parse_mailbox
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnasp import Capabilities, decode_response, encode_batch, encode_capabilities

SPARE = 200
PER_ADDRESS = 5000
PAGE = os.sysconf("SC_PAGE_SIZE")
NOBODY = parse_mailbox("nobody@pobox.example")
RESULTS = encode_capabilities(Capabilities(1, frozenset({"results"})))


def raise_files(wanted: int) -> int:
    """For how many connections there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most) - SPARE


def memory(pid: int) -> int:
    """Octets resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def connect(port: int, number: int) -> socket.socket:
    source = f"127.0.1.{1 + number // PER_ADDRESS}"
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))


def rate(connection: socket.socket, seconds: float) -> float:
    """Single notifications answered in a second, one after the other."""
    count, end, start = 0, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        notification = Notification(ServiceLocation("s.example"), None, NOBODY, count.to_bytes(16, "big"), "toby", 1)
        pdu = encode_batch([encode_notification(notification)], RESULTS)
        connection.sendall(len(pdu).to_bytes(4, "big") + pdu)
        answer = connection.recv(65536)
        if decode_response(answer[4:]).abort:
            raise SystemExit("the daemon refused to answer")
        count += 1
    return count / (time.monotonic() - start)


def sessions(folder: Path) -> int:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(folder / "config" / "state" / "control.sock"))
        control.sendall(b'{"verb": "status"}\n')
        return int(json.loads(control.makefile().readline())["sessions"]["rnasp"])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--connections", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    chosen = options.parse_args()
    wanted = min(chosen.connections, raise_files(chosen.connections + SPARE))
    with tempfile.TemporaryDirectory() as name, one_node(Path(name), []) as node:
        busy = connect(node.ports["rnasp"], 0)
        alone = rate(busy, chosen.seconds)
        before = memory(node.pid)
        start = time.monotonic()
        idle = [connect(node.ports["rnasp"], number) for number in range(wanted)]
        opening = time.monotonic() - start
        beside = rate(busy, chosen.seconds)
        held = sessions(Path(name)) - 1
        each = (memory(node.pid) - before) / max(1, wanted)
        for connection in idle:
            connection.close()
    print(f"idle connections    {held} of {chosen.connections} held, opened in {opening:.1f} s")
    print(f"memory for each     {each / 1024:.1f} KiB")
    print(f"answers alone       {alone:,.0f}/s")
    print(f"answers beside them {beside:,.0f}/s, {beside / alone:.2f} of it")
    return 0 if held == wanted == chosen.connections else 1


if __name__ == "__main__":
    sys.exit(main())
