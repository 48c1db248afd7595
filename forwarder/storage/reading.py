"""A reader who is done with items of several kinds at once: one COMMIT for all of it (bridges.md 8, QUIT).

* Items of the inbox are cleared for all accounts of their entries; an un-pin of each is owed by a row of the ledger.
* Items of our own lists are un-pinned in the same transaction, with the keys that are linked to them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import apsw

from forwarder.model import Mailbox
from forwarder.ports import Debt
from forwarder.storage import keys
from forwarder.storage.caps import Origin
from forwarder.storage.inbox import Inbox
from forwarder.storage.keys import mailbox
from forwarder.storage.ledger import Ledger
from forwarder.storage.messages import StoredMessages
from forwarder.store.machine import Life

MOST = 10_000
"""Items of lists that one reader is shown at once."""


class Listed(NamedTuple):
    """An item of a private list. letter: our notification of it, its key and recipient yet to be filled in."""

    entry: str
    address: Mailbox
    key: bytes
    letter: bytes


class StoredReading:
    """Over the rooms that hold the items."""

    def __init__(self, inbox: Inbox, ledger: Ledger, messages: StoredMessages) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._messages = messages
        self._database = messages.database

    async def entries(self, account: str) -> Sequence[str]:
        """Whose private lists this account has."""

        def job(c: apsw.Connection) -> Sequence[str]:
            return [entry for (entry,) in keys.rows(c, "SELECT entry FROM list WHERE reader=?", (account,))]

        return await self._database.read(job)

    async def listed(self, account: str, entries: Collection[str]) -> Sequence[Listed]:
        """What is open on the account's lists of these entries, the oldest first."""
        marks = ",".join("?" * len(entries))
        sql = f"""SELECT i.entry, l.address, k.identifier, m.letter FROM list i
            JOIN listed l ON l.list = i.number JOIN message_key k ON k.number = l.key
            JOIN message m ON m.number = k.message
            WHERE i.reader=? AND i.entry IN ({marks}) AND k.life={int(Life.live)} AND m.expires > ?
            ORDER BY l.at, l.key LIMIT {MOST}"""  # noqa: S608  # names of ours
        values = (account, *entries, self._messages.now)

        def job(c: apsw.Connection) -> Sequence[Listed]:
            found = keys.rows(c, sql, values)
            return [Listed(entry, at, key, octets) for entry, a, key, octets in found if (at := mailbox(a))]

        return await self._database.read(job)

    async def done(
        self, account: str, entries: Sequence[str], cursors: Sequence[bytes], own: Sequence[bytes], owed: Sequence[Debt]
    ) -> Sequence[Debt]:
        """The debts with their numbers, after COMMIT. own: keys of our store's, un-pinned by this account."""

        def job(c: apsw.Connection) -> tuple[Sequence[Origin], Sequence[int]]:
            for key in own:
                held = keys.find(c, key)
                if held and self._messages.opens(held):
                    keys.unpin(c, held, self._messages.now, account)
            return self._inbox.clearing(c, entries, cursors), self._ledger.accept(c, owed)

        origins, numbers = await self._database.commit(job, point="reader.done")
        self._inbox.cleared(origins)
        if own:
            self._messages.tell()
        return [debt._replace(number=number) for debt, number in zip(owed, numbers, strict=True)]
