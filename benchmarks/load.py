"""The same as load.c, where there is no C compiler. It costs far more: only CPU figures of the other side mean much.

python benchmarks/load.py PORT FRAMES WARM SECONDS
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import struct
import sys
import time
from itertools import count
from pathlib import Path

from forwarder.wire.rnasp import NotifyAnswer, Status, decode_response

PATIENCE = 3.0
_salt, _serial = os.urandom(8), count()


class Connection:
    def __init__(self, port: int, frame: bytes, places: tuple[int, ...]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.frame = bytearray(frame)
        self.places = places
        self.answer = b""
        self.since = 0.0
        self.answered = 0

    def send(self) -> None:
        for place in self.places:
            self.frame[place : place + 16] = _salt + next(_serial).to_bytes(8, "big")
        self.answer = b""
        self.since = time.monotonic()
        self.socket.sendall(self.frame)

    def receive(self) -> bool:
        """Whether the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("load: a connection ended")
        self.answer += data
        return len(self.answer) >= 4 and len(self.answer) == 4 + int.from_bytes(self.answer[:4], "big")

    def good(self) -> bool:
        response = decode_response(self.answer[4:])
        if response.abort or response.status is not Status.noerror or not isinstance(response.data, NotifyAnswer):
            return False
        results = response.data.results
        return results is None or [result.code for result in results] == [0] * len(self.places)


def read_frames(octets: bytes, port: int) -> list[Connection]:
    connections, pos = [], 0
    while pos < len(octets):
        size, keys = struct.unpack_from("<II", octets, pos)
        places = struct.unpack_from(f"<{keys}I", octets, pos + 8)
        pos += 8 + 4 * keys
        connections.append(Connection(port, octets[pos : pos + size], places))
        pos += size
    return connections


class Load:
    def __init__(self, connections: list[Connection]) -> None:
        self._connections = {connection.socket.fileno(): connection for connection in connections}
        self._poll = select.epoll()
        for number in self._connections:
            self._poll.register(number, select.EPOLLIN)
        self._latencies: list[float] = []
        self._bad = 0
        self._busy = len(connections)
        self.sending, self.counting = True, False
        for connection in connections:
            connection.send()

    def run(self, until: float) -> None:
        """Until then, or until nothing is out any more."""
        while self._busy and time.monotonic() < until:
            for number, _ in self._poll.poll(0.01):
                if self._connections[number].receive():
                    self._answered(self._connections[number])

    def _answered(self, connection: Connection) -> None:
        self._bad += not connection.good()
        if self.counting:
            connection.answered += len(connection.places)
            self._latencies.append(time.monotonic() - connection.since)
        if self.sending:
            connection.send()
        else:
            self._busy -= 1

    def report(self, seconds: float) -> str:
        hundredths = statistics.quantiles(self._latencies, n=100)
        return json.dumps(
            {
                "seconds": seconds,
                "bad": self._bad,
                "unanswered": self._busy,
                "p50_us": hundredths[49] * 1e6,
                "p99_us": hundredths[98] * 1e6,
                "answers": [connection.answered for connection in self._connections.values()],
            }
        )


def main(port: str, frames: str, warm: str, seconds: str) -> None:
    load = Load(read_frames(Path(frames).read_bytes(), int(port)))
    load.run(time.monotonic() + float(warm))
    load.counting, begun = True, time.monotonic()
    print("begin", flush=True)
    load.run(begun + float(seconds))
    load.counting, load.sending, took = False, False, time.monotonic() - begun
    print("end", flush=True)
    load.run(time.monotonic() + PATIENCE)
    print(load.report(took))


if __name__ == "__main__":
    main(*sys.argv[1:5])
