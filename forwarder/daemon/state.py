"""The state folder: one daemon at a time, the database and all that stands on it, opened and started."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import trio

from forwarder.config.disk import make_folder, sync_folder
from forwarder.config.settings import Settings
from forwarder.ports import Clock
from forwarder.storage import catalogue, inbox, ledger, message_schema
from forwarder.storage.caps import InboxLimits
from forwarder.storage.copies import StoredCopies
from forwarder.storage.database import Database
from forwarder.storage.messages import StoredMessages
from forwarder.storage.quotas import Quotas
from forwarder.storage.sweeping import Sweeping
from forwarder.storage.trace import Trace

SCHEMA = (*inbox.SCHEMA, *ledger.SCHEMA, *catalogue.SCHEMA, *message_schema.SCHEMA)
DATABASE = "forwarder.db"
SCRATCH = "scratch"
SECRET_OCTETS = 32


class StateInUse(Exception):  # an answer: not now
    """Another daemon holds the state folder."""


@dataclass(frozen=True, slots=True)
class State:
    """What is kept."""

    database: Database
    inbox: inbox.Inbox
    ledger: ledger.Ledger
    catalogue: catalogue.Catalogue
    messages: StoredMessages
    copies: StoredCopies
    sweeping: Sweeping
    trace: Trace
    secret: bytes

    async def close(self) -> None:
        """What waits is committed and written first."""
        self.trace.close()
        await self.database.close()


def lock(folder: Path) -> int:
    """Makes the folder (0700) and holds it; the descriptor keeps it. Raises StateInUse, OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StateInUse(f"another forwarder runs on {folder}") from None
    return descriptor


async def open_state(settings: Settings, nursery: trio.Nursery, clock: Clock) -> State:
    """Opens everything and starts its tasks in `nursery`. The caller holds the folder's lock."""
    folder, limits, store = settings.state, settings.limits, settings.store
    database = Database(folder / DATABASE, SCHEMA)
    await database.open()
    await nursery.start(database.run)
    caps = InboxLimits(limits.waiting, limits.waiting_per_sender, limits.per_sender_per_day, limits.per_store_per_day)
    messages = StoredMessages(database, folder / "bodies", clock)
    state = State(
        database,
        inbox.Inbox(database, caps, clock),
        ledger.Ledger(database, clock),
        catalogue.Catalogue(database),
        messages,
        StoredCopies(messages, Quotas(store.quota, store.quota_per_store, store.quota_per_sender)),
        Sweeping(database, messages.bodies, clock, messages.tell),
        Trace(folder / "trace", settings.trace.keep, clock),
        await trio.to_thread.run_sync(_secret, folder / "secret"),
    )
    await trio.to_thread.run_sync(_empty, folder / SCRATCH)
    for part in (state.inbox, state.ledger, state.catalogue, state.messages):
        await part.open()
    await nursery.start(state.inbox.run)
    await nursery.start(state.trace.run)
    nursery.start_soon(state.sweeping.run)
    nursery.start_soon(state.ledger.run)
    return state


def _empty(folder: Path) -> None:
    """Files of calls that ended with their process."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.iterdir():
        left.unlink()


def _secret(path: Path) -> bytes:
    """What keys our marks in traces: made once, 0600."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        secret = secrets.token_bytes(SECRET_OCTETS)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return secret
