"""MSRAP: readers fetch, silence and un-pin what our store holds (protocol 3.2, 4, 5.5, 8.5).

* A key is the only credential. Whatever a key died of, or if it never was, the answer is errornosuchmessage.
* One grace: a session that had octets of a key may read on, at most 10 min, when another session un-pins it.
* The read status is raised only by octets that were served, and is on the disk before they go out.
* Lists: a public one by its name, a private one by its capability, or by its address for the account that may read it,
  which is asked of the address file each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog

from forwarder.model import SHA256, ContentDigest, Peer, handle, parse_mailbox
from forwarder.ports import Accounts, Addresses, Conversation
from forwarder.services.login import Login, readable
from forwarder.services.misses import Misses
from forwarder.services.withdrawn import Withdrawn
from forwarder.storage.keys import Held, text
from forwarder.storage.message_rows import unpack_ranges
from forwarder.storage.messages import StoredMessages
from forwarder.store.machine import Read
from forwarder.store.views import Range, pieces
from forwarder.wire.msrap import (
    Command,
    QuerySize,
    Response,
    Retrieve,
    Retrieved,
    ScanList,
    Scanned,
    Silence,
    Silenced,
    Size,
    Split,
    UnPin,
    UnPinned,
    View,
)
from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.rnasp import Status
from forwarder.wire.session import MSRAP

SLICE = 1 << 20
"""Octets of one answer; more is a short read."""
READING = 1000
"""Keys of which one session is remembered to have had octets."""

log = structlog.get_logger("forwarder.msrap")


class Msrap:
    """ports.Service. clear_login: whether this peer may send a password on the transport it came by."""

    def __init__(
        self,
        messages: StoredMessages,
        withdrawn: Withdrawn,
        accounts: Accounts,
        addresses: Addresses,
        clear_login: Callable[[Peer], bool],
    ) -> None:
        self.messages = messages
        self.withdrawn = withdrawn
        self.login = Login(accounts, clear_login, "read")
        self.addresses = addresses
        self.misses = Misses()
        self._counts: dict[str, Counter[str]] = {"retrieves": Counter(), "bodies served": Counter()}

    @property
    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """What was served since the start, by who asked: "inner" (this daemon), "reader" (logged in), "stranger"."""
        return {name: dict(counts) for name, counts in self._counts.items()}

    def count(self, name: str, peer: str) -> None:
        self._counts[name][peer] += 1

    def open(self, peer: Peer) -> Conversation:
        return Fetching(self, peer)


class Fetching:
    """One reader's session."""

    def __init__(self, service: Msrap, peer: Peer) -> None:
        self._service = service
        self._messages = service.messages
        self._peer = peer
        self._account: str | None = None
        self._had_octets: dict[bytes, int | None] = {}
        """Keys, and what links each to others."""

    async def answer(self, command: Command, /) -> Response:
        if not self._peer.inner:
            await self._service.misses.wait(self._peer.address)
        match command:
            case Retrieve():
                return await self._retrieve(command)
            case QuerySize(key):
                return await self._size(key)
            case Silence(key):
                return _fine(Silenced()) if await self._messages.silence(key) else await self._none(key)
            case UnPin(key):
                return await self._unpin(key)
            case ScanList(name, begin):
                return await self._scan(name, begin)
            case Authenticate():
                return await self._authenticate(command)
            case Split():
                unexpected: Response = MSRAP.error("errorunexpectedcommand")
                return unexpected

    async def close(self) -> None:
        """Nothing is open between two commands; the grace ends with the session."""
        self._had_octets.clear()
        self._account = None

    async def _retrieve(self, command: Retrieve) -> Response:
        def wanted(held: Held) -> Sequence[Range]:
            return pieces(_view(held, command.view), command.offset, min(command.length, SLICE))

        held, data = await self._messages.look(command.identifier, wanted)
        if held is None or not self._may_read(held) or await self._service.withdrawn.withdrawn(held):
            return self._nothing(held)
        self._service.count("retrieves", self._who)
        if data is None:
            ranges = wanted(held)
            data = await self._messages.read(held, ranges) if ranges else b""
        if data:
            await self._messages.served(held, Read(command.view))
            self._remember(held)
            if command.view is View.all and command.offset + len(data) == held.size:
                self._service.count("bodies served", self._who)
        return _fine(Retrieved(data, sum(length for _, length in _view(held, command.view))))

    def _may_read(self, held: Held) -> bool:
        return self._messages.opens(held) or (held.identifier in self._had_octets and self._messages.in_grace(held))

    def _remember(self, held: Held) -> None:
        self._had_octets.setdefault(held.identifier, held.bond)
        if len(self._had_octets) > READING:
            del self._had_octets[next(iter(self._had_octets))]

    async def _size(self, key: bytes) -> Response:
        held = await self._messages.find(key)
        if held is None or not self._messages.opens(held) or await self._service.withdrawn.withdrawn(held):
            return self._nothing(held)
        return _fine(Size(held.size, ContentDigest(SHA256, held.sha256), held.expires))

    async def _unpin(self, key: bytes) -> Response:
        self._had_octets.pop(key, None)  # the grace is for those whom another's un-pin met
        closed = await self._messages.unpin(key, self._account)
        if closed and closed.bond is not None:
            self._had_octets = {other: bond for other, bond in self._had_octets.items() if bond != closed.bond}
        return _fine(UnPinned()) if closed else await self._none(key)

    async def _scan(self, name: str, begin: int) -> Response:
        name = _as_address(name)
        owner = await self._messages.list_entry(name)
        if owner is not None:
            entries = await readable(self._service.addresses, [owner[0]], owner[1])
        elif reader := await self._service.login.may_still(self._account):
            named = await self._messages.lists_of(reader.name, name)
            entries = await readable(self._service.addresses, named, reader.name)
        else:
            entries = ()
        page = await self._messages.scan(name, self._account, begin, entries)
        if page is None:
            if owner is None:
                self._miss()
            return _no_such_message()
        return _fine(Scanned(page.keys, page.end))

    async def _authenticate(self, command: Authenticate) -> Response:
        self._account = None
        self._account = await self._service.login.log_in(command, self._peer)
        return _refused() if self._account is None else _fine(Authenticated())

    @property
    def _who(self) -> str:
        return "inner" if self._peer.inner else "reader" if self._account else "stranger"

    async def _none(self, key: bytes) -> Response:
        return self._nothing(await self._messages.find(key))

    def _nothing(self, held: Held | None) -> Response:
        """The one answer, whatever a key died of; only one that was never issued is a guess."""
        if held is None:
            self._miss()
        else:
            log.debug("no such message", key=handle(held.identifier), life=held.state.life.name)
        return _no_such_message()

    def _miss(self) -> None:
        if not self._peer.inner:
            self._service.misses.count(self._peer.address)


def _view(held: Held, view: View) -> tuple[Range, ...]:
    match view:
        case View.nothing:
            return ()
        case View.summaryonly:
            return unpack_ranges(held.summary)
        case View.headersonly:
            return ((0, held.headers),)
        case View.all:
            return ((0, held.size),)


def _as_address(name: str) -> str:
    """A list's name, as lists of addresses are named."""
    try:
        return str(text(parse_mailbox(name).folded))
    except ValueError:
        return name


def _fine(data: Authenticated | Retrieved | Scanned | Silenced | Size | UnPinned) -> Response:
    return Response(False, Status.noerror, data)


def _refused() -> Response:
    response: Response = MSRAP.error("errornotauthenticated")
    return response


def _no_such_message() -> Response:
    response: Response = MSRAP.error("errornosuchmessage")
    return response
