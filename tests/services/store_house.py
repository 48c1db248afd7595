"""A message store as its services see it: real files, accounts and address files in dictionaries, a turned clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import trio

from forwarder.model import Mailbox, Notification, Peer, Route, parse_mailbox
from forwarder.ports import Account, Answer, BodySize
from forwarder.services.msoap import Msoap, StoreRules
from forwarder.services.msrap import Msrap
from forwarder.services.withdrawn import Withdrawn
from forwarder.storage.copies import StoredCopies
from forwarder.storage.database import Database
from forwarder.storage.message_schema import SCHEMA
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas
from forwarder.wire import msoap, msrap
from forwarder.wire.rnaqp import Authenticate

DAY = 86400
RULES = StoreRules(lifetime=30 * DAY, max_size=100 << 20, quota=150 << 20)


class Accounts:
    """ports.Accounts: everybody's password is "right"."""

    def __init__(self) -> None:
        both = frozenset({"read", "originate"})
        self.on = {"toby": both, "bob": both, "freda": both, "reader": frozenset({"read"}), "writer": both - {"read"}}
        self.limits: dict[str, Mapping[str, int]] = {}

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        return await self.find(name) if password == "right" else None

    async def find(self, name: str) -> Account | None:
        return Account(name, self.on[name], self.limits.get(name, {})) if name in self.on else None


class Addresses:
    """ports.Addresses, of which the store asks `entry` alone."""

    generation = 1

    def __init__(self) -> None:
        self.readers: dict[str, tuple[str, ...]] = {}

    def hosted(self, domain: str) -> bool:
        raise AssertionError("not asked")

    def look_up(self, mailbox: Mailbox) -> Answer | None:
        raise AssertionError("not asked")

    async def read(self, mailboxes: Collection[Mailbox]) -> Mapping[Mailbox, Answer]:
        raise AssertionError("not asked")

    async def entry(self, entry: str) -> Route | None:
        if entry not in self.readers:
            return None
        return Route(parse_mailbox(entry), entry, "pull_hold", readers=self.readers[entry])


class StoreHouse:
    """`source` answers for the stores that copies came from."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000
        self.accounts, self.addresses = Accounts(), Addresses()
        self.database = Database(folder / "state.db", SCHEMA)
        self.messages = StoredMessages(self.database, folder / "bodies", lambda: float(self.now))
        self.copies = StoredCopies(self.messages, Quotas(RULES.quota))
        self.source: BodySize | Exception = BodySize(None, None, None)
        self.ask: Callable[[Notification], Awaitable[BodySize]] = self._scripted
        self.looks = 0
        withdrawn = Withdrawn(self.messages, self.copies, self._look, lambda: float(self.now))
        self.msrap = Msrap(self.messages, withdrawn, self.accounts, self.addresses, lambda peer: peer.port != 23)
        self.posters = {("toby", "news")}
        self.msoap = Msoap(
            self.messages,
            self.accounts,
            lambda peer: peer.port != 23,
            RULES,
            lambda account, name: (account, name) in self.posters,
        )
        self.files = folder / "bodies"

    async def start(self, nursery: trio.Nursery) -> None:
        await self.database.open()
        await nursery.start(self.database.run)
        await self.messages.open()

    async def _look(self, notification: Notification) -> BodySize:
        self.looks += 1
        return await self.ask(notification)

    async def _scripted(self, notification: Notification) -> BodySize:
        if isinstance(self.source, Exception):
            raise self.source
        return self.source

    def reader(self, address: str = "192.0.2.1", **more: Any) -> Talk:
        return Talk(self.msrap.open(Peer(address, **more)), msrap)

    async def originator(self, name: str = "toby") -> Talk:
        talk = Talk(self.msoap.open(Peer("192.0.2.1")), msoap)
        await talk.say(Authenticate(name, "right"))
        return talk

    async def submit(self, body: bytes, *recipients: str, lists: tuple[str, ...] = ()) -> msoap.ChunkAnswer:
        talk = await self.originator()
        mailboxes = tuple(parse_mailbox(recipient) for recipient in recipients)
        await talk.say(msoap.SubmitEnvelope(mailboxes, lists, DAY))
        answer = await talk.say(msoap.SubmitMsgChunk(True, 0, body))
        assert isinstance(answer.data, msoap.ChunkAnswer)
        return answer.data


class Talk:
    """A conversation whose PDUs pass through the codec, as they do on the wire."""

    def __init__(self, conversation: Any, room: Any) -> None:
        self.conversation = conversation
        self._room = room

    async def say(self, command: Any) -> Any:
        command = self._room.decode_command(self._room.encode_command(command))
        response = await self.conversation.answer(command)
        return self._room.decode_response(self._room.encode_response(response))

    async def close(self) -> None:
        await self.conversation.close()
