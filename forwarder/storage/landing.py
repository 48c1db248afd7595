"""A body and its rows come to the disk together, or nothing of them stays; and the seconds under which lists show them.

What lists show is told by seconds that only grow, and none is shown while something of it is on its way: whoever has
read up to a second has seen all there is up to it.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import apsw
import trio

from forwarder.ports import Due
from forwarder.storage.bodies import Bodies, Upload
from forwarder.storage.database import Database

T = TypeVar("T")


class Landed(NamedTuple, Generic[T]):
    """What a landing made. kept: its body is needed. due: whom it is to be told to at once, if that is all."""

    made: T
    kept: bool
    due: tuple[Due, ...] = ()


class NoSpace(OSError):
    """The disk is full: a body that lies beside its row says so as one in a file does."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Landing:
    """now: Unix time."""

    def __init__(self, database: Database, bodies: Bodies, now: Callable[[], int]) -> None:
        self._database = database
        self._bodies = bodies
        self._now = now
        self._stamps: Counter[int] = Counter()
        self._last_stamp = 0

    async def land(
        self, upload: Upload, job: Callable[[apsw.Connection, int, int], Landed[T]], *, point: str
    ) -> Landed[T]:
        """The body durable, then `job` committed; unless that says that it keeps it, nothing stays of it.

        job: told the time, and the second under which lists show it: a later one where the clock was set back.
        Raises what the job raises, NoSpace, OSError, apsw.Error.
        """
        now = self._now()
        kept = False
        try:
            with self.stamped() as listed, trio.CancelScope(shield=True):  # it ends soon; half would be an orphan
                await self._bodies.land(upload)
                landed = await self._database.commit(lambda c: job(c, now, listed), point=point)
                kept = landed.kept
        except apsw.IOError:  # a sync that failed: its row may be in the log, and found at the next start
            kept = True
            raise
        except apsw.FullError as error:
            raise NoSpace from error
        finally:
            self._bodies.landed(upload.name)
            if not kept:
                await self._discard(upload)
        return landed

    async def _discard(self, upload: Upload) -> None:
        with trio.CancelScope(shield=True):
            await upload.abort()
            if not upload.small:
                await self._bodies.remove([upload.name])

    @contextmanager
    def stamped(self) -> Iterator[int]:
        """The second under which lists will show what is on its way to the disk meanwhile."""
        at = self._last_stamp = max(self._last_stamp, self._now())
        self._stamps[at] += 1
        try:
            yield at
        finally:
            self._stamps[at] -= 1
            if not self._stamps[at]:
                del self._stamps[at]

    @property
    def present(self) -> int:
        """Up to here lists may be shown."""
        return min([self._now(), *self._stamps])
