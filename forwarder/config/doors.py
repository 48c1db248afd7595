"""Services and carriers of plugins as the node file configures them: named under `[listen]`, or by their tables.

A table that several of them share (`[bridge]`) goes to each whole. Every mistake has its file and line.
"""

from __future__ import annotations

import grp
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwarder.bridges import CarrierSpec, ServiceSpec
from forwarder.config.lines import ConfigError, ConfigErrors, Document, read
from forwarder.config.settings import FILE, Listen, Settings
from forwarder.config.tables import UnixPath, nearest, validate
from forwarder.model import Endpoint
from forwarder.plugin import Options

Services = Mapping[str, ServiceSpec[Any]]
Carriers = Mapping[str, CarrierSpec[Any]]


@dataclass(frozen=True, slots=True)
class Door:
    """A service that is to run. places: where it listens, none for one that only works."""

    spec: ServiceSpec[Any]
    options: Options
    places: Sequence[Endpoint | UnixPath]


@dataclass(frozen=True, slots=True)
class Doors:
    """All that the node file asks for."""

    services: Sequence[Door]
    carriers: Sequence[tuple[CarrierSpec[Any], Options]]


def doors(settings: Settings, services: Services | None, carriers: Carriers) -> Doors:
    """services: None = only the carriers are asked for. Raises ConfigErrors, OSError."""
    offered = services or {}
    reading = _Reading(settings, offered.values())
    found = Doors(
        [door for door in map(reading.door, offered.values()) if door],
        [pair for pair in map(reading.carrier, carriers.values()) if pair],
    )
    listening = {name for name, spec in offered.items() if not spec.always}
    for name in sorted(settings.listen.doors.keys() - listening) if services is not None else ():
        hint = nearest(name, [*listening, *Listen.model_fields])
        reading.error(("listen", name), f"no plugin offers this service{hint}")
    reading.group(found.services)
    reading.twice(found.services)
    if reading.errors:
        raise ConfigErrors({str(error): error for error in reading.errors}.values())
    return found


class _Reading:
    """The tables of one node file, each checked once for each kind of options."""

    def __init__(self, settings: Settings, offered: Collection[ServiceSpec[Any]]) -> None:
        self._settings = settings
        self._offered = offered
        self._document: Document | None = None
        self._read: dict[tuple[str, type[Options]], Options | None] = {}
        self.errors: list[ConfigError] = []

    @property
    def document(self) -> Document:
        """Read only where something of it is needed."""
        if self._document is None:
            self._document = read(self._settings.folder / FILE, self._settings.folder)
        return self._document

    def error(self, path: Sequence[str], text: str) -> None:
        self.errors.append(self.document.error(path, text))

    def group(self, doors: Sequence[Door]) -> None:
        """The owner of Unix sockets is a group of this machine."""
        group = self._settings.bridge.group
        if group and any(isinstance(place, UnixPath) for door in doors for place in door.places):
            try:
                grp.getgrnam(group)
            except KeyError:
                self.error(("bridge", "group"), f'there is no group "{group}" on this machine')

    def twice(self, doors: Sequence[Door]) -> None:
        """Nobody can be at a place where another is already."""
        taken: dict[Endpoint | UnixPath, str] = {}
        for door in doors:
            for place in door.places:
                if place in taken and not (isinstance(place, Endpoint) and place.port == 0):
                    self.error(("listen", door.spec.name), f"{place}: {taken[place]} listens there already")
                taken.setdefault(place, door.spec.name)

    def door(self, spec: ServiceSpec[Any]) -> Door | None:
        places = self._settings.listen.doors.get(spec.name, ())
        if not places and not (spec.always and (self._has(spec.table) or self._serves(spec.table))):
            return None
        if spec.name.endswith("_tls") and not self._settings.tls:
            self.error(("listen", spec.name), "needs a certificate: add a [[tls]] table")
        options = self._options(spec.table, spec.options)
        if options is None or self._objects(spec, options):
            return None
        return Door(spec, options, places)

    def carrier(self, spec: CarrierSpec[Any]) -> tuple[CarrierSpec[Any], Options] | None:
        options = self._options(spec.table, spec.options) if self._has(spec.table) else None
        if options is None or not spec.offered(options) or self._objects(spec, options):
            return None
        return spec, options

    def _objects(self, spec: ServiceSpec[Any] | CarrierSpec[Any], options: Options) -> bool:
        objections = spec.objections(options, self._settings.path)
        for objection in objections:
            self.error((spec.table, *objection.key.split(".")), objection.text)
        return bool(objections)

    def _serves(self, table: str) -> bool:
        """Whether a service listens that reads this table, all of it defaults."""
        return any(spec.table == table and self._settings.listen.doors.get(spec.name) for spec in self._offered)

    def _has(self, table: str) -> bool:
        return table in self._settings.model_fields_set

    def _options(self, table: str, options: type[Options]) -> Options | None:
        """None: and the mistakes are kept."""
        key = (table, options)
        if key not in self._read:
            self._read[key] = None
            try:
                self._read[key] = validate(options, self.document.data.get(table, {}), self.document, (table,))
            except ConfigErrors as errors:
                self.errors += errors.errors
        return self._read[key]
