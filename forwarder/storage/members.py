"""Who has keys of the copies of an address, when its members change (operator 2, `members = "live"`).

* A copy is open while a key of it is live. Who is new gets a key as the copy's others are: linked in a role, his own in
  a group; a reader's is listed under the present second, so he meets it at his next poll.
* Who left is notified no more. His key stays as it is: holding it is the right to read and to un-pin. A reader's poll
  is decided by the address file, not here. Who comes back is notified again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import apsw

from forwarder.model import Mailbox
from forwarder.storage import keys, listing
from forwarder.storage.keys import Fresh, rows, text
from forwarder.store.machine import Life, Told

_OPEN = f"""FROM source s JOIN message m ON m.number = s.message WHERE m.freed IS NULL AND m.expires > ?
    AND EXISTS (SELECT 1 FROM message_key k WHERE k.message = m.number AND k.life = {int(Life.live)})"""  # noqa: S608
_TO_BE_TOLD = ", ".join(
    str(int(told)) for told in (Told.unprocessed, Told.baddomain, Told.noservice, Told.noserver, Told.notifying)
)


class Place(NamedTuple):
    """An address as its copies name it, the entry that serves it, the second under which its lists show what is new."""

    address: str
    entry: str
    listed: int


class _Top(NamedTuple):
    """A key that was minted for a member himself."""

    number: int
    folded: str | None
    reader: str | None
    bond: int | None


def held(c: apsw.Connection, now: int) -> Sequence[tuple[Mailbox, bytes]]:
    """Addresses with open copies, and the notification of the source of one of these."""
    sql = f"SELECT s.address, s.notification, max(s.message) {_OPEN} GROUP BY s.address"
    found = [(keys.mailbox(address), octets) for address, octets, _ in rows(c, sql, (now,))]
    return [(mailbox, octets) for mailbox, octets in found if mailbox is not None]


def change(
    c: apsw.Connection, at: Place, to: Collection[Mailbox], readers: Collection[str], now: int
) -> tuple[int, int]:
    """How many keys were made, and how many are notified no more."""
    joined = left = 0
    for (message,) in rows(c, f"SELECT s.message {_OPEN} AND s.address = ?", (now, at.address)):
        tops = [
            _Top(*row)
            for row in rows(
                c, "SELECT number, folded, reader, bond FROM message_key WHERE message=? AND root IS NULL", (message,)
            )
        ]
        joined += _join(c, at, message, tops, to, readers, now)
        left += _leave(c, tops, {text(mailbox.folded) for mailbox in to}, now)
    return joined, left


def _join(
    c: apsw.Connection,
    at: Place,
    message: int,
    tops: Sequence[_Top],
    to: Collection[Mailbox],
    readers: Collection[str],
    now: int,
) -> int:
    bond = next((top.bond for top in tops if top.bond is not None), None)
    mailboxes, accounts = {top.folded for top in tops}, {top.reader for top in tops}
    new = [mailbox for mailbox in to if text(mailbox.folded) not in mailboxes]
    for mailbox in new:
        keys.mint(c, Fresh(message, mailbox, bond=bond), now)
    strangers = [reader for reader in readers if reader not in accounts]
    for reader in strangers:
        number, _ = keys.mint(c, Fresh(message, reader=reader, bond=bond), now)
        listing.list_privately(c, at.entry, reader, at.address, number, at.listed)
    return len(new) + len(strangers)


def _leave(c: apsw.Connection, tops: Sequence[_Top], staying: Collection[str | None], now: int) -> int:
    """Notifying stops for who is gone, and goes on for who is back; the keys under theirs go with them."""
    stopped = 0
    for top in tops:
        if top.folded is not None and top.folded not in staying:
            c.execute("UPDATE message_key SET due=NULL WHERE (number=?1 OR root=?1) AND due IS NOT NULL", (top.number,))
            stopped += c.changes()
        elif top.folded is not None:
            c.execute(
                f"""UPDATE message_key SET due=?2 WHERE (number=?1 OR root=?1) AND due IS NULL
                AND life={int(Life.live)} AND told IN ({_TO_BE_TOLD})""",  # noqa: S608
                (top.number, now),
            )
    return stopped
