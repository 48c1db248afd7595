"""RNAQP: readers ask what waits for them (protocol 3.3 gap 17, 5.1).

Which entries an account reads is looked up in the files at each command, not remembered from the login: what an
operator takes away is gone at the next poll. Notifications are handed over as they came, with all their octets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from forwarder.model import ClientLocation, Peer
from forwarder.ports import Accounts, Addresses, Catalogue, Conversation, Inbox, Waiting
from forwarder.services.login import Login, readable
from forwarder.wire.der import MalformedPDU
from forwarder.wire.notification import decode_notification
from forwarder.wire.rnaqp import (
    Authenticate,
    Authenticated,
    Clear,
    Cleared,
    Command,
    Item,
    Peek,
    Peeked,
    Response,
    RetrieveAndClear,
    RetrievedAndCleared,
)
from forwarder.wire.rnasp import Status

ANSWER_ITEMS = 1_000
"""Items of one answer at most (gap 17)."""
ANSWER_OCTETS = (16 << 20) - (256 << 10)
"""Octets of notifications in one answer: 16 MiB less what surrounds them."""

log = structlog.get_logger("forwarder.rnaqp")


class Rnaqp:
    """ports.Service. clear_login: whether this peer may send a password on the transport it came by."""

    def __init__(
        self,
        accounts: Accounts,
        addresses: Addresses,
        catalogue: Catalogue,
        inbox: Inbox,
        clear_login: Callable[[Peer], bool],
    ) -> None:
        self.login = Login(accounts, clear_login, "read")
        self.addresses = addresses
        self.catalogue = catalogue
        self.inbox = inbox

    def open(self, peer: Peer) -> Conversation:
        return Reading(self, peer)


class Reading:
    """One reader's session."""

    def __init__(self, service: Rnaqp, peer: Peer) -> None:
        self._service = service
        self._peer = peer
        self._account: str | None = None

    async def answer(self, command: Command, /) -> Response:
        if isinstance(command, Authenticate):
            return await self._authenticate(command)
        entries = await self._entries()
        if self._account is None or entries is None:
            return _refused()
        match command:
            case RetrieveAndClear(limit):
                page, more = await self._service.inbox.retrieve_and_clear(
                    self._account, entries, _items(limit), ANSWER_OCTETS
                )
                # a reader of 2004 asked for all: it is told that there is more only in an element it ignores
                return _fine(RetrievedAndCleared(_as_items(page, cursors=False), more or None))
            case Peek(after, limit):
                page, more = await self._service.inbox.peek(self._account, entries, after, _items(limit), ANSWER_OCTETS)
                return _fine(Peeked(_as_items(page, cursors=True), more))
            case Clear(cursors):
                await self._service.inbox.clear(entries, cursors)
                return _fine(Cleared())

    async def close(self) -> None:
        """Nothing is open between two commands."""
        self._account = None

    async def _authenticate(self, command: Authenticate) -> Response:
        self._account = None
        self._account = await self._service.login.log_in(command, self._peer)
        return _refused() if self._account is None else _fine(Authenticated())

    async def _entries(self) -> Sequence[str] | None:
        """What the account reads by the files as they are now; None once it may no longer read at all."""
        account = await self._service.login.may_still(self._account)
        if account is None:
            self._account = None
            return None
        named = await self._service.catalogue.read_by(account.name)
        return await readable(self._service.addresses, named, account.name)


def _items(limit: int | None) -> int:
    return min(limit or ANSWER_ITEMS, ANSWER_ITEMS)


def _as_items(page: Sequence[Waiting], *, cursors: bool) -> tuple[Item, ...]:
    return tuple(item for waiting in page if (item := _as_item(waiting, cursors)) is not None)


def _as_item(waiting: Waiting, cursor: bool) -> Item | None:
    """None for a row that cannot be read: it must not stand before the others for ever."""
    try:
        notification = decode_notification(waiting.octets)
    except MalformedPDU as error:
        log.error("a kept notification cannot be read", entry=waiting.entry, at=waiting.at, error=str(error))
        return None
    return Item(notification, ClientLocation(*waiting.submitter), waiting.at, waiting.cursor if cursor else None)


def _fine(data: Authenticated | RetrievedAndCleared | Peeked | Cleared) -> Response:
    return Response(False, Status.noerror, data)


def _refused() -> Response:
    return Response(False, Status.errornotauthenticated)
