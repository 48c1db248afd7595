"""A session with a daemon over a real socket, blocking: what is sent now may be heard later."""

from __future__ import annotations

from typing import Any

from forwarder.model import Mailbox, Notification, ServiceLocation, parse_mailbox
from forwarder.wire.msoap import SubmitEnvelope, SubmitMsgChunk
from forwarder.wire.notification import encode_notification
from forwarder.wire.rnaqp import Authenticate
from forwarder.wire.rnasp import Capabilities, encode_batch, encode_capabilities
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP, ClientSession, Protocol

from .node import PASSWORD, PATIENCE, Node

PROTOCOLS: dict[str, Protocol] = {"msoap": MSOAP, "msrap": MSRAP, "rnaqp": RNAQP, "rnasp": RNASP}
FEATURES = Capabilities(1, frozenset({"results", "redirect", "moved"}))


class Session:
    """With one service of a node; logged in where an account is named."""

    def __init__(self, node: Node, service: str, account: str | None = None) -> None:
        self._session = ClientSession(PROTOCOLS[service])
        self._socket = node.connect(service)
        self._socket.settimeout(PATIENCE)
        if account is not None:
            assert self.ask(Authenticate(account, PASSWORD)).status.name == "noerror"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, command: Any) -> None:
        self._socket.sendall(self._session.send(command))

    def send_pdu(self, pdu: bytes) -> None:
        self._socket.sendall(self._session.send_pdu(pdu))

    def hear(self) -> Any:
        while True:
            event = self._session.next_event()
            if hasattr(event, "status"):
                return event
            some = self._socket.recv(1 << 16)
            assert some, "the daemon hung up"
            self._session.receive_data(some)

    def ask(self, command: Any) -> Any:
        self.send(command)
        return self.hear()

    def says(self, command: Any) -> str:
        """The word of its status."""
        return str(self.ask(command).status.name)


def submit(originator: Session, *recipients: str, body: bytes = b"Subject: x\n\nhello\n") -> list[bytes]:
    """The keys."""
    envelope = SubmitEnvelope(tuple(map(parse_mailbox, recipients)), (), 86400)
    assert originator.says(envelope) == "noerror"
    return list(originator.ask(SubmitMsgChunk(True, 0, body)).data.identifiers)


def notify(session: Session, *notifications: Notification) -> list[int]:
    """The codes, as a store of today is told them."""
    session.send_pdu(encode_batch(map(encode_notification, notifications), encode_capabilities(FEATURES)))
    return [outcome.code for outcome in session.hear().data.results]


def notification(to: str, key: bytes, store: str = "store.example", **fields: Any) -> Notification:
    mailbox: Mailbox = parse_mailbox(to)
    return Notification(ServiceLocation(store), None, mailbox, key, "toby", 20, **fields)
