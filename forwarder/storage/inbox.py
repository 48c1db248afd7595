"""Option 1: notifications that wait for readers (protocol 5.1, 6; gap 17 of 3.3).

* A deposit is answered after COMMIT of its row; sorting in among what readers see comes behind, and before each poll.
* Clear removes for all accounts of the entry; RetrieveAndClear for the account that called, from COMMIT on.
* A repeat of what waits is only seen; a repeat of what was cleared or taken waits anew, at the end of the order.
* An item waits, for the caps, until one account has taken or cleared it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

import apsw
import structlog
import trio

from forwarder.agent.limits import Struck, unheard
from forwarder.model import Endpoint, Mailbox, Outcome
from forwarder.ports import Arrival, Clock, Sight, Waiting
from forwarder.storage import sorting
from forwarder.storage.caps import DAY, Caps, InboxLimits, Origin
from forwarder.storage.database import Database, DatabaseBusy
from forwarder.storage.reads import DatabaseClosed
from forwarder.wire.outcome import ACCEPTED, OVERQUOTA

SCHEMA = sorting.SCHEMA

RETRY_SECONDS = 3_600
"""What an entry that is full tells a store to wait."""
SORT_ROWS, SORT_MOST = 500, 5_000
"""Arrivals sorted in by one commit: a twentieth of what waits for it, within these."""
SORT_PAUSE, SORT_HURRY = 0.05, 100_000
"""Seconds between two such commits in the background, and from how many waiting arrivals on there is no pause."""
SWEEP_ROWS = 500

_CURSOR = struct.Struct(">Q")

_WAITING = (
    "SELECT entry, store, sender, address, count(*) FROM inbox_items i WHERE cleared = 0 AND"
    " (hidden_until > 0 OR number > (SELECT coalesce(max(r.number), 0) FROM inbox_readers r WHERE r.entry = i.entry))"
    " GROUP BY entry, store, sender, address"
)
_PAGE = (
    "SELECT number, length(octets), entry FROM inbox_items WHERE entry = ? AND cleared = 0 AND number > ?"
    " AND hidden_until = 0 AND dies > ? ORDER BY number LIMIT ?"
)
_READ = (
    "INSERT INTO inbox_readers VALUES (?, ?, ?, ?) ON CONFLICT (entry, account)"
    " DO UPDATE SET number = excluded.number, peeks = excluded.peeks"
)

log = structlog.get_logger("forwarder.storage")

Page = tuple[Sequence[Waiting], bool]


class _Start(NamedTuple):
    """What is in memory at start."""

    waiting: list[tuple[Any, ...]]
    today: list[tuple[Any, ...]]
    readers: list[tuple[Any, ...]]
    unsorted: int
    last: int
    reveal: int | None


class _Poll(NamedTuple):
    account: str
    entries: Sequence[str]
    after: int
    limit: int
    octets: int
    now: int


class Inbox:
    """ports.Inbox over the embedded database. `open`, then start `run` in a nursery; `sweep` now and then."""

    def __init__(self, database: Database, limits: InboxLimits, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._caps = Caps(limits)
        self.struck: Struck = unheard
        self._peeks: dict[str, dict[str, bool]] = {}
        self._numbers = count(1)
        self._unsorted = 0
        self._reveal: int | None = None
        self._arrived = trio.Event()

    async def open(self) -> None:
        """Counts what waits and what came today."""
        now = int(self._clock())
        start = await self._database.read(lambda connection: _start(connection, now - now % DAY))
        for *origin, waiting in start.waiting:
            self._caps.waits(Origin.by(*origin), waiting)
        self._caps.turn(now)
        for *origin, came in start.today:
            self._caps.counted_today(Origin.by(*origin), came)
        for entry, account, peeks in start.readers:
            self._peeks.setdefault(entry, {})[account] = bool(peeks)
        self._numbers = count(start.last + 1)
        self._reveal = start.reveal
        self._appended(start.unsorted)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sorts in behind what is accepted, until the database is closed."""
        task_status.started()
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            while self._unsorted:
                if self._unsorted < SORT_HURRY:
                    await trio.sleep(SORT_PAUSE)
                try:
                    await self._sort()
                except DatabaseClosed:
                    return
                except (apsw.Error, DatabaseBusy) as error:
                    log.warning("not sorted in", error=repr(error), waiting=self._unsorted)
                    await trio.sleep(1)

    def deposit_soon(self, arrivals: Sequence[Arrival], done: Callable[[Sequence[Outcome] | Exception], None]) -> None:
        taken: list[Arrival] = []
        origins: list[Origin] = []
        struck: dict[int, str] = {}
        for place, arrival in enumerate(arrivals):
            origin = Origin.by(arrival.entry, arrival.store, arrival.sender, arrival.submitter.address)
            if limit := self._caps.strikes(origin, arrival.limits, arrival.at):
                struck[place] = limit
                self.struck(limit, arrival.entry)
            else:
                self._caps.came(origin)
                taken.append(arrival)
                origins.append(origin)

        def write(connection: apsw.Connection) -> set[int]:
            sorting.append(connection, taken)
            return {place for place in struck if not sorting.touch(connection, arrivals[place])}

        def written(answer: set[int] | Exception) -> None:
            if isinstance(answer, Exception):
                self._caps.taken_back(origins)
                done(answer)
                return
            self._appended(len(taken))
            done([_outcome(struck[place] if place in answer else None) for place in range(len(arrivals))])

        self._database.commit_soon(write, written, point="inbox.deposit")

    async def peek(
        self, account: str, entries: Sequence[str], after: bytes | None, limit: int, octets: int
    ) -> tuple[Sequence[Waiting], bool]:
        poll = _Poll(account, entries, _number(after), limit, octets, int(self._clock()))
        try:
            await self._in_sight()
            await self._peeked(poll)
        except apsw.Error as error:  # a disk that fails keeps nobody from what is in sight
            log.error("peeked without a note of it", error=repr(error))
            page = await self._database.read(lambda connection: _page(connection, poll))
            if self._unsorted and not page[1]:
                raise  # something has arrived that cannot be shown: no page is the last now
            return page
        return await self._database.read(lambda connection: _page(connection, poll))

    async def _peeked(self, poll: _Poll) -> None:
        """Remembers that this account peeks, where it did not last time."""
        changed = [entry for entry in poll.entries if self._peeks.get(entry, {}).get(poll.account) is not True]
        if changed:
            await self._database.commit(lambda connection: _read_by_peek(connection, poll, changed), point="inbox.peek")
            self._was_read(poll.account, changed, peeks=True)

    async def clear(self, entries: Sequence[str], cursors: Sequence[bytes]) -> None:
        self.cleared(await self._database.commit(lambda c: self.clearing(c, entries, cursors), point="inbox.clear"))

    def clearing(
        self, connection: apsw.Connection, entries: Sequence[str], cursors: Sequence[bytes]
    ) -> Sequence[Origin]:
        """Within a commit of the caller's, who hands what it returned to `cleared` afterwards."""
        return _clear(connection, frozenset(entries), [_number(cursor) for cursor in cursors])

    def cleared(self, origins: Sequence[Origin]) -> None:
        self._caps.dealt_with(origins)

    async def retrieve_and_clear(
        self, account: str, entries: Sequence[str], limit: int, octets: int
    ) -> tuple[Sequence[Waiting], bool]:
        await self._in_sight()
        poll = _Poll(account, entries, 0, limit, octets, int(self._clock()))
        page, origins = await self._database.commit(lambda connection: _take(connection, poll), point="inbox.retrieve")
        self._was_read(account, entries, peeks=False)
        self._caps.dealt_with(origins)
        return page

    async def sights(self, since: int) -> Sequence[Sight]:
        sql = (
            "SELECT store, key, localpart, domain, seen FROM inbox_items WHERE seen >= ? UNION ALL"
            " SELECT store, key, localpart, domain, arrived FROM inbox_arrivals WHERE arrived >= ? ORDER BY 5"
        )

        def read(connection: apsw.Connection) -> Sequence[Sight]:
            rows = connection.execute(sql, (since, since))
            return [Sight(store, key, Mailbox(local, domain), at) for store, key, local, domain, at in rows]

        return await self._database.read(read)

    def promises(self, entry: str) -> bool:
        """True if each account that reads the entry did so last by peek: one that takes needs the daily repair."""
        readers = self._peeks.get(entry, {})
        return bool(readers) and all(readers.values())

    async def sweep(self, now: int) -> int:
        """Drops items that have died, cleared or not; how many."""
        dropped = 0
        while True:
            rows, origins = await self._database.commit(lambda connection: _sweep(connection, now), point="inbox.sweep")
            self._caps.dealt_with(origins)
            dropped += rows
            if rows < SWEEP_ROWS:
                return dropped

    # -- between arriving and being seen

    def _appended(self, rows: int) -> None:
        self._unsorted += rows
        if self._unsorted:
            self._arrived.set()

    async def _in_sight(self) -> None:
        """All that had arrived before this call, and all that is due from hiding, can be seen."""
        due = self._unsorted
        while due > 0 and self._unsorted:
            due -= await self._sort()
        if self._reveal is not None and self._reveal <= self._clock():
            await self._sort()

    async def _sort(self) -> int:
        most = min(max(SORT_ROWS, self._unsorted // 20), SORT_MOST)
        now = int(self._clock())

        def sort(connection: apsw.Connection) -> tuple[sorting.Sorted, int | None]:
            done = sorting.sort_in(connection, self._numbers, most)
            return done, sorting.reveal(connection, self._numbers, now)

        done, self._reveal = await self._database.commit(sort, point="inbox.sort")
        self._unsorted -= done.arrivals
        self._caps.taken_back(done.repeats)
        self._caps.dealt_with(done.dealt_with)
        return done.arrivals

    def _was_read(self, account: str, entries: Iterable[str], *, peeks: bool) -> None:
        for entry in entries:
            self._peeks.setdefault(entry, {})[account] = peeks


def _outcome(limit: str | None) -> Outcome:
    if limit is None:
        return Outcome(ACCEPTED)
    return Outcome(OVERQUOTA, retryafter=RETRY_SECONDS, text=f"over the limit {limit}")


def _number(cursor: bytes | None) -> int:
    """0, the beginning and nobody's number, where it is no cursor of ours."""
    if cursor is None or len(cursor) != _CURSOR.size or cursor[0] & 0x80:
        return 0
    return int(_CURSOR.unpack(cursor)[0])


def _start(connection: apsw.Connection, today: int) -> _Start:
    arrivals = "SELECT entry, store, sender, address, count(*) FROM inbox_arrivals GROUP BY 1, 2, 3, 4"
    came = "SELECT entry, store, sender, address, count(*) FROM {} WHERE arrived >= ? GROUP BY 1, 2, 3, 4"
    last = "SELECT max(coalesce((SELECT max(number) FROM {}), 0), coalesce((SELECT max(number) FROM {}), 0))"
    return _Start(
        waiting=[*connection.execute(_WAITING), *connection.execute(arrivals)],
        today=[
            row
            for table in ("inbox_items", "inbox_arrivals")
            for row in connection.execute(came.format(table), (today,))
        ],
        readers=list(connection.execute("SELECT entry, account, peeks FROM inbox_readers")),
        unsorted=connection.execute("SELECT count(*) FROM inbox_arrivals").get,
        last=connection.execute(last.format("inbox_items", "inbox_readers")).get,
        reveal=connection.execute("SELECT min(hidden_until) FROM inbox_items WHERE hidden_until > 0").get,
    )


def _mark(connection: apsw.Connection, entry: str, account: str) -> int:
    """Up to which number this account has taken the entry's items."""
    sql = "SELECT number FROM inbox_readers WHERE entry = ? AND account = ?"
    return int(connection.execute(sql, (entry, account)).get or 0)


def _page(connection: apsw.Connection, poll: _Poll) -> Page:
    """The oldest of all entries together, within `limit` and `octets`; the first always."""
    found: list[tuple[int, int, str]] = []
    for entry in poll.entries:
        beyond = max(poll.after, _mark(connection, entry, poll.account))
        found += connection.execute(_PAGE, (entry, beyond, poll.now, poll.limit + 1))
    found.sort()
    numbers: list[int] = []
    room = poll.octets
    for number, size, _ in found[: poll.limit]:
        room -= size
        if room < 0 and numbers:
            break
        numbers.append(number)
    return [_waiting(connection, number) for number in numbers], len(numbers) < len(found)


def _waiting(connection: apsw.Connection, number: int) -> Waiting:
    sql = "SELECT entry, localpart, domain, octets, address, port, arrived FROM inbox_items WHERE number = ?"
    ((entry, local, domain, octets, address, port, arrived),) = connection.execute(sql, (number,))
    return Waiting(_CURSOR.pack(number), entry, Mailbox(local, domain), octets, Endpoint(address, port), arrived)


def _take(connection: apsw.Connection, poll: _Poll) -> tuple[Page, list[Origin]]:
    """The page, taken for this account; and the origins of what nobody had taken before."""
    page = _page(connection, poll)
    highest = {item.entry: _number(item.cursor) for item in page[0]}
    taken_before = {entry: sorting.taken_to(connection, entry) for entry in highest}
    first = [number for item in page[0] if (number := _number(item.cursor)) > taken_before[item.entry]]
    for entry in poll.entries:
        mark = highest.get(entry) or _mark(connection, entry, poll.account)
        connection.execute(_READ, (entry, poll.account, mark, 0))
    return page, [_origin(connection, number) for number in first]


def _read_by_peek(connection: apsw.Connection, poll: _Poll, entries: Sequence[str]) -> None:
    for entry in entries:
        connection.execute(_READ, (entry, poll.account, _mark(connection, entry, poll.account), 1))


def _origin(connection: apsw.Connection, number: int) -> Origin:
    (row,) = connection.execute("SELECT entry, store, sender, address FROM inbox_items WHERE number = ?", (number,))
    return Origin.by(*row)


def _clear(connection: apsw.Connection, entries: Collection[str], numbers: Sequence[int]) -> list[Origin]:
    """The origins of what had waited. The row stays for repeats, its octets go."""
    waited: list[Origin] = []
    for number in numbers:
        row = connection.execute(
            "SELECT entry, store, sender, address FROM inbox_items"
            " WHERE number = ? AND cleared = 0 AND hidden_until = 0",
            (number,),
        ).fetchone()
        if row is None or row[0] not in entries:
            continue
        if number > sorting.taken_to(connection, row[0]):
            waited.append(Origin.by(*row))
        connection.execute("UPDATE inbox_items SET cleared = 1, octets = ? WHERE number = ?", (b"", number))
    return waited


def _sweep(connection: apsw.Connection, now: int) -> tuple[int, list[Origin]]:
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT number, entry, store, sender, address, cleared, hidden_until FROM inbox_items WHERE dies <= ?"
        " AND number < (SELECT max(number) FROM inbox_items) LIMIT ?",  # the highest number is never given twice
        (now, SWEEP_ROWS),
    ).fetchall()
    waited = [
        Origin.by(entry, store, sender, address)
        for number, entry, store, sender, address, cleared, hidden in rows
        if not cleared and (hidden or number > sorting.taken_to(connection, entry))
    ]
    connection.executemany("DELETE FROM inbox_items WHERE number = ?", ((row[0],) for row in rows))
    return len(rows), waited
