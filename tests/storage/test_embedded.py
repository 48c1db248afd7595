"""The embedded engine keeps the laws of the storage ports (conformance.py), on real files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from forwarder.storage import catalogue, inbox, ledger
from forwarder.storage.catalogue import Catalogue
from forwarder.storage.database import Database
from forwarder.storage.inbox import Inbox
from forwarder.storage.ledger import Ledger

from .conformance import LIMITS, CapLaws, CatalogueLaws, InboxLaws, LedgerLaws


class Embedded:
    """conformance.Engine."""

    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.now = 1_800_000_000
        self._path = path
        self._nursery = nursery

    async def start(self) -> None:
        self._database = Database(self._path, (*inbox.SCHEMA, *ledger.SCHEMA, *catalogue.SCHEMA))
        self.inbox = Inbox(self._database, LIMITS, lambda: float(self.now))
        self.ledger = Ledger(self._database)
        self.catalogue = Catalogue(self._database)
        await self._database.open()
        await self._nursery.start(self._database.run)
        for room in (self.inbox, self.ledger, self.catalogue):
            await room.open()

    async def stop(self) -> None:
        await self._database.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


@pytest.fixture
async def engine(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Embedded]:
    made = Embedded(tmp_path / "state.db", nursery)
    await made.start()
    yield made
    await made.stop()


class TestInbox(InboxLaws):
    pass


class TestCaps(CapLaws):
    pass


class TestLedger(LedgerLaws):
    pass


class TestCatalogue(CatalogueLaws):
    pass
