"""The same as sink.c, where there is no C compiler.

python benchmarks/sink.py extended|2004 SLOW SECONDS
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time

from forwarder.model import Outcome
from forwarder.wire.frames import Frames, frame
from forwarder.wire.rnasp import (
    Capabilities,
    Notify,
    NotifyAnswer,
    Response,
    Status,
    decode_command,
    encode_response,
)

LATE = 1.0
LIMIT = 1 << 20
OURS = Capabilities(1, frozenset({"results"}))


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.frames = Frames(LIMIT)


def answer(command: Notify, extended: bool) -> bytes:
    data = NotifyAnswer()
    if extended and command.capabilities is not None:
        data = NotifyAnswer((Outcome(0),) * len(command.notifications), OURS)
    return frame(encode_response(Response(False, Status.noerror, data)))


def main(kind: str, slow: str, seconds: str) -> None:
    end = time.monotonic() + float(seconds)
    door = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(door.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(door.fileno(), select.EPOLLIN)
    connections: dict[int, Connection] = {}
    late: list[tuple[float, int, bytes]] = []
    while time.monotonic() < end:
        for number, _ in poll.poll(0.001 if late else 1.0):
            if number == door.fileno():
                sock, _ = door.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = Connection(sock)
                poll.register(sock.fileno(), select.EPOLLIN)
                continue
            connection = connections[number]
            data = connection.socket.recv(LIMIT)
            if not data:
                del connections[number]
                late = [waiting for waiting in late if waiting[1] != number]
                connection.socket.close()
                continue
            connection.frames.receive_data(data)
            if (pdu := connection.frames.next_pdu()) is None:
                continue
            command = decode_command(pdu)
            octets = answer(command, kind == "extended")
            if any(notification.recipient.localpart == slow for notification in command.notifications):
                heapq.heappush(late, (time.monotonic() + LATE, number, octets))
            else:
                connection.socket.sendall(octets)
        while late and late[0][0] <= time.monotonic():
            _, number, octets = heapq.heappop(late)
            connections[number].socket.sendall(octets)


if __name__ == "__main__":
    main(*sys.argv[1:4])
