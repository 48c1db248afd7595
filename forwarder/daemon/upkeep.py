"""What the control socket is asked that takes its time: fsck, backup. The daemon serves on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import structlog
import trio

from forwarder.config.disk import Locked
from forwarder.daemon.backup import CannotBackUp, back_up
from forwarder.daemon.build import Node
from forwarder.daemon.checkup import Looked, check
from forwarder.daemon.control import Verb
from forwarder.daemon.published import Published

log = structlog.get_logger("forwarder")


class Upkeep:
    """One of them at a time."""

    def __init__(self, node: Node, published: Published) -> None:
        self._node = node
        self._published = published
        self._busy = trio.Lock()

    def table(self) -> Mapping[str, Verb]:
        return {"fsck": self.fsck, "backup": self.backup}

    async def fsck(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        node, state = self._node, self._node.state

        async def renew() -> None:
            self._published.again()

        specs = node.plugins.strategies
        place = Looked(node.settings, specs, state.database, state.messages.bodies, state.catalogue, renew, time.time)
        repair, deep = bool(asked.get("repair")), bool(asked.get("deep"))
        async with self._busy:
            try:
                report = await check(place, repair=repair, deep=deep)
            except (OSError, apsw.Error) as error:
                raise ValueError(f"the disk fails: {error}") from None
        log.info("fsck", repair=repair, problems=len(report.problems), left=report.said["left"])
        return report.said

    async def backup(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        into, node = Path(str(asked.get("into", ""))), self._node
        if not into.is_absolute():
            raise ValueError("backup: into which folder? An absolute path is needed")
        bodies, now = node.state.messages.bodies, int(time.time())
        async with self._busy:
            try:
                go_on = trio.from_thread.check_cancelled  # or the daemon could not stop before it is done
                taken = await trio.to_thread.run_sync(back_up, node.settings, bodies, into, now, go_on)
            except (CannotBackUp, Locked, OSError, apsw.Error) as error:
                raise ValueError(str(error)) from None
        log.info("backup", into=str(into), messages=taken["messages"], octets=taken["octets"])
        return taken
