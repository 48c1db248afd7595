"""A 200 MiB message goes through the daemon in slices: how much its memory grows (protocol 4).

    python benchmarks/large_message.py [--mib 200] [--times 3]

The message is submitted by MSOAP in chunks of 1 MiB, read back by MSRAP in slices of 1 MiB, compared by its SHA-256,
and un-pinned. Resident memory of the daemon is read at every slice; what counts is the highest that was seen over what
it was before, after a message of 4 MiB has warmed the daemon up. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path

from one_node import Node, Session, one_node

from forwarder.model import parse_mailbox
from forwarder.wire.msoap import SubmitEnvelope, SubmitMsgChunk
from forwarder.wire.msrap import Retrieve, UnPin, View

MIB = 1 << 20
MOST = 8 * MIB
TO = parse_mailbox("brian@isp.example")
HEADER = b"From: toby@pobox.example\nSubject: large\n\n"


def resident(pid: int) -> int:
    """Octets."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def through(node: Node, originator: Session, reader: Session, mib: int, seen: list[int]) -> float:
    """One message of so many MiB, in and out; seconds. seen: the daemon's memory after every slice."""
    block = HEADER + random.randbytes(MIB - len(HEADER))
    size, began = mib * MIB, time.monotonic()
    sent, got = hashlib.sha256(), hashlib.sha256()
    originator.ask(SubmitEnvelope((TO,), (), 86400))
    for offset in range(0, size, MIB):
        sent.update(block)
        answer = originator.ask(SubmitMsgChunk(offset + MIB == size, offset, block))
        seen.append(resident(node.pid))
    [key] = answer.identifiers
    offset = 0
    while offset < size:
        data = reader.ask(Retrieve(key, View.all, offset, MIB)).data
        got.update(data)
        offset += len(data)
        seen.append(resident(node.pid))
    if got.digest() != sent.digest():
        raise SystemExit("what came out is not what went in")
    reader.ask(UnPin(key))
    return time.monotonic() - began


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--mib", type=int, default=200)
    options.add_argument("--times", type=int, default=3)
    chosen = options.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder, one_node(Path(folder), ["toby"]) as node:
        originator, reader = node.session("msoap", "toby"), node.session("msrap")
        through(node, originator, reader, 4, [])
        for _ in range(chosen.times):
            seen: list[int] = [resident(node.pid)]
            seconds = through(node, originator, reader, chosen.mib, seen)
            grown = max(seen) - seen[0]
            worst = max(worst, grown)
            rate = 2 * chosen.mib / seconds
            print(
                f"{chosen.mib} MiB in and out: from {seen[0] / MIB:.1f} MiB by {grown / MIB:.2f} MiB, {rate:.0f} MiB/s"
            )
    print(f"most it grew by: {worst / MIB:.2f} MiB (allowed: {MOST / MIB:.0f})")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
