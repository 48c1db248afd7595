"""Logging in, alike at the three services that know accounts: who may send a password, and who is let in.

What an account may is asked again of its file at each command (`may_still`): what an operator takes away is gone then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import structlog

from forwarder.model import Peer
from forwarder.ports import Account, Accounts, Addresses
from forwarder.wire.rnaqp import Authenticate

May = Literal["read", "originate"]

log = structlog.get_logger("forwarder.login")


class Login:
    """clear: whether a password may come from this peer on the transport it uses (protocol 7.18)."""

    def __init__(self, accounts: Accounts, clear: Callable[[Peer], bool], may: May) -> None:
        self._accounts = accounts
        self._clear = clear
        self._may = may

    async def log_in(self, command: Authenticate, peer: Peer) -> str | None:
        """The account's name; None: refused, for whatever reason."""
        who = {"peer": peer.address, "account": command.account, "to": self._may}
        if not self._clear(peer):
            log.warning("password sent in clear", **who)
            return None
        account = await self._accounts.verify(command.account, command.password, peer.address)
        if account is None or self._may not in account.may:
            log.info("login refused", **who)
            return None
        return account.name

    async def may_still(self, name: str | None) -> Account | None:
        """Who logged in before, as his file is now; None: he may not any more, or nobody did."""
        account = None if name is None else await self._accounts.find(name)
        return account if account is not None and self._may in account.may else None


async def readable(addresses: Addresses, entries: Collection[str], account: str) -> Sequence[str]:
    """Those of the entries that this account may read by the files as they are now."""
    routes = [await addresses.entry(entry) for entry in entries]
    return [route.entry for route in routes if route is not None and account in route.readers]
