"""What is derived from the address files: the catalogue and our zones. Filled by a sweep in the background at start,
after a reload and every hour; corrected at once by verbs and by what look-ups see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog
import trio

from forwarder.config.addresses import AddressFiles
from forwarder.config.domains import Domain
from forwarder.config.keys import SigningKeys
from forwarder.config.lines import ConfigError
from forwarder.config.names import ADDRESSES
from forwarder.config.settings import Settings
from forwarder.config.sweep import sweep, unread
from forwarder.daemon.zones import Bound, record_lines, zone_facts
from forwarder.dns.answer import Answerer
from forwarder.dns.zone import Zone
from forwarder.model import Mailbox, Route, user_label
from forwarder.plugins import Plugins
from forwarder.ports import Found, Unread
from forwarder.ports.setbacks import Setback
from forwarder.storage.catalogue import Catalogue

EVERY = 3600.0
ROUTES_AT_ONCE = 500
SERVED = ("serve", "delegate")

log = structlog.get_logger("forwarder.published")


@dataclass(slots=True)
class _Users:
    """What a sweep gathers for one zone."""

    records: list[str] = field(default_factory=list)
    others: bool = False
    complete: bool = True


class Published:
    """`bound` tells where our services listen. `errors`: mistakes of the last sweep, for `status`."""

    def __init__(
        self,
        settings: Settings,
        plugins: Plugins,
        addresses: AddressFiles,
        catalogue: Catalogue,
        bound: Bound,
        keys: SigningKeys,
    ) -> None:
        self._settings = settings
        self._plugins = plugins
        self._addresses = addresses
        self._catalogue = catalogue
        self._bound = bound
        self._keys = keys
        self._wanted = trio.Event()
        self._users: dict[str, _Users] = {}
        self.answerer = Answerer(self._zones({}, complete=False))
        self.errors: dict[str, str] = {}
        self.swept = 0
        self.setback = Setback()

    async def run(self) -> None:
        while True:
            self._wanted = trio.Event()
            pause = EVERY
            try:
                await self._sweep()
                self.setback.over()
            except Exception as error:  # the disk: what was published stays so, and the next sweep may go better
                pause = self.setback.pause(error)
                log.error("addresses not swept", error=repr(error), again_in=pause)
            with trio.move_on_after(pause):
                await self._wanted.wait()

    def again(self) -> None:
        """The files may have changed: sweep soon."""
        self._wanted.set()

    async def changed(self, mailbox: Mailbox) -> None:
        """A verb changed this address's file."""
        answer = (await self._addresses.read([mailbox]))[mailbox]
        exact = isinstance(answer, Found) and answer.route.matched == "exact" and answer.route.address == mailbox.folded
        if isinstance(answer, Found) and exact:
            await self.saw(answer.route)
        else:
            await self._catalogue.forgot(str(mailbox.folded))
            self.answerer.set_records(mailbox.domain, user_label(mailbox.localpart), ())

    async def saw(self, route: Route) -> None:
        """An entry as its file is now."""
        await self._catalogue.saw(route)
        if route.matched != "exact":
            return
        lines = record_lines(self._plugins, route)
        self.answerer.set_records(route.address.domain, user_label(route.address.localpart), lines)
        if not lines:
            self.answerer.set_records(route.address.domain, "*", ())

    async def _sweep(self) -> None:
        users: dict[str, _Users] = defaultdict(_Users)
        errors: dict[str, str] = {}
        self.answerer.prepare()
        self.swept = await self._catalogue.sweep(self._routes(users, errors))
        self.errors = errors
        zones = await trio.to_thread.run_sync(lambda: self._zones(users, complete=True))
        self.answerer.swap(zones)

    async def _routes(self, users: dict[str, _Users], errors: dict[str, str]) -> AsyncIterator[Route | Unread]:
        found = sweep(self._settings.folder, self._settings, self._plugins.strategies)
        while some := await trio.to_thread.run_sync(_some, found):
            for route in some:
                if isinstance(route, ConfigError):
                    errors[route.file] = str(route)
                    if missed := unread(route):
                        self._miss(users, missed)
                        yield missed
                    continue
                if route.matched == "exact":
                    self._gather(users[route.address.domain], route)
                yield route
        for missed in await trio.to_thread.run_sync(self._vanished):
            self._miss(users, missed)
            yield missed

    def _vanished(self) -> list[Unread]:
        """Domains whose folder of addresses was there and is not, as of a file system that is not mounted."""
        place = self._settings.folder / ADDRESSES
        seen = [host.name for host in list(self._addresses.domains.values()) if host.addresses is not None]
        return [Unread(name) for name in seen if not (place / name).is_dir()]

    def _gather(self, users: _Users, route: Route) -> None:
        lines = record_lines(self._plugins, route)
        users.records += lines
        users.others = users.others or not lines

    def _miss(self, users: dict[str, _Users], missed: Unread) -> None:
        """What cannot be read may have records or none: no wildcard may take its name; a whole domain's may be any."""
        for name in [missed.domain] if missed.domain else self._addresses.domains:
            users[name].others = True
            users[name].complete = users[name].complete and missed.localpart is not None

    def _zones(self, users: dict[str, _Users], *, complete: bool) -> list[Zone]:
        return [
            self._zone(host.domain, users.get(host.name, _Users(complete=complete)))
            for host in list(self._addresses.domains.values())
            if host.domain is not None and host.domain.dns.mode in SERVED
        ]

    def _zone(self, domain: Domain, users: _Users) -> Zone:
        facts = zone_facts(
            self._settings, self._plugins, domain, (), self._keys, bound=self._bound, complete=users.complete
        )
        return Zone(replace(facts, records=[*facts.records, *users.records], others=users.others))


def _some(found: Iterator[Route | ConfigError]) -> list[Route | ConfigError]:
    return list(islice(found, ROUTES_AT_ONCE))
