"""Peers that a daemon meets, scripted, each in threads of its own: an agent that takes what comes, a forwarder of 2004.

They count what they are told, and everything ends with `close`.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forwarder.model import Mailbox, Notification, Outcome, ServiceLocation, parse_mailbox
from forwarder.wire import rnasp
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.session import NEED_DATA, RNASP, Bad, ClientSession, ServerSession

PATIENCE = 15.0
CAPABILITIES = rnasp.Capabilities(1, frozenset({"results", "trace"}), "sender.example")


def notification(
    to: str,
    key: int,
    *,
    store: str = "store.example",
    at: ServiceLocation | None = None,
    sender: str = "toby",
    **more: Any,
) -> Notification:
    """As it would have come by wire. at: the store, in place of a name."""
    made = Notification(
        at or ServiceLocation(store), None, parse_mailbox(to), key.to_bytes(16, "big"), sender, 1234, **more
    )
    return decode_notification(encode_notification(made))


def notify(
    port: int, notifications: Sequence[Notification], *, extended: bool = True, source: str = "127.0.0.1"
) -> rnasp.Response:
    """One PDU on a session of its own, and what came back."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0)) as connection:
        return ask(connection, notifications, extended=extended)


def ask(connection: socket.socket, notifications: Sequence[Notification], *, extended: bool = True) -> rnasp.Response:
    session = ClientSession(RNASP)
    command = rnasp.Notify(tuple(notifications), CAPABILITIES if extended else None)
    connection.sendall(session.send(command))
    while (event := session.next_event()) is NEED_DATA:
        data = connection.recv(1 << 16)
        if not data:
            raise EOFError("the daemon hung up")
        session.receive_data(data)
    assert isinstance(event, rnasp.Response)
    return event


def codes(response: rnasp.Response) -> list[int]:
    assert isinstance(response.data, rnasp.NotifyAnswer)
    assert response.data.results is not None, response
    return [outcome.code for outcome in response.data.results]


class Agent:
    """Listens on loopback; `answer` says what becomes of a PDU. `took` counts notifications by recipient."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server((host, port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.pdus = 0
        self.connections = 0
        self.took: Counter[str] = Counter()
        self.heard: list[Notification] = []
        self._news = threading.Condition()
        self.open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, command: rnasp.Notify) -> rnasp.Response:
        """All is taken, and said in the words of whoever asks."""
        results = tuple(Outcome(0) for _ in command.notifications) if command.capabilities is not None else None
        capabilities = CAPABILITIES if command.capabilities is not None else None
        return rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer(results, capabilities))

    def wait(self, enough: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Until what was heard is enough."""
        with self._news:
            return self._news.wait_for(enough, seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        session = ServerSession(RNASP)
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    session.receive_data(data)
                    while (event := session.next_event()) is not NEED_DATA:
                        connection.sendall(event.reply if isinstance(event, Bad) else session.send(self._told(event)))
            except OSError:
                return
            finally:
                self.open.discard(connection)

    def _told(self, command: rnasp.Notify) -> rnasp.Response:
        with self._news:
            self.pdus += 1
            self.heard += command.notifications
            self.took.update(str(n.recipient) for n in command.notifications)
            self._news.notify_all()
        return self.answer(command)

    def close(self) -> None:
        self._listener.close()
        for connection in list(self.open):
            connection.close()


class Of2004(Agent):
    """A forwarder written from the text of 2004: it knows no element that came later, so it drops the trace and the
    count of hops; it passes on to each target and answers when they have, one status for all.
    """

    def __init__(self, forwards: Mapping[str, Sequence[str]], places: Mapping[str, int]) -> None:
        """forwards: recipient to targets. places: domain to the port of its agent."""
        super().__init__()
        self._forwards = forwards
        self._places = places
        self.sent = 0

    def answer(self, command: rnasp.Notify) -> rnasp.Response:
        fine = all(self._pass_on(one, to) for one in command.notifications for to in self._forwards[str(one.recipient)])
        if fine:
            return rnasp.Response(False, rnasp.Status.noerror, rnasp.NotifyAnswer())
        return rnasp.Response(True, rnasp.Status.errorinternalproblem)

    def _pass_on(self, one: Notification, to: str) -> bool:
        target: Mailbox = parse_mailbox(to)
        bare = Notification(one.storeclear, one.storessl, target, one.identifier, one.sender, one.size)
        self.sent += 1
        try:
            response = notify(self._places[target.domain], [bare], extended=False)
        except (OSError, EOFError):
            return False
        return not response.abort and response.status is rnasp.Status.noerror
