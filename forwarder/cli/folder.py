"""The configuration folder as verbs see it: settings, plugins, addresses; and the daemon that may run on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from forwarder.bridges import DomainFacts
from forwarder.cli import control
from forwarder.cli.errors import No, Wrong
from forwarder.config.addresses import AddressFiles
from forwarder.config.doors import doors
from forwarder.config.lines import ConfigErrors
from forwarder.config.names import hosted_domain
from forwarder.config.settings import Settings, find_folder, load_settings
from forwarder.model import Mailbox, Route, parse_domain, parse_mailbox
from forwarder.plugins import Plugins, load
from forwarder.ports import Broken, Found


class Carrier(NamedTuple):
    """What it takes, and the way as people read it ("127.0.0.1:10025")."""

    takes: Callable[[DomainFacts], bool]
    way: str


@dataclass(frozen=True)
class Folder:
    """One folder, read once for one verb. Making it raises ConfigErrors."""

    settings: Settings

    @cached_property
    def plugins(self) -> Plugins:
        return load(self.settings.plugins.disable)

    @cached_property
    def addresses(self) -> AddressFiles:
        return AddressFiles(self.settings.folder, self.settings, self.plugins.strategies, time.monotonic)

    @cached_property
    def carriers(self) -> Mapping[str, Carrier]:
        """Ways to targets without an agent, by name. None where their tables are broken: `check` says so."""
        try:
            found = doors(self.settings, None, self.plugins.carriers).carriers
        except ConfigErrors:
            return {}
        return {spec.name: Carrier(spec.takes, spec.via(options)) for spec, options in found}

    def winner(self, mailbox: Mailbox) -> Route:
        """The entry that wins. Raises No: nobody there; Wrong: a broken file."""
        answer = self.addresses.read_here([mailbox])[mailbox]
        if isinstance(answer, Broken):
            where = f"{answer.file}:{answer.line}" if answer.line else answer.file
            raise Wrong(f"{where}: {answer.text}")
        if not isinstance(answer, Found):
            raise No(f"forwarder: {mailbox}: nobody there")
        return answer.route

    def tell(self, verb: str, **fields: Any) -> bool:
        """News for the daemon, so that it counts at once; False where none runs, or it finds out by itself."""
        return control.tell(self.settings.state, verb, **fields) is not None

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The daemon's answer. Raises No where none runs."""
        return control.ask(self.settings.state, verb, **fields)


def open_folder(config: str | None) -> Folder:
    """The folder by `--config`, else the usual ones. Raises ConfigErrors."""
    return Folder(load_settings(find_folder(config)))


def an_address(text: str) -> Mailbox:
    """Raises Wrong."""
    try:
        return parse_mailbox(text)
    except ValueError as error:
        raise Wrong(f"forwarder: {error}") from None


def a_domain(text: str) -> str:
    """Raises Wrong."""
    try:
        return parse_domain(text)
    except ValueError as error:
        raise Wrong(f"forwarder: {error}") from None


def a_new_domain(text: str) -> str:
    """One that we may host. Raises Wrong."""
    try:
        return hosted_domain(text)
    except ValueError as error:
        raise Wrong(f"forwarder: {error}") from None
