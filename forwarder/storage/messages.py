"""Our message store on the disk: messages, their keys, lists (protocol 4). What a call returned is committed.

* A key opens something while it is live and its message's lifetime runs; later it is None, whatever it died of.
* A message keeps its body while any key is live (an archive: while it lasts). What leaves the disk when: `sweeping`.
* Of all that un-pin a key, or keys that are linked, one alone is told that it did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw
import structlog
import trio

from forwarder.model import handle
from forwarder.ports import Child, Clock, Due, Verdict
from forwarder.storage import body_rows, keys, listing, message_rows, return_rows
from forwarder.storage.bodies import Bodies, Upload
from forwarder.storage.database import Database
from forwarder.storage.keys import Fresh, Held
from forwarder.storage.landing import Landed, Landing
from forwarder.storage.message_rows import Envelope, Kept, OverLimit, OverQuota, Submitted
from forwarder.storage.sweeping import GRACE
from forwarder.store.lists import Page
from forwarder.store.machine import Delivery, Event, Life, Read, State, fold, may_hand_on, step
from forwarder.store.views import Range
from forwarder.wire.outcome import DEFERRED

FAILING = frozenset({Event.temporary, Event.baddomain, Event.noservice, Event.noserver, Event.badanswer})
"""Events after which a key is tried again without having been taken."""

FRESH = 500
"""Keys that wait to be handed to the sending; more are found by it in their rows."""

T = TypeVar("T")


log = structlog.get_logger("forwarder.store")


class Closed(NamedTuple):
    """An un-pin that counted. others: linked keys that ended with it, all of this bond. again: this account
    had un-pinned it before. copied: its source may be owed one now."""

    others: int = 0
    again: bool = False
    bond: int | None = None
    copied: bool = False


class StoredMessages:
    """Implements ports.Messages; the services ask it directly. `open` it before use."""

    def __init__(self, database: Database, folder: Path, clock: Clock) -> None:
        self.database = database
        self.bodies = Bodies(folder)
        self.clock = clock
        self._news, self._debts = trio.Event(), trio.Event()
        self._fresh: list[Due] = []
        self._fresh_is_all = True
        self.landing = Landing(database, self.bodies, lambda: self.now)

    async def open(self) -> None:
        """After the database. Empties the spool: uploads ended with their sessions."""
        await trio.to_thread.run_sync(self.bodies.open)

    def news(self) -> trio.Event:
        return self._news

    def debts(self) -> trio.Event:
        """Set when something may have become owed to a source, or to be reported, after this call."""
        return self._debts

    def tell(self) -> None:
        """Something has become due or owed."""
        self._tell_due()
        self._debts.set()
        self._debts = trio.Event()

    def _tell_due(self, due: Sequence[Due] = ()) -> None:
        if due and len(self._fresh) < FRESH:
            self._fresh += due
        else:
            self._fresh_is_all = False
        self._news.set()
        self._news = trio.Event()

    @property
    def now(self) -> int:
        return int(self.clock())

    # -- coming in

    def upload(self) -> Upload:
        return self.bodies.upload()

    async def room(self, account: str) -> int:
        """Octets that the account's messages take."""
        return await self.database.read(lambda c: message_rows.taken(c, account))

    async def kept(self) -> Kept:
        """What lies here, whosever it is."""
        return await self.database.read(message_rows.kept)

    async def may_submit(self, envelope: Envelope) -> bool:
        """Whether the account's limits of a day allow it. `submit` asks again."""
        return await self.database.read(lambda c: message_rows.within(c, envelope, self.now))

    async def submit(self, upload: Upload, envelope: Envelope) -> Submitted:
        """The keys, after COMMIT. The same again within 10 minutes gets the first keys (protocol 2).

        Raises OverQuota, OverLimit, OSError; then nothing is kept.
        """

        def job(c: apsw.Connection, now: int, listed: int) -> Landed[Submitted]:
            if first := message_rows.first_keys(c, envelope.fingerprint, now):
                return Landed(first, kept=False)
            if message_rows.taken(c, envelope.account) + upload.size > envelope.quota:
                raise OverQuota(envelope.account)
            if not message_rows.within(c, envelope, now):
                raise OverLimit(envelope.account)
            message = message_rows.insert(
                c, upload, envelope.account, envelope.letter, now, envelope.expires, envelope.fingerprint
            )
            due = tuple(
                keys.mint_due(c, Fresh(message, recipient), envelope.letter, now) for recipient in envelope.recipients
            )
            made = Submitted(
                tuple(one.identifier for one in due), listing.publish(c, message, envelope.lists, now, listed)
            )
            return Landed(made, True, due)

        return await self.land(upload, job, point="submitted")

    async def land(self, upload: Upload, job: Callable[[apsw.Connection, int, int], Landed[T]], *, point: str) -> T:
        """As `Landing.land`; who is to be told of it is handed over."""
        landed = await self.landing.land(upload, job, point=point)
        if landed.due:
            self._tell_due(landed.due)
        return landed.made

    # -- a reader's side

    async def find(self, key: bytes) -> Held | None:
        """Whoever was issued this key, dead ones included; see `opens`."""
        return await self.database.read(lambda c: keys.find(c, key))

    def opens(self, held: Held) -> bool:
        return held.state.life is Life.live and held.expires > self.now

    def in_grace(self, held: Held) -> bool:
        """Whether a session that had octets of it before it was un-pinned by another may go on (protocol 4)."""
        return (
            held.state.life is Life.unpinned
            and held.closed is not None
            and self.now <= min(held.closed + GRACE, held.expires)
        )

    async def look(self, key: bytes, wanted: Callable[[Held], Sequence[Range]]) -> tuple[Held | None, bytes | None]:
        """As `find`; and of a small body that it opens, the octets that are wanted of it."""

        def job(c: apsw.Connection) -> tuple[Held | None, bytes | None]:
            held = keys.find(c, key)
            if held is None or held.file or not self.opens(held):
                return held, None
            return held, body_rows.read(c, held.message, wanted(held))

        return await self.database.read(job)

    async def read(self, held: Held, ranges: Sequence[Range]) -> bytes:
        """Octets of its body. Raises FileNotFoundError once it has left the disk."""
        return await self.octets(held.message, held.file, ranges)

    async def octets(self, message: int, file: str, ranges: Sequence[Range]) -> bytes:
        """Of the body that a message's row names. Raises FileNotFoundError."""
        if file:
            return await self.bodies.read(file, ranges)
        return await self.database.read(lambda c: body_rows.read(c, message, ranges))

    async def served(self, held: Held, read: Read) -> None:
        """Octets of a view go out: the read status rises, after COMMIT. A disk that fails keeps nobody from reading."""

        def job(c: apsw.Connection) -> None:
            found = keys.by_number(c, held.number)
            if found and (state := step(found.state, Event.retrieve, 0, read=read)):
                keys.save(c, found.number, state)

        if read > held.state.read and held.state.life is Life.live:
            try:
                await self.database.commit(job, point="read")
            except apsw.Error as error:
                log.error("read status not written", key=handle(held.identifier), error=repr(error))

    async def silence(self, key: bytes) -> bool:
        """False: no such message. A public list's key is nobody's to silence: true, and nothing done (gap 14)."""

        def job(c: apsw.Connection) -> bool:
            held = keys.find(c, key)
            if not held or not self.opens(held):
                return False
            if not held.public and (state := step(held.state, Event.silence, self.now)):
                keys.save(c, held.number, state)
            return True

        return await self.database.commit(job, point="silenced")

    async def unpin(self, key: bytes, account: str | None) -> Closed | None:
        """None: no such message. Of all that try, one is told so that the key was live; linked keys end with it."""

        def job(c: apsw.Connection) -> Closed | None:
            held = keys.find(c, key)
            if held and account and held.state.life is Life.unpinned and held.closer == account:
                return Closed(again=True)
            if not held or not self.opens(held):
                return None
            if held.public:
                return Closed()
            return Closed(keys.unpin(c, held, self.now, account), bond=held.bond, copied=held.copied)

        closed = await self.database.commit(job, point="unpinned")
        if closed and not closed.again:
            log.debug("unpinned", key=handle(key), others=closed.others)
        if closed and closed.copied:
            self.tell()
        return closed

    async def withdraw(self, message: int) -> None:
        """The source says that its sender took it back: ours goes too."""

        def job(c: apsw.Connection) -> int:
            return keys.end(c, keys.of_message(c, message), Event.cancel, self.now)

        await self.database.commit(job, point="withdrawn")

    async def scan(self, name: str, account: str | None, begin: int, entries: Collection[str]) -> Page | None:
        """None: no such list for him. entries: those whose readers name this account now."""
        return await self.database.read(lambda c: listing.scan(c, name, account, begin, self.landing.present, entries))

    async def lists_of(self, account: str, name: str) -> Sequence[str]:
        """Entries for whose items this account has a list, by the entry's name or an address it served."""
        return await self.database.read(lambda c: listing.entries(c, account, name))

    async def list_entry(self, name: str) -> tuple[str, str] | None:
        """(entry, reader) of the private list with this capability."""
        return await self.database.read(lambda c: listing.owner(c, name))

    async def capability(self, entry: str, reader: str, *, fresh: bool = False) -> str:
        """The unguessable name of a reader's list; made when first asked for. fresh: the old one opens nothing more."""
        return await self.database.commit(lambda c: listing.capability_of(c, entry, reader, fresh=fresh), point="list")

    # -- the originator's side

    async def track(self, key: bytes, account: str) -> Delivery | None:
        """None: no key that this account was given."""

        def job(c: apsw.Connection) -> Delivery | None:
            held = keys.find(c, key)
            if not held or not _is_of(held, account):
                return None
            now = self.now
            top, *under = [(k.recipient, _by_time(k, now)) for k in keys.family(c, held.number)]
            return fold(top[1], [(recipient, state) for recipient, state in under if recipient])

        return await self.database.read(job)

    async def cancel(self, key: bytes, account: str) -> bool:
        """All keys under this handle end, after COMMIT. False: no key that this account was given."""

        def job(c: apsw.Connection) -> bool:
            held = keys.find(c, key)
            if not held or not _is_of(held, account):
                return False
            keys.end(c, keys.family(c, held.number), Event.cancel, self.now)
            return True

        return await self.database.commit(job, point="cancelled")

    # -- ports.Messages: the sending's side

    def fresh(self) -> tuple[Sequence[Due], bool]:
        found, is_all = self._fresh, self._fresh_is_all
        self._fresh, self._fresh_is_all = [], True
        return found, is_all

    async def due(self, limit: int, without: Collection[str]) -> tuple[Sequence[Due], float | None]:
        now = self.now
        return await self.database.read(
            lambda c: (message_rows.due(c, now, limit, without), message_rows.next_due(c, now))
        )

    async def settle(self, number: int, verdict: Verdict) -> None:
        def job(c: apsw.Connection) -> None:
            held = keys.by_number(c, number)
            if held:
                told(c, held, verdict, self.now)

        await self.database.commit(job, point="notified")
        if verdict.event in (Event.nouser, Event.refused):
            self.tell()  # a failure may have become due to be reported

    async def hand_on(self, number: int, children: Sequence[Child], code: int | None, *, keep: bool = False) -> bool:
        def job(c: apsw.Connection) -> bool:
            held = keys.by_number(c, number)
            if not held or not (state := step(held.state, Event.handed_on, self.now, code=code)):
                return True  # it died meanwhile: nobody is to be told any more
            root = held.root or held.number
            family = {k.recipient.folded for k in keys.family(c, root) if k.recipient}
            if not may_hand_on([child.recipient for child in children], family, held.depth):
                return False
            if not keep:
                keys.save(c, number, state)
                keys.close(c, number, self.now)
            for to, original, rna, token in children:
                fresh = Fresh(
                    held.message, to, original, rna, token, held.reader, False, root, held.bond, held.depth + 1
                )
                keys.mint(c, fresh, self.now)
            return True

        return await self.database.commit(job, point="handed on")


def _is_of(held: Held, account: str) -> bool:
    """Whether this account was given it at a submission: not what came of it, not an address's copies."""
    return held.root is None and not held.copied and held.account == account


def told(c: apsw.Connection, held: Held, verdict: Verdict, now: int) -> None:
    """An attempt to notify has ended so. What came by other mail and nobody took in its time has failed for good."""
    if verdict.event in FAILING and return_rows.overdue(c, held, now):
        verdict = Verdict(Event.refused, code=DEFERRED)
    event, wait, code, jitter = verdict
    if state := step(held.state, Event(event), now, wait=wait, code=code, jitter=jitter):
        stopped = held.state.due is None  # meanwhile: its recipient left the address (`members`)
        keys.save(c, held.number, state._replace(due=None) if stopped else state)
        if event in (Event.nouser, Event.refused):
            return_rows.ended(c, held, now)


def _by_time(held: Held, now: int) -> State:
    """Its lifetime may have run out before a sweep has written so."""
    return (held.expires <= now and step(held.state, Event.lifetime_end, now)) or held.state
