"""How many octets of others' messages an address may hold here (protocol 5.4, 8.13): in all, and of one origin.

* An origin is a store, and a sender there. Neither can fill an address that others write to as well.
* One message of each origin is let in whatever its share, as far as the address has room.
* Runs inside the caller's transaction, where it binds; and before a fetch, so that nothing is fetched in vain.
"""

from __future__ import annotations

from typing import NamedTuple

import apsw


class Quotas(NamedTuple):
    """[store], in octets. store, sender: of one store's copies, and of one sender's there; 0: no more limit."""

    address: int
    store: int = 0
    sender: int = 0

    def struck(self, c: apsw.Connection, address: str, store: str, sender: str, size: int) -> str | None:
        """The name of the limit that `size` octets more would pass."""
        if _held(c, address, "origin IS NOT NULL") + size > self.address:
            return "quota"
        of_store = _held(c, address, "origin>=? AND origin<?", origin(store, ""), f"{store}!")  # "!" follows the space
        if self.store and of_store and of_store + size > self.store:
            return "quota_per_store"
        of_sender = _held(c, address, "origin=?", origin(store, sender))
        if self.sender and of_sender and of_sender + size > self.sender:
            return "quota_per_sender"
        return None


def origin(store: str, sender: str) -> str:
    """As it is written beside a copy. No store's name has a space in it."""
    return f"{store} {sender}"


def _held(c: apsw.Connection, address: str, where: str, *values: str) -> int:
    """Octets of those of an address's copies."""
    sql = f"SELECT coalesce(sum(size), 0) FROM message WHERE account=? AND {where} AND freed IS NULL"  # noqa: S608
    (octets,) = next(c.execute(sql, (address, *values)))
    return int(octets)
