"""Copies of others' messages in our store: kept once, what is owed for them, their memory (protocol 5.0 e, 5.4).

* Body, keys, list entries, the debt to the source and the memory of the order are one transaction.
* A source whose pin we hold is owed its un-pin by the transaction of our readers' last un-pin (`keys`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import apsw
import trio

from forwarder.model import Mailbox, Outcome
from forwarder.ports import Copy, Full, Owed, Upload
from forwarder.storage import bodies, keys, listing, members, message_rows, return_rows
from forwarder.storage.keys import Fresh, lookup, rows, text
from forwarder.storage.landing import Landed
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas, origin

REMEMBERED = 35 * 86400
"""Seconds after its last sight that an order is remembered whose notification names no end."""


class StoredCopies:
    """Implements ports.Copies beside the StoredMessages whose rows it shares."""

    def __init__(self, messages: StoredMessages, quotas: Quotas) -> None:
        self._messages = messages
        self._database = messages.database
        self._quotas = quotas

    def news(self) -> trio.Event:
        return self._messages.debts()

    def upload(self) -> Upload:
        return self._messages.upload()

    async def pulled(self, store: str, key: bytes, address: Mailbox) -> Outcome | None:
        order = _order(store, key, address)
        found = await self._database.read(lambda c: _code(c, order))
        if found is None:
            return None
        until = self._messages.now + REMEMBERED
        self._database.commit_soon(lambda c: _seen(c, order, until), None, point="pull seen", lazy=True)
        return Outcome(found)

    async def refuse(self, store: str, key: bytes, address: Mailbox, code: int, expires: int | None) -> None:
        order, now = _order(store, key, address), self._messages.now
        await self._database.commit(lambda c: _remember(c, order, code, None, now, expires), point="pull refused")

    async def copied_for(self, key: bytes) -> Mailbox | None:
        def job(c: apsw.Connection) -> Mailbox | None:
            held = keys.find(c, key)
            found = held and rows(c, "SELECT address FROM source WHERE message=?", (held.message,))
            return keys.mailbox(found[0][0]) if found else None

        return await self._database.read(job)

    async def source_of(self, message: int) -> bytes | None:
        """The notification of a copy's source."""

        def job(c: apsw.Connection) -> bytes | None:
            found = rows(c, "SELECT notification FROM source WHERE message=?", (message,))
            return found[0][0] if found else None

        return await self._database.read(job)

    async def alike(self, address: Mailbox, sha256: bytes, seconds: int) -> int:
        values = (text(address.folded), sha256, self._messages.now - seconds)

        def job(c: apsw.Connection) -> int:
            ((count,),) = rows(c, "SELECT count(*) FROM pull WHERE address=? AND sha256=? AND at>?", values)
            return int(count)

        return await self._database.read(job)

    async def full(self, address: Mailbox, store: str, sender: str, size: int) -> str | None:
        owner = str(text(address.folded))
        return await self._database.read(lambda c: self._quotas.struck(c, owner, store, sender, size))

    async def keep(self, upload: Upload, copy: Copy) -> None:
        """Raises Full, OSError; then nothing is kept."""
        assert isinstance(upload, bodies.Upload)
        store, quotas = self._messages, self._quotas

        def job(c: apsw.Connection, now: int, listed: int) -> Landed[None]:
            return Landed(None, kept=_keep(c, upload, copy, now, listed, quotas))

        await store.land(upload, job, point="copied")
        store.tell()

    async def held(self) -> Sequence[tuple[Mailbox, bytes]]:
        now = self._messages.now
        return await self._database.read(lambda c: members.held(c, now))

    async def change_members(
        self, address: Mailbox, entry: str, to: Collection[Mailbox], readers: Collection[str]
    ) -> tuple[int, int]:
        store = self._messages
        now = store.now
        with store.landing.stamped() as listed:
            at = members.Place(str(text(address.folded)), entry, listed)
            changed = await self._database.commit(lambda c: members.change(c, at, to, readers, now), point="members")
        store.tell()
        return changed

    async def owed(self, limit: int) -> tuple[Sequence[Owed], float | None]:
        now = self._messages.now
        return await self._database.read(lambda c: (_owed(c, now, limit), _next_owed(c, now)))

    async def paid(self, number: int, *, silence: bool, unpin: bool) -> None:
        def job(c: apsw.Connection) -> None:
            c.execute(
                """UPDATE source SET failures=0, silence=silence AND NOT ?1, unpin=unpin AND NOT ?2,
                due=CASE WHEN (silence AND NOT ?1) OR (unpin AND NOT ?2) THEN due END WHERE message=?3""",
                (silence, unpin, number),
            )

        await self._database.commit(job, point="source told")

    async def postpone(self, number: int, seconds: int) -> None:
        at = self._messages.now + seconds
        await self._database.commit(
            lambda c: c.execute("UPDATE source SET due=?, failures=failures+1 WHERE message=?", (at, number)) and None,
            point="source later",
        )


Order = tuple[str, bytes, str]


def _order(store: str, key: bytes, address: Mailbox) -> Order:
    return store, lookup(key), str(text(address.folded))


def _code(c: apsw.Connection, order: Order) -> int | None:
    found = rows(c, "SELECT code FROM pull WHERE store=? AND source=? AND address=?", order)
    return int(found[0][0]) if found else None


def _seen(c: apsw.Connection, order: Order, until: int) -> None:
    c.execute("UPDATE pull SET forget=max(forget, ?) WHERE store=? AND source=? AND address=?", (until, *order))


def _remember(c: apsw.Connection, order: Order, code: int, sha256: bytes | None, now: int, expires: int | None) -> None:
    c.execute(
        "INSERT INTO pull (store, source, address, code, sha256, at, forget) VALUES (?,?,?,?,?,?,?)"
        " ON CONFLICT (store, source, address) DO NOTHING",
        (*order, code, sha256, now, max(expires or 0, now + REMEMBERED)),
    )


def _keep(c: apsw.Connection, upload: bodies.Upload, copy: Copy, now: int, listed: int, quotas: Quotas) -> bool:
    order = _order(copy.store, copy.key, copy.address)
    if _code(c, order) is not None:
        return False
    owner = str(text(copy.address.folded))
    if limit := quotas.struck(c, owner, copy.store, copy.sender, upload.size):
        raise Full(limit)
    archived = bool(copy.readers) and not copy.linked
    message = message_rows.insert(
        *(c, upload, owner, copy.letter, now, copy.expires),
        archived=archived,
        origin=origin(copy.store, copy.sender),
    )
    bond = message if copy.linked else None
    first = None
    for recipient in copy.to:
        number, _ = keys.mint(c, Fresh(message, recipient, bond=bond), now)
        first = first or number
    for reader in copy.readers:
        number, _ = keys.mint(c, Fresh(message, reader=reader, bond=bond), now)
        first = first or number
        listing.list_privately(c, copy.entry, reader, owner, number, listed)
    held = keys.ASKED if copy.unpin == "after_readers" else keys.KEPT if copy.shared else 0
    c.execute(
        "INSERT INTO source (message, notification, address, shared, silence, unpin, held, due, since)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (message, copy.source, owner, copy.shared, not copy.shared, not held, held, None if copy.shared else now, now),
    )
    if first is not None and copy.returns is not None:
        return_rows.inherit(c, first, copy.returns, now)
    _remember(c, order, 0, upload.sha256, now, copy.expires)
    return True


def _owed(c: apsw.Connection, now: int, limit: int) -> Sequence[Owed]:
    sql = "SELECT message, notification, silence, unpin, failures, since FROM source WHERE due<=? ORDER BY due LIMIT ?"
    return [
        Owed(number, notification, bool(silence), bool(unpin), failures, since)
        for number, notification, silence, unpin, failures, since in rows(c, sql, (now, limit))
    ]


def _next_owed(c: apsw.Connection, now: int) -> float | None:
    (at,) = next(c.execute("SELECT min(due) FROM source WHERE due > ?", (now,)))
    return None if at is None else float(at)
