"""The MTA of some other domain: takes mail octet by octet, refuses whom it is told to."""

from __future__ import annotations

import socket
import threading
from io import BufferedRWPair
from typing import NamedTuple

PATIENCE = 90.0
HELLO = b"250-far.example\r\n250-SIZE 99000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"


class Letter(NamedTuple):
    """What came in one transaction. mail: the words after MAIL FROM."""

    sender: str
    recipients: list[str]
    octets: bytes
    mail: str


class FarSide:
    """Listens on loopback. refuse: recipient to the reply that RCPT gets; at_dot: the reply to each message."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.refuse: dict[str, bytes] = {}
        self.at_dot = b"250 2.0.0 taken"
        self.got: list[Letter] = []
        self._news = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def receives(self, count: int = 1) -> list[Letter]:
        """Waits until so many are here."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.got) >= count, PATIENCE), self.got
            return list(self.got)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            connection.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rwb") as peer:
                self._converse(peer)
        except (OSError, ValueError):
            return

    def _converse(self, peer: BufferedRWPair) -> None:
        def say(reply: bytes) -> None:
            peer.write(reply + b"\r\n")
            peer.flush()

        say(b"220 far.example")
        sender, mail, recipients = "", "", list[str]()
        while line := peer.readline():
            word = line[:4].upper()
            if word in (b"EHLO", b"HELO"):
                say(HELLO.rstrip())
            elif word == b"MAIL":
                mail = line.decode().strip()
                sender, recipients = _path(mail), []
                say(b"250 2.1.0 ok")
            elif word == b"RCPT":
                recipient = _path(line.decode())
                reply = self.refuse.get(recipient, b"250 2.1.5 ok")
                if reply.startswith(b"2"):
                    recipients.append(recipient)
                say(reply)
            elif word == b"DATA" and recipients:
                say(b"354 go on")
                octets = b""
                while (line := peer.readline()) != b".\r\n":
                    assert line
                    octets += line.removeprefix(b".")
                self._take(Letter(sender, recipients, octets, mail))
                say(self.at_dot)
            elif word == b"QUIT":
                say(b"221 2.0.0 bye")
                return
            else:
                say(b"250 2.0.0 ok" if word in (b"RSET", b"NOOP") else b"503 5.5.1 no")

    def _take(self, letter: Letter) -> None:
        with self._news:
            if self.at_dot.startswith(b"2"):
                self.got.append(letter)
            self._news.notify_all()


def _path(line: str) -> str:
    return line.partition("<")[2].rpartition(">")[0]
