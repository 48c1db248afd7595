"""RNAQP and MSRAP in process: what a door for today's mail programs reads by (bridges.Login, bridges.Reader).

* What waits: items of the inbox (option 1) and of the account's own lists (option 5), by the files as they are now.
* The messages are read where they are, in the sender's store or in ours, by the keys of the items.
* `done` is one COMMIT: cleared, our own un-pinned, the un-pins at other stores owed; the courier gives them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from forwarder.bridges import Item, Reader
from forwarder.model import Mailbox, Notification, Peer, ServiceLocation, handle, parse_mailbox
from forwarder.plugin import PeerError
from forwarder.ports import Accounts, Addresses, Catalogue, Clock, Debt, Found, Inbox, Sources
from forwarder.services.login import Login, readable
from forwarder.storage.ledger import UNPIN
from forwarder.storage.reading import StoredReading
from forwarder.wire.der import MalformedPDU
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.rnaqp import Authenticate

PAGE = 1000
MOST = 10_000
"""Items of the inbox that one reader is shown at once."""
PAGE_OCTETS = 16 << 20
BODY_MOST = 1 << 40
HEAD_OCTETS = 1 << 20

log = structlog.get_logger("forwarder.reading")


class Readings:
    """bridges.Login. owe: takes committed debts; store_of: the domain under which our store is known to a sender."""

    def __init__(
        self,
        accounts: Accounts,
        addresses: Addresses,
        catalogue: Catalogue,
        inbox: Inbox,
        reading: StoredReading,
        sources: Sources,
        clear: Callable[[Peer], bool],
        owe: Callable[[Debt, Notification], None],
        store_of: Callable[[str], str],
        clock: Clock,
    ) -> None:
        self._login = Login(accounts, clear, "read")
        self._clear = clear
        self.addresses = addresses
        self.catalogue = catalogue
        self.inbox = inbox
        self.reading = reading
        self.sources = sources
        self.owe = owe
        self.store_of = store_of
        self.clock = clock

    def clear(self, peer: Peer, /) -> bool:
        return self._clear(peer)

    async def __call__(self, user: str, password: str, peer: Peer, /) -> Reader | None:
        account, _, address = user.partition("/")
        only: Mailbox | None = None
        if address:
            try:
                only = parse_mailbox(address).folded
            except ValueError:
                return None
        name = await self._login.log_in(Authenticate(account, password), peer)
        if name is None:
            return None
        reader = AccountReader(self, name, only)
        return reader if only is None or await reader.may() else None


class AccountReader:
    """bridges.Reader. only: the one mailbox it asked for."""

    def __init__(self, readings: Readings, account: str, only: Mailbox | None) -> None:
        self._of = readings
        self._account = account
        self._only = only

    @property
    def account(self) -> str:
        return self._account

    async def may(self) -> bool:
        """Whether the mailbox it asked for is one that it reads."""
        assert self._only is not None
        answer = (await self._of.addresses.read([self._only]))[self._only]
        return self._account in _readers(answer)

    async def waiting(self) -> Sequence[Item]:
        items = [*await self._inbox(), *await self._lists()]
        return [item for item in items if self._only is None or item.mailbox == self._only]

    async def _inbox(self) -> list[Item]:
        entries = await self._entries()
        items: list[Item] = []
        after, more = None, bool(entries)
        while more and len(items) < MOST:
            page, more = await self._of.inbox.peek(self._account, entries, after, PAGE, PAGE_OCTETS)
            for waiting in page:
                after = waiting.cursor
                try:
                    notification = decode_notification(waiting.octets)
                except MalformedPDU as error:
                    log.error("a kept notification cannot be read", entry=waiting.entry, error=str(error))
                    continue
                items.append(Item(waiting.recipient.folded, notification, b"i" + waiting.cursor))
            more = more and bool(page)
        return items

    async def _lists(self) -> list[Item]:
        with_lists = await self._of.reading.entries(self._account)
        entries = await readable(self._of.addresses, with_lists, self._account)
        if not entries:
            return []
        items = []
        for listed in await self._of.reading.listed(self._account, entries):
            blank = decode_notification(listed.letter)
            store = ServiceLocation(self._of.store_of(blank.sender))
            notification = blank._replace(storeclear=store, recipient=listed.address, identifier=listed.key, raw=b"")
            items.append(Item(listed.address.folded, notification, b"l"))
        return items

    async def _entries(self) -> Sequence[str]:
        return await readable(self._of.addresses, await self._of.catalogue.read_by(self._account), self._account)

    async def _still_his(self, items: Sequence[Item]) -> Sequence[Item]:
        """A session may outlive its reader's right: what is others' now is theirs to be done with."""
        answers = await self._of.addresses.read({item.mailbox for item in items})
        his = {at for at, answer in answers.items() if self._account in _readers(answer)}
        if others := [handle(item.notification.identifier) for item in items if item.mailbox not in his]:
            log.info("not his any more, left as it is", account=self._account, keys=others)
        return [item for item in items if item.mailbox in his]

    async def size(self, item: Item, /) -> int:
        size = (await self._of.sources.look(item.notification)).size
        return size if size is not None else item.notification.size or 0

    async def head(self, item: Item, /) -> bytes:
        return await self._of.sources.head(item.notification, HEAD_OCTETS)

    def body(self, item: Item, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._of.sources.body(item.notification, BODY_MOST)

    async def done(self, items: Sequence[Item], gone: Sequence[Item] = (), /) -> None:
        entries = await self._entries()
        items = await self._still_his(items)
        cursors = [item.position[1:] for item in (*items, *gone) if item.position[:1] == b"i"]
        own = [item.notification.identifier for item in items if item.position[:1] == b"l"]
        owed = [item.notification for item in items if item.position[:1] == b"i"]
        debts = [_debt(notification, int(self._of.clock())) for notification in owed]
        try:
            numbered = await self._of.reading.done(self._account, entries, cursors, own, debts)
        except Exception as error:
            log.error("what a reader is done with was not written", account=self._account, error=repr(error))
            raise PeerError("not written") from error
        for debt, notification in zip(numbered, owed, strict=True):
            self._of.owe(debt, notification)


def _readers(answer: object) -> Sequence[str]:
    return answer.route.readers if isinstance(answer, Found) else ()


def _debt(notification: Notification, now: int) -> Debt:
    octets = notification.raw or encode_notification(notification)
    store, recipient = notification.store, notification.recipient
    return Debt(0, UNPIN, str(recipient), recipient, store, notification.identifier, octets, now, b"{}")
