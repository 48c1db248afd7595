"""Who may log in: the core's port `Accounts` on files `accounts/NAME.toml`.

A file is looked at on every question, so revoking works at once. Passwords are Argon2 hashes: 0.1 s and 64 MiB each,
hence in threads, two at a time. A success is remembered ten minutes as a keyed hash, until the file changes. An unknown
name costs as much as a wrong password; a client address that keeps failing waits longer and longer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import argon2
import trio

from forwarder.config.lines import ConfigErrors, Document, Stamp, inside, parse, read_text, stamp_of
from forwarder.config.names import account_file
from forwarder.config.settings import Count
from forwarder.config.tables import Many, Table, is_account_name, validate
from forwarder.model import client_block
from forwarder.ports import Account, Clock

VERIFICATIONS_AT_ONCE = 2
REMEMBERED_FOR = timedelta(minutes=10).total_seconds()
REMEMBERED_MOST = 10_000
PASSWORD_OCTETS = 1024
FREE_FAILURES = 3
LONGEST_WAIT = 60.0
FORGIVEN_AFTER = timedelta(minutes=15).total_seconds()
ADDRESSES_MOST = 10_000
BROKEN_MOST = 1_000

_hasher = argon2.PasswordHasher()


class AccountLimits(Table):
    """What an account may originate a day; absent: no limit of its own."""

    notifications_per_day: Count | None = None
    recipients_per_day: Count | None = None


class AccountTable(Table):
    """The file of an account. password: an Argon2id hash, as `forwarder account passwd` writes it."""

    password: str
    may: Many[Literal["read", "originate"]] = ()
    state: Literal["on", "off"] = "on"
    note: str = ""
    limits: AccountLimits = AccountLimits()


class _Failures(NamedTuple):
    times: int
    last: float
    due: float


class _File(NamedTuple):
    stamp: Stamp
    table: AccountTable


def hash_password(password: str) -> str:
    """The Argon2id hash of a password, for an account's file. Takes 0.1 s. Raises ValueError if it cannot be one."""
    if not password or len(password.encode()) > PASSWORD_OCTETS:
        raise ValueError(f"a password has 1 to {PASSWORD_OCTETS} octets")
    return _hasher.hash(password)


def compile_account(document: Document) -> AccountTable:
    """The file of an account, checked. Raises ConfigErrors."""
    table = validate(AccountTable, document.data, document)
    try:
        argon2.extract_parameters(table.password)
    except argon2.exceptions.InvalidHashError:
        text = "is no Argon2id hash; `forwarder account passwd` writes one"
        raise ConfigErrors([document.error(("password",), text)]) from None
    return table


def _dummy() -> str:
    """A hash that no password has, as costly as a real one."""
    salt, digest = (base64.b64encode(bytes(octets)).decode().rstrip("=") for octets in (16, 32))
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


class AccountFiles:
    """The accounts of a configuration folder. `broken`: files that cannot be used, which let nobody in."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._limiter = trio.CapacityLimiter(VERIFICATIONS_AT_ONCE)
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._proven: OrderedDict[str, tuple[bytes, str, float]] = OrderedDict()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self.broken: dict[str, str] = {}
        self.struck: Callable[[str, str], None] = lambda limit, who: None

    async def verify(self, name: str, password: str, address: str) -> Account | None:
        """None: no such account, off, or wrong password. Backs off by client address."""
        table = self._read(name)
        if len(password.encode()) > PASSWORD_OCTETS:
            return None
        if table is not None and self._remembered(name, password, table):
            return _account(name, table)
        if not await self._turn(address):
            return None
        usable = table is not None and table.state == "on"
        hashed = table.password if table is not None and usable else _dummy()
        right = await trio.to_thread.run_sync(_verified, hashed, password, limiter=self._limiter)
        if table is None or not usable or not right:
            self._failed(address)
            return None
        self._failures.pop(client_block(address), None)
        self._proven[name] = (self._digest(name, password), table.password, self._clock())
        self._proven.move_to_end(name)
        if len(self._proven) > REMEMBERED_MOST:
            self._proven.popitem(last=False)
        return _account(name, table) if self._read(name) == table else None

    async def find(self, name: str) -> Account | None:
        """Without a password, for sessions that logged in before: None once it is off or gone."""
        table = self._read(name)
        return None if table is None else _account(name, table)

    def _read(self, name: str) -> AccountTable | None:
        """The file of an account as it is now. One stat where nothing changed: 2 us, so it stays in the loop."""
        if not is_account_name(name):
            return None
        path = account_file(self._folder, name)
        file = inside(path, self._folder)
        try:
            known = self._files.get(name)
            if known is not None and stamp_of(os.stat(path)) == known.stamp:
                return known.table
            text, stamp = read_text(path, file)
            table = compile_account(parse(text, file))
        except (OSError, ConfigErrors) as error:
            self._files.pop(name, None)
            self.broken.pop(file, None)
            if not isinstance(error, FileNotFoundError) and len(self.broken) < BROKEN_MOST:
                self.broken[file] = str(error)
            return None
        self.broken.pop(file, None)
        self._files[name] = _File(stamp, table)
        if len(self._files) > REMEMBERED_MOST:
            self._files.popitem(last=False)
        return table

    def _remembered(self, name: str, password: str, table: AccountTable) -> bool:
        digest, hashed, at = self._proven.get(name, (b"", "", 0.0))
        fresh = at <= self._clock() < at + REMEMBERED_FOR and hashed == table.password and table.state == "on"
        return fresh and hmac.compare_digest(digest, self._digest(name, password))

    def _digest(self, name: str, password: str) -> bytes:
        return hashlib.blake2b(f"{name}\0{password}".encode(), key=self._secret).digest()

    async def _turn(self, address: str) -> bool:
        """Waits as long as this client has earned; False where that is too long to wait."""
        now, block = self._clock(), client_block(address)
        known = self._failures.get(block)
        if known is None or known.times < FREE_FAILURES or not known.last <= now < known.last + FORGIVEN_AFTER:
            return True
        self.struck("password guesses", address)
        delay = min(2.0 ** (known.times - FREE_FAILURES), LONGEST_WAIT)
        start = max(now, known.due)
        if start - now > LONGEST_WAIT:
            return False
        self._failures[block] = known._replace(due=start + delay)
        await trio.sleep(start + delay - now)
        return True

    def _failed(self, address: str) -> None:
        now, block = self._clock(), client_block(address)
        known = self._failures.pop(block, _Failures(0, now, now))
        count = known.times + 1 if known.last <= now < known.last + FORGIVEN_AFTER else 1
        self._failures[block] = _Failures(count, now, known.due)
        if len(self._failures) > ADDRESSES_MOST:
            self._failures.popitem(last=False)


def _verified(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _account(name: str, table: AccountTable) -> Account | None:
    if table.state != "on":
        return None
    limits = {key: value for key, value in table.limits.model_dump().items() if value is not None}
    return Account(name, frozenset(table.may), limits)
