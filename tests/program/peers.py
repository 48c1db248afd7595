"""Peers of the daemons: clients of all four protocols, and a scripted agent. Blocking sockets, our own codecs."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from forwarder.model import Mailbox, Notification, Outcome, ServiceLocation, parse_mailbox
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.session import MSOAP, MSRAP, NEED_DATA, RNAQP, RNASP, ClientSession, ServerSession

from .node import PASSWORD, PATIENCE, Node

PROTOCOLS = {"rnasp": RNASP, "rnaqp": RNAQP, "msrap": MSRAP, "msoap": MSOAP}
TODAY = rnasp.Capabilities(1, frozenset({"results"}))
FOLLOWS = rnasp.Capabilities(1, frozenset({"results", "redirect"}))


def eventually(ask: Callable[[], Any]) -> Any:
    """Asks again and again until the answer is true; the answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it never came"
    return answer


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def notification(recipient: str, name: str, store: str = "store.example") -> Notification:
    return Notification(ServiceLocation(store), None, parse_mailbox(recipient), key(name), "toby", 100)


class Client:
    """One session with a daemon."""

    def __init__(self, node: Node, service: str, source: str = "127.0.0.1") -> None:
        self.socket = node.connect(service, source)
        self._wire = ClientSession(PROTOCOLS[service])

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, command: Any) -> None:
        self.socket.sendall(self._wire.send(command))

    def hear(self) -> Any:
        while (response := self._wire.next_event()) is NEED_DATA:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the daemon has hung up")
            self._wire.receive_data(data)
        return response

    def ask(self, command: Any) -> Any:
        self.send(command)
        return self.hear()

    def last_word(self) -> tuple[bool, Any]:
        """Abort and status of what it is told unasked before the session ends."""
        self._wire.send_pdu(b"")  # as if it had asked
        response = self.hear()
        assert self.socket.recv(1) == b""
        return response.abort, response.status

    def notify(self, *notifications: Notification, can: rnasp.Capabilities | None = TODAY) -> list[int]:
        """The codes; of a peer of 2004 the status."""
        response = self.ask(rnasp.Notify(notifications, can))
        if can is None or response.status:
            return [int(response.status)]
        return [outcome.code for outcome in response.data.results]

    def login(self, account: str) -> Client:
        response = self.ask(rnaqp.Authenticate(account, PASSWORD))
        assert not response.status, response
        return self


class Reader:
    """A person: RNAQP at his agent, MSRAP where a notification says."""

    def __init__(self, node: Node, account: str) -> None:
        self._node, self._account = node, account

    def waiting(self) -> list[rnaqp.Item]:
        with Client(self._node, "rnaqp").login(self._account) as client:
            return list(client.ask(rnaqp.Peek(None, 1000)).data.items)

    def gets(self, original: str) -> Notification:
        """The notification first sent to that address; waits for it, and clears it."""
        wanted = parse_mailbox(original)

        def found() -> list[rnaqp.Item]:
            return [item for item in self.waiting() if _first(item.notification) == wanted]

        [item] = eventually(found)
        with Client(self._node, "rnaqp").login(self._account) as client:
            client.ask(rnaqp.Clear((item.cursor,)))
        notified: Notification = item.notification
        return notified


def _first(notified: Notification) -> Mailbox:
    return notified.original or notified.recipient


def fetch(store: Node, identifier: bytes) -> bytes | None:
    """The whole message; None: no such message."""
    with Client(store, "msrap") as client:
        response = client.ask(msrap.Retrieve(identifier, msrap.View.all, 0, 1 << 20))
    return None if response.status else bytes(response.data.data)


def unpin(store: Node, identifier: bytes) -> bool:
    with Client(store, "msrap") as client:
        return not client.ask(msrap.UnPin(identifier)).status


def submit(store: Node, account: str, to: str, body: bytes) -> bytes:
    """The key that the store made."""
    with Client(store, "msoap").login(account) as client:
        assert not client.ask(msoap.SubmitEnvelope((parse_mailbox(to),), (), 3600)).status
        response = client.ask(msoap.SubmitMsgChunk(True, 0, body))
        assert not response.status, response
        [identifier] = response.data.identifiers
    return bytes(identifier)


def cancel(store: Node, account: str, identifier: bytes) -> None:
    with Client(store, "msoap").login(account) as client:
        assert not client.ask(msoap.Cancel(identifier)).status


def track(store: Node, account: str, identifier: bytes) -> msoap.DeliveryStatus:
    with Client(store, "msoap").login(account) as client:
        delivery: msoap.DeliveryStatus = client.ask(msoap.Track(identifier)).data.delivery
    return delivery


class Agent:
    """An agent on loopback. `code`: what it answers to each notification; while `held` it answers nothing."""

    def __init__(self, *, of_2004: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.code = 0
        self._of_2004 = of_2004
        self.heard: list[Notification] = []
        self._news = threading.Condition()
        self._held = threading.Event()
        self._held.set()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def hold(self) -> None:
        self._held.clear()

    def release(self) -> None:
        self._held.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        wire = ServerSession(RNASP)
        try:
            while data := connection.recv(65536):
                wire.receive_data(data)
                command = wire.next_event()
                if command is not NEED_DATA:
                    assert isinstance(command, rnasp.Notify)
                    with self._news:
                        self.heard += command.notifications
                        self._news.notify_all()
                    self._held.wait(PATIENCE)
                    connection.sendall(wire.send(self._answer(command)))
        except OSError:
            return

    def _answer(self, command: rnasp.Notify) -> rnasp.Response:
        if self._of_2004:
            return rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer())
        results = tuple(Outcome(self.code) for _ in command.notifications)
        return rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer(results, TODAY))

    def hears(self, count: int) -> list[Notification]:
        """Waits until it has heard so many."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.heard) >= count, PATIENCE), self.heard
            return list(self.heard)

    def close(self) -> None:
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._sockets:
            connection.close()
        for thread in self._threads:
            thread.join(5)
