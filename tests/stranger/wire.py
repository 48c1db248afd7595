"""Frames, sessions and both ends of them (docs/protocol.md 2, 5): blocking sockets, a thread for each session."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .der import Malformed, UnknownArm
from .module import decode, encode

ANSWER = 60.0
IDLE = {"RNASP": 60.0, "RNAQP": 300.0, "MSRAP": 300.0, "MSOAP": 300.0}
COMMAND_LIMIT = {"RNASP": 1 << 20, "RNAQP": 64 << 10, "MSRAP": 4 << 10, "MSOAP": 1025 << 10}
RESPONSE_LIMIT = {"RNASP": 1 << 20, "RNAQP": 16 << 20, "MSRAP": 1025 << 10, "MSOAP": 1025 << 10}

Arm = tuple[str, Any]
Where = tuple[str, int]
Tls = tuple[ssl.SSLContext, str]


class Closed(Exception):
    """The other side has hung up."""


class Failure(Exception):
    """A response that is no success: its status, and if it aborts the transaction."""

    def __init__(self, status: str, abort: bool) -> None:
        super().__init__(status)
        self.status, self.abort = status, abort


def _exactly(sock: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        more = sock.recv(min(count - len(got), 1 << 16))
        if not more:
            raise Closed
        got += more
    return bytes(got)


def read_frame(sock: socket.socket, limit: int) -> bytes:
    size = int.from_bytes(_exactly(sock, 4), "big")
    if not 0 < size <= limit:
        raise Malformed(f"a frame of {size} octets")
    return _exactly(sock, size)


def write_frame(sock: socket.socket, pdu: bytes) -> None:
    sock.sendall(len(pdu).to_bytes(4, "big") + pdu)


class Client:
    """One session with a server of one protocol."""

    def __init__(self, protocol: str, where: Where, tls: Tls | None = None, source: str = "") -> None:
        """tls: how, and the name that the server's certificate must have. source: our own address."""
        self.protocol = protocol
        self.sock = socket.create_connection(where, 15, (source, 0))
        if tls is not None:
            self.sock = tls[0].wrap_socket(self.sock, server_hostname=tls[1])
        self.sock.settimeout(ANSWER)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def raw(self, pdu: bytes) -> bytes:
        write_frame(self.sock, pdu)
        return read_frame(self.sock, RESPONSE_LIMIT[self.protocol])

    def ask(self, arm: str, value: Any) -> Any:
        """The response's data. Raises Failure for any other answer than a success."""
        pdu = encode(f"{self.protocol}PDU", ("command", {"commanddata": (arm, value)}))
        return self.answer(self.raw(pdu), arm)

    def login(self, account: str, password: str) -> None:
        """A session without its login is of no use, and closed."""
        try:
            self.ask("authenticate", {"account": account, "password": password})
        except BaseException:
            self.sock.close()
            raise

    def answer(self, pdu: bytes, arm: str) -> Any:
        what, response = decode(f"{self.protocol}PDU", pdu)
        if what != "response":
            raise Malformed("no response")
        if response["forceabort"] or response["status"] != "noerror":
            raise Failure(response["status"], response["forceabort"])
        got, data = response["responsedata"]
        if got != arm:
            raise Malformed(f"{got} answers {arm}")
        return data


@dataclass
class Session:
    """What a server knows of one client."""

    peer: str
    login: str = ""
    seen: set[bytes] = field(default_factory=set)


Handle = Callable[[Session, str, Any], Arm]


class Server:
    """Serves one protocol on an ephemeral port of loopback; `handle` answers with an arm or raises Failure."""

    def __init__(self, protocol: str, handle: Handle, tls: ssl.SSLContext | None = None) -> None:
        self.protocol, self.handle, self.tls = protocol, handle, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: set[socket.socket] = set()
        self.faults: list[Exception] = []
        self.garnish: Callable[[bytes], bytes] = bytes
        self.hangs_up = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """A blocked accept is woken by shutdown, not by close. Whoever met it has never said what it could not read."""
        for sock in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        assert not self.faults, self.faults

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, address = self.listener.accept()
                self.open.add(sock)
                threading.Thread(target=self._serve, args=(sock, Session(address[0])), daemon=True).start()

    def _serve(self, sock: socket.socket, session: Session) -> None:
        sock.settimeout(IDLE[self.protocol])
        try:
            if self.tls is not None:
                self.open.discard(sock)
                sock = self.tls.wrap_socket(sock, server_side=True)
                self.open.add(sock)
            while self._turn(sock, session):
                pass
        except (Closed, OSError):
            pass
        except Exception as fault:
            self.faults.append(fault)
        finally:
            self.open.discard(sock)
            sock.close()

    def _turn(self, sock: socket.socket, session: Session) -> bool:
        try:
            arm, value = self._command(read_frame(sock, COMMAND_LIMIT[self.protocol]))
            return self._respond(sock, "noerror", False, self.handle(session, arm, value))
        except TimeoutError:
            return self._respond(sock, "errorcommandtimeout", True)
        except Malformed as wrong:
            self.faults.append(wrong)
            return self._respond(sock, "errormalformedpdu", True)
        except UnknownArm as wrong:
            self.faults.append(wrong)
            self._respond(sock, "errorunexpectedcommand", True)
        except Failure as no:
            self._respond(sock, no.status, no.abort)
        return True

    def _command(self, pdu: bytes) -> Arm:
        what, command = decode(f"{self.protocol}PDU", pdu)
        if what != "command":
            raise UnknownArm("a response")
        arm, value = command["commanddata"]
        return arm, value

    def _respond(self, sock: socket.socket, status: str, abort: bool, data: Arm = ("null", {})) -> bool:
        response = {"forceabort": abort, "status": status, "responsedata": data}
        write_frame(sock, self.garnish(encode(f"{self.protocol}PDU", ("response", response))))
        return not (abort or self.hangs_up)
