"""What the plugins get of the daemon and the daemon of the plugins: ports for each, strategies and screens made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import trio
from pydantic import ValidationError

from forwarder.agent.screens import Guarded
from forwarder.model import Notification, Route
from forwarder.plugin import Again, Case, Log, Plan, Ports, Source, Strategy, Texts, Work
from forwarder.plugins import Plugins
from forwarder.ports import Clock, Gone, Sources

Connect = Callable[[str, int], Awaitable[trio.SocketStream]]


class PluginSource:
    """plugin.Source: the sender's store without silence and un-pin."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def still_there(self, notification: Notification, /) -> bool:
        try:
            await self._sources.look(notification)
        except Gone:
            return False
        return True

    async def head(self, notification: Notification, /, limit: int = 65536) -> bytes:
        return await self._sources.head(notification, limit)

    def body(self, notification: Notification, /, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._sources.body(notification, limit)


class InstalledStrategies:
    """ports.Strategies over the installed plugins, behind their guard."""

    def __init__(
        self,
        plugins: Plugins,
        source: Source,
        connect: Connect,
        texts: Texts,
        clock: Clock,
        node: str = "",
        path: Callable[[str], Path] = Path,
        scratch: Path = Path(),
    ) -> None:
        self._node = node
        self._path = path
        self._scratch = scratch
        self._plugins = plugins
        self._source = source
        self._connect = connect
        self._texts = texts
        self._clock = clock
        self._ports: dict[str, Ports] = {}
        self._log = _log("strategy")

    def make(self, name: str, route: Route) -> Strategy:
        spec = self._plugins.strategies[name]
        options = route.options.get(name)
        return spec.make(route, spec.options() if options is None else options, self.ports(name))

    def plan(self, strategy: Strategy, case: Case) -> Plan:
        return self._plugins.guard.plan(strategy, case, self._log)

    async def work(self, strategy: Strategy, case: Case, work: Work) -> Plan | Again | None:
        return await self._plugins.guard.work(strategy, case, work, self._log)

    def ports(self, name: str) -> Ports:
        """One for each plugin, its log bound to its name."""
        ports = self._ports.get(name)
        if ports is None:
            ports = self._ports[name] = Ports(
                *(self._source, _log(name), self._now, self._connect, self._texts, self._node, self._path),
                self._scratch,
            )
        return ports

    def screens(self, tables: Callable[[str], Mapping[str, Any]]) -> list[Guarded]:
        """The installed screens with their tables of the node file. Raises ValueError naming the table at fault."""
        made = []
        for name, spec in self._plugins.screens.items():
            try:
                options = spec.options.model_validate(dict(tables(name)))
            except ValidationError as error:
                raise ValueError(f"[plugins.{name}]: {error.errors()[0]['msg']}") from None
            screen = spec.make(options, self.ports(name))
            made.append(Guarded(name, spec.stage, screen, spec.on_error == "pass"))
        return made

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _log(name: str) -> Log:
    log: Log = structlog.get_logger(f"forwarder.{name}").bind(plugin=name)
    return log
