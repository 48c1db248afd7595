"""What leaves the store, and when. Nothing here touches what a key still opens.

* Keys end with their message's lifetime; the body is freed.
* A freed body leaves the disk GRACE later: a reader whose key was un-pinned under his hands may finish (protocol 4).
* Rows of keys stay as tombstones TOMBSTONE seconds, for Track and so that a late reader is no guesser (8.5).
* A body that no row needs is an orphan of a crash: removed, unless it is landing at this moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import apsw
import structlog
import trio

from forwarder.ports import Clock
from forwarder.ports.setbacks import Setback
from forwarder.storage import body_rows, keys, return_rows
from forwarder.storage.bodies import Bodies
from forwarder.storage.database import Database, DatabaseBusy
from forwarder.storage.reads import DatabaseClosed
from forwarder.store.machine import Event

GRACE = 600
TOMBSTONE = 30 * 86400
EVERY = 3600
ROWS = 500
"""Messages of one transaction at most."""

log = structlog.get_logger("forwarder.store")


class Sweeping:
    """`run` sweeps at start and every hour, until the database is closed. ended: called when messages' time has."""

    def __init__(
        self, database: Database, bodies: Bodies, clock: Clock, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._bodies = bodies
        self._clock = clock
        self._ended = ended
        self.setback = Setback()

    async def run(self) -> None:
        while True:
            pause = float(EVERY)
            try:
                await self.sweep()
                self.setback.over()
            except DatabaseClosed:
                return
            except (OSError, apsw.Error, DatabaseBusy) as error:
                pause = self.setback.pause(error)
                log.error("sweep failed", error=repr(error), again_in=pause)
            await trio.sleep(pause)

    async def sweep(self) -> None:
        now = int(self._clock())
        while await self._database.commit(lambda c: _expire(c, now), point="expired"):
            self._ended()  # their sources may be owed an un-pin
        while freed := await self._database.read(lambda c: _freed(c, now - GRACE)):
            await self._bodies.remove([name for _, name in freed if name])
            numbers = [number for number, _ in freed]
            await self._database.commit(lambda c, n=numbers: _removed(c, n), point="removed")  # type: ignore[misc]
        while await self._database.commit(lambda c: _forget(c, now), point="forgotten"):
            pass
        while await self._database.commit(lambda c: return_rows.forget(c, now), point="returns forgotten"):
            pass
        await self._remove_orphans()

    async def _remove_orphans(self) -> None:
        names = await trio.to_thread.run_sync(lambda: list(self._bodies.names()))
        for at in range(0, len(names), ROWS):
            batch = names[at : at + ROWS]
            landing = self._bodies.landing()  # before the look at the rows: what lands after it is not in `names`
            known = await self._database.read(lambda c, b=batch: _known(c, b))  # type: ignore[misc]
            if lost := set(batch) - known - landing:
                log.warning("orphans removed", bodies=len(lost))
                await self._bodies.remove(lost)


def _expire(c: apsw.Connection, now: int) -> int:
    sql = "SELECT number FROM message WHERE expires<=? AND freed IS NULL LIMIT ?"
    ended = [number for (number,) in keys.rows(c, sql, (now, ROWS))]
    for message in ended:
        return_rows.expire(c, message, now)
        keys.end(c, keys.of_message(c, message), Event.lifetime_end, now)
        c.execute("UPDATE message SET freed=? WHERE number=? AND freed IS NULL", (now, message))
    return len(ended)


def _freed(c: apsw.Connection, before: int) -> Sequence[tuple[int, str]]:
    return [
        (int(number), str(name))
        for number, name in c.execute(
            "SELECT number, file FROM message WHERE freed<=? AND removed=0 AND number NOT IN (SELECT k.message FROM"
            " returned r JOIN message_key k ON k.number = r.key WHERE r.ended IS NOT NULL AND r.reported = 0) LIMIT ?",
            (before, ROWS),
        )
    ]


def _removed(c: apsw.Connection, numbers: Collection[int]) -> None:
    body_rows.remove(c, numbers)
    c.executemany("UPDATE message SET removed=1 WHERE number=?", [(number,) for number in numbers])


def _forget(c: apsw.Connection, now: int) -> int:
    old = c.execute(
        "SELECT number FROM message WHERE freed<=? AND removed=1 AND number NOT IN"
        " (SELECT message FROM source WHERE due IS NOT NULL) LIMIT ?",
        (now - TOMBSTONE, ROWS),
    ).fetchall()
    for table, column in (("source", "message"), ("message_key", "message"), ("message", "number")):
        if table == "message_key":
            c.executemany("DELETE FROM listed WHERE key IN (SELECT number FROM message_key WHERE message=?)", old)
        c.executemany(f"DELETE FROM {table} WHERE {column}=?", old)  # noqa: S608  # names of ours
    c.execute("DELETE FROM pull WHERE forget<=?", (now,))
    return len(old)


def _known(c: apsw.Connection, names: Sequence[str]) -> set[str]:
    marks = ",".join("?" * len(names))
    sql = f"SELECT file FROM message WHERE file IN ({marks}) AND file <> '' AND removed=0"  # noqa: S608  # as many marks as names
    return {str(name) for (name,) in c.execute(sql, names)}
