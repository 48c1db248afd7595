"""What came by other mail: taken in once, taken back, its failures handed out until they are reported.

Implements bridges.Failures. All answers follow COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import apsw
import trio

from forwarder.bridges import Failure
from forwarder.ports import Due, Verdict
from forwarder.storage import keys, message_rows, return_rows
from forwarder.storage.bodies import Upload
from forwarder.storage.keys import Fresh, mailbox
from forwarder.storage.landing import Landed
from forwarder.storage.message_rows import Envelope, OverLimit, OverQuota
from forwarder.storage.messages import StoredMessages, told
from forwarder.store.machine import Event
from forwarder.wire.outcome import TEXTS

HEAD_OCTETS = 64 << 10
LOOK_EVERY = 30.0


class Arriving(NamedTuple):
    """How an envelope's recipients came. once: one for each. quiet: seconds in which no failure is reported.

    redirects: whether our store follows "not here, there" by itself.
    """

    sender: str
    once: tuple[bytes, ...]
    quiet: int
    redirects: bool


class Returns:
    """Beside the StoredMessages whose rows it shares."""

    def __init__(self, messages: StoredMessages) -> None:
        self._messages = messages
        self._database = messages.database

    async def submit(self, upload: Upload, envelope: Envelope, arriving: Arriving) -> Sequence[bytes | None]:
        """A key for each recipient; None: this very delivery is here already. Raises OverQuota, OverLimit, OSError."""

        def job(c: apsw.Connection, now: int, _: int) -> Landed[Sequence[bytes | None]]:
            fresh = {once for once in arriving.once if not return_rows.known(c, once, now)}
            if not fresh:
                return Landed([None] * len(arriving.once), kept=False)
            if message_rows.taken(c, envelope.account) + upload.size > envelope.quota:
                raise OverQuota(envelope.account)
            if not message_rows.within(c, envelope, now):
                raise OverLimit(envelope.account)
            message = message_rows.insert(c, upload, envelope.account, envelope.letter, now, envelope.expires)
            made: list[bytes | None] = []
            due: list[Due] = []
            for recipient, once in zip(envelope.recipients, arriving.once, strict=True):
                if once not in fresh:
                    made.append(None)
                    continue
                fresh.discard(once)  # who stands there twice gets it once
                one = keys.mint_due(c, Fresh(message, recipient, follow=arriving.redirects), envelope.letter, now)
                return_rows.insert(c, one.number, once, arriving.sender, now, now + arriving.quiet)
                made.append(one.identifier)
                due.append(one)
            return Landed(made, True, tuple(due))

        return await self._messages.land(upload, job, point="received")

    async def take_back(self, key: bytes) -> None:
        """Whoever brought it was told that it cannot be: it was never here."""

        def job(c: apsw.Connection) -> None:
            held = keys.find(c, key)
            if held:
                keys.end(c, keys.family(c, held.number), Event.cancel, self._messages.now)
                return_rows.remove(c, held.number)

        await self._database.commit(job, point="taken back")

    async def sender(self, key: bytes) -> str | None:
        """The envelope sender of what came by other mail, by any key of it; None: it came by none."""

        def job(c: apsw.Connection) -> str | None:
            held = keys.find(c, key)
            return return_rows.sender_of(c, held) if held else None

        return await self._database.read(job)

    async def refused(self, key: bytes, code: int) -> None:
        """A key that was taken by its agent has failed behind it after all."""

        def job(c: apsw.Connection) -> None:
            held = keys.find(c, key)
            if held:
                told(c, held, Verdict(Event.refused, code=code), self._messages.now)

        await self._database.commit(job, point="failed behind")
        self._messages.tell()

    # -- bridges.Failures

    async def due(self, limit: int = 100, /) -> Sequence[Failure]:
        found = await self._database.read(lambda c: return_rows.due(c, self._messages.now, limit))
        return [await self._failure(row) for row in found]

    async def _failure(self, row: return_rows.Due) -> Failure:
        try:
            head = await self._messages.octets(row.message, row.file, [(0, min(row.headers, HEAD_OCTETS))])
        except OSError:
            head = b""
        recipient = mailbox(row.recipient)
        assert recipient is not None
        at = datetime.fromtimestamp(row.ended, UTC)
        return Failure(row.key, row.sender, recipient, row.code, TEXTS.get(row.code, ""), at, head)

    async def done(self, number: int, /) -> None:
        def job(c: apsw.Connection) -> None:
            return_rows.reported(c, number)
            if held := keys.by_number(c, number):
                keys.end(c, return_rows.together(c, held), Event.cancel, self._messages.now)

        await self._database.commit(job, point="reported")

    async def wait(self) -> None:
        with trio.move_on_after(LOOK_EVERY):
            await self._messages.debts().wait()
