"""`fsck`: database, bodies and catalogue held against each other and against the address files (docs/operations.md).

One way for a daemon that runs and for a folder at rest: the same look, the same jobs of the one writer. The catalogue
is derived from the address files, so it is never mended, only made anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import apsw
import trio

from forwarder.config.entries import Specs
from forwarder.config.lines import ConfigError
from forwarder.config.settings import Settings
from forwarder.config.sweep import sweep, unread
from forwarder.daemon.state import DATABASE, SCHEMA
from forwarder.model import Route
from forwarder.ports import Clock, Unread
from forwarder.storage import fsck
from forwarder.storage.bodies import Bodies
from forwarder.storage.catalogue import Catalogue
from forwarder.storage.database import Database, DatabaseUnfit
from forwarder.storage.fsck import Problem

ROUTES_AT_ONCE = 500
NAMED = 20
Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Looked:
    """What there was to look at. renew: makes the catalogue anew from the address files."""

    settings: Settings
    specs: Specs
    database: Database
    bodies: Bodies
    catalogue: Catalogue
    renew: Callable[[], Awaitable[None]]
    clock: Clock


class Report:
    """What was found, and what of it was repaired."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self.problems: list[dict[str, Any]] = []

    def add(self, problem: Problem, *, repaired: bool) -> None:
        self.problems.append({"kind": problem.kind, "text": problem.text, "repaired": repaired})

    @property
    def said(self) -> Mapping[str, Any]:
        left = sum(not problem["repaired"] for problem in self.problems)
        return {"checked": self.checked, "problems": self.problems, "left": left}


async def check(place: Looked, *, repair: bool, deep: bool, step: Step = lambda: None) -> Report:
    """Everything, once. step: called often, from a worker thread. Raises apsw.Error, OSError where the disk fails."""
    report = Report()
    found, report.checked = await trio.to_thread.run_sync(_inspect, place, deep, step)
    for problem in found:
        mended = repair and await _mend(place, problem)
        if mended or not repair or problem.mend is None or problem.kind == "database":  # else it became right meanwhile
            report.add(problem, repaired=mended)
    if not any(problem.kind == "database" for problem in found):
        await _catalogue(place, report, repair=repair)
    return report


def _inspect(place: Looked, deep: bool, step: Step) -> tuple[list[Problem], dict[str, int]]:
    connection = apsw.Connection(str(place.settings.state / DATABASE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5_000)

        def go_on() -> None:
            trio.from_thread.check_cancelled()  # or the daemon could not stop before it is done
            step()

        inspection = fsck.Inspection(connection, place.bodies, int(place.clock()), deep=deep, go_on=go_on)
        found: list[Problem] = []
        try:
            found.extend(islice(inspection.problems(), fsck.MOST))
        except apsw.Error as error:
            found.append(Problem("database", f"cannot be read: {error}"))
        return found, dict(inspection.checked)
    finally:
        connection.close()


async def _mend(place: Looked, problem: Problem) -> bool:
    if problem.mend is None:
        return False
    mended = await place.database.commit(problem.mend, point="fsck")
    if mended and problem.files:
        await place.bodies.remove(problem.files)
    return mended


async def _catalogue(place: Looked, report: Report, *, repair: bool) -> None:
    """Against the files as they are now; what is broken in them is told by `check`."""
    entries, wrong, missed = 0, list[str](), set[Unread]()
    found = _routes(place)
    while some := await trio.to_thread.run_sync(lambda: list(islice(found, ROUTES_AT_ONCE))):
        routes = [one for one in some if isinstance(one, Route)]
        missed.update(one for one in some if isinstance(one, Unread))
        entries += len(routes)
        wrong += await place.catalogue.differing(routes)
    report.checked["entries"] = entries
    texts = [f"{entry} is not in the catalogue as its file has it" for entry in wrong[:NAMED]]
    texts += [f"and {len(wrong) - NAMED} more entries"] if len(wrong) > NAMED else []
    if not wrong and (extra := await place.catalogue.count() - await place.catalogue.left(missed) - entries) > 0:
        texts.append(f"{extra} entries of the catalogue have no file any more")
    if texts and repair:
        await place.renew()
    for text in texts:
        report.add(Problem("catalogue", text), repaired=repair)


def _routes(place: Looked) -> Iterator[Route | Unread]:
    for found in sweep(place.settings.folder, place.settings, place.specs):
        if not isinstance(found, ConfigError):
            yield found
        elif missed := unread(found):
            yield missed


async def check_at_rest(
    settings: Settings, specs: Specs, clock: Clock, *, repair: bool, deep: bool, step: Step = lambda: None
) -> Report:
    """A folder on which no daemon runs; the caller holds its lock."""
    report = Report()
    database = Database(settings.state / DATABASE, SCHEMA)
    try:
        await database.open()
    except (DatabaseUnfit, apsw.Error) as error:
        report.add(Problem("database", f"cannot be opened: {error}"), repaired=False)
        return report
    async with trio.open_nursery() as nursery:
        await nursery.start(database.run)
        try:
            report = await _at_rest(settings, specs, database, clock, repair=repair, deep=deep, step=step)
        finally:
            await database.close()
    return report


async def _at_rest(
    settings: Settings, specs: Specs, database: Database, clock: Clock, *, repair: bool, deep: bool, step: Step
) -> Report:
    catalogue = Catalogue(database)
    await catalogue.open()

    async def renew() -> None:
        async def routes() -> Any:
            for route in _routes(place):
                yield route

        await catalogue.sweep(routes())

    folder = settings.state / "bodies"
    place = Looked(settings, specs, database, Bodies(folder), catalogue, renew, clock)
    report = await check(place, repair=repair, deep=deep, step=step)
    for path in fsck.spool(folder):
        if repair:
            path.unlink()
        report.add(Problem("body", f"an upload that a crash cut short: {path.name}"), repaired=repair)
    return report
