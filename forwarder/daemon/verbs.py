"""What the control socket is asked: status, reload, changed, list_names, memory."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from forwarder.agent.dispatch import Dispatcher
from forwarder.config.lines import ConfigErrors
from forwarder.config.settings import load_settings
from forwarder.daemon.build import Node
from forwarder.daemon.control import Verb
from forwarder.daemon.published import Published
from forwarder.model import Mailbox, parse_mailbox
from forwarder.ports import Found
from forwarder.ports.setbacks import Setback

CLASSES = ("taken", "redirected", "temporary", "permanent")


class Verbs:
    """The daemon's answers. bound: where each service listens, as text."""

    def __init__(self, node: Node, published: Published, bound: Mapping[str, list[str]]) -> None:
        self._node = node
        self._published = published
        self._bound = bound
        self._since = time.time()

    def table(self) -> Mapping[str, Verb]:
        return {
            "status": self.status,
            "reload": self.reload,
            "changed": self.changed,
            "list_names": self.list_names,
            "memory": self.memory,
        }

    async def status(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        node = self._node
        return {
            "node": node.settings.node.name,
            "since": int(self._since),
            "listeners": dict(self._bound),
            "generation": node.files.addresses.generation,
            "sessions": {name: server.sessions for name, server in node.servers.items()},
            "commands": {name: server.commands for name, server in node.servers.items()},
            "services": {hosted.name: {"restarts": hosted.restarts} for hosted in node.services.hosted},
            "notifications": _notifications(node.agent.dispatcher),
            "store": {name: dict(counts) for name, counts in node.store.msrap.counters.items()},
            "kept": (await node.state.messages.kept())._asdict(),
            "waiting": {
                "decisions": node.agent.dispatcher.waiting,
                "for agents": node.reach.links.waiting,
                "owed": node.agent.courier.waiting,
                "suspects": node.reach.links.suspects(),
                "remembered": len(node.agent.repeats),
                "redirects remembered": len(node.sending.redirects),
            },
            "limits": {
                "room for sessions": node.sessions.capacity,
                **node.strikes.counts,
                "screens asking": node.agent.dispatcher.screens_struck,
            },
            "catalogue": {"complete": node.state.catalogue.complete, "entries_at_last_sweep": self._published.swept},
            "broken": {
                **self._published.errors,
                **{name: str(error) for name, error in node.files.addresses.broken.items()},
                **self._certificates(),
                **{f"agent of {domain}": why for domain, why in node.reach.links.forbidden.items()},
                **{error.file: str(error) for error in node.files.keys.errors},
            },
            "setbacks": {task: setback.last for task, setback in self._setbacks().items() if setback.last},
            "plugins": {name: {"faults": f.times, "last": f.last} for name, f in node.plugins.faults.items()},
            "plugin_problems": [f"{problem.plugin}: {problem.text}" for problem in node.plugins.problems],
        }

    def _setbacks(self) -> Mapping[str, Setback]:
        """Tasks that wait for the disk to be well again."""
        node = self._node
        return {
            "database": node.state.database.setback,
            "notifying": node.sending.setback,
            "telling sources": node.store.pulling.setback,
            "members": node.agent.members.setback,
            "sweeping": node.state.sweeping.setback,
            "settling": node.state.ledger.setback,
            "addresses": self._published.setback,
            "chores": node.chores,
        }

    def _certificates(self) -> Mapping[str, str]:
        """Pairs that changed and do not load."""
        certificates = self._node.certificates
        if certificates is None:
            return {}
        certificates.look()
        return certificates.broken

    async def reload(self, asked: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The address, domain and account files count at once; of the node file what is read at each use does."""
        self._node.files.addresses.reload()
        self._node.agent.members.again()
        self._node.files.keys.reload()
        self._node.sending.redirects.clear()
        self._published.again()
        said: dict[str, Any] = {"generation": self._node.files.addresses.generation}
        try:
            changed = load_settings(self._node.settings.folder) != self._node.settings
        except ConfigErrors as errors:
            raise ValueError("; ".join(str(error) for error in errors.errors)) from None
        if changed:
            said["restart"] = "the node file has changed: it counts at the next start"
        return said

    async def changed(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        mailbox = _mailbox(asked)
        self._node.files.addresses.changed(mailbox)
        self._node.agent.members.again()
        await self._published.changed(mailbox)
        return {"generation": self._node.files.addresses.generation}

    async def list_names(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The unguessable list names of a pull_hold address, by reader."""
        mailbox = _mailbox(asked)
        answer = (await self._node.files.addresses.read([mailbox]))[mailbox]
        if not isinstance(answer, Found):
            raise ValueError(f"{mailbox}: nobody there")
        route = answer.route
        messages = self._node.state.messages
        return {"names": {reader: await messages.capability(route.entry, reader) for reader in route.readers}}

    async def memory(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a strategy remembers of an entry, for `why`; values in base64."""
        memory = await self._node.state.ledger.memory(str(asked.get("entry")), str(asked.get("strategy")))
        return {"memory": {key: base64.b64encode(value).decode() for key, value in memory.items()}}


def _mailbox(asked: Mapping[str, Any]) -> Mailbox:
    return parse_mailbox(str(asked.get("address", "")))


def _notifications(dispatcher: Dispatcher) -> Mapping[str, int]:
    counts = dict(zip(CLASSES, dispatcher.outcomes, strict=False))
    return {"received": dispatcher.received, "inner": dispatcher.inner, **counts}
