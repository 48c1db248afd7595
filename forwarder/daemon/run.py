"""The daemon: open, listen, serve, drain. Three nurseries, so that each thing outlives what stands on it:
state (database, trace) around work (agent, store) around doors (servers, DNS, control).

SIGTERM and SIGINT: take nothing new, finish what is under way, at most `[node] drain`; exit 0. SIGHUP: reload.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import structlog
import trio

from forwarder.config.certificates import require_all
from forwarder.config.doors import doors as configured
from forwarder.config.lines import ConfigError, ConfigErrors, located
from forwarder.config.settings import FILE, Settings
from forwarder.daemon.build import SERVICES, Node, build, recall, start
from forwarder.daemon.control import Control
from forwarder.daemon.published import Published
from forwarder.daemon.services import open_all, places
from forwarder.daemon.state import State, lock, open_state
from forwarder.daemon.upkeep import Upkeep
from forwarder.daemon.verbs import Verbs
from forwarder.dns.rate import AnswerRate
from forwarder.dns.serve import PER_SECOND, DnsListener
from forwarder.dns.serve import open_listeners as open_dns
from forwarder.dns.serve import serve as serve_dns
from forwarder.model import Endpoint
from forwarder.net.ourselves import is_own
from forwarder.net.server import bound, listen
from forwarder.plugins import Plugins, load

SPARE_FILES = 512
GARBAGE_EVERY = 50_000  # objects; what a notification leaves behind has no cycles
CHORES = 3600.0
FIELD_CHARACTERS = 1_000  # of one field of a log line
LAST_WRITES = 10.0

Signals = AsyncIterator[int]

log = structlog.get_logger("forwarder")


async def serve(settings: Settings, *, ready: Callable[[], None] = lambda: None) -> None:
    """Runs until SIGTERM or SIGINT. Raises StateInUse, ConfigErrors, OSError before anything is served."""
    require_all(settings)
    plugins = load(settings.plugins.disable)
    for problem in plugins.problems:
        log.warning("plugin", plugin=problem.plugin, problem=problem.text)
    sessions = _raise_file_limit(settings.limits.sessions)
    with ExitStack() as held:
        held.callback(os.close, lock(settings.state))
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                state = await open_state(settings, nursery, time.time)
                try:
                    await _work(settings, plugins, state, sessions, signals, ready)
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WRITES):
                        await state.close()
                nursery.cancel_scope.cancel()


async def _work(
    settings: Settings, plugins: Plugins, state: State, sessions: int, signals: Signals, ready: Callable[[], None]
) -> None:
    wanted = configured(settings, plugins.services, plugins.carriers)
    try:
        doors = await _open_doors(settings)
        opened = await open_all(wanted.services, settings.bridge.group)
    except ConfigErrors as errors:
        raise located(errors, settings.folder / FILE, settings.folder) from None
    own = {endpoint for endpoints in doors.bound.values() for endpoint in endpoints}
    own |= {place for each in opened for place in each.places if isinstance(place, Endpoint)}
    async with trio.open_nursery() as nursery:
        node = build(settings, plugins, state, nursery, partial(is_own, own), sessions, wanted, opened)
        published = Published(settings, plugins, node.files.addresses, state.catalogue, doors.bound, node.files.keys)
        await recall(node)  # before our own store sends: what it repeats is known, or it would be owed a second time
        start(node, nursery)
        nursery.start_soon(published.run)
        nursery.start_soon(_chores, node)
        await _serve(node, published, doors, places(opened), signals, ready)
        nursery.cancel_scope.cancel()


class _Doors:
    """Listening sockets, by service."""

    def __init__(self) -> None:
        self.listeners: dict[str, list[trio.SocketListener]] = {}  # "rnasp", and "rnasp_tls" for its twin
        self.dns: list[DnsListener] = []
        self.bound: dict[str, list[Endpoint]] = {}


async def _open_doors(settings: Settings) -> _Doors:
    doors = _Doors()
    for name in (door for service in SERVICES for door in (service, f"{service}_tls")):
        listeners = [await _open(name, endpoint) for endpoint in getattr(settings.listen, name)]
        doors.listeners[name] = listeners
        doors.bound[name] = [bound(listener) for listener in listeners]
    try:
        doors.dns = await open_dns(settings.listen.dns)
    except OSError as error:
        raise _cannot_listen("dns", settings.listen.dns, error) from None
    doors.bound["dns"] = [listener.endpoint for listener in doors.dns]
    return doors


async def _open(name: str, endpoint: Endpoint) -> trio.SocketListener:
    try:
        return await listen(endpoint)
    except OSError as error:
        raise _cannot_listen(name, [endpoint], error) from None


def _cannot_listen(name: str, endpoints: Sequence[Endpoint], error: OSError) -> ConfigErrors:
    where = ", ".join(str(endpoint) for endpoint in endpoints)
    why = error.strerror or str(error)
    return ConfigErrors([ConfigError("forwarder.toml", 0, f"listen.{name}", f"cannot listen on {where}: {why}")])


async def _serve(
    node: Node,
    published: Published,
    doors: _Doors,
    others: Mapping[str, list[str]],
    signals: Signals,
    ready: Callable[[], None],
) -> None:
    bound = {name: [str(e) for e in ends] for name, ends in doors.bound.items() if ends}
    verbs = Verbs(node, published, {**bound, **others})
    control = Control(node.settings.state, {**verbs.table(), **Upkeep(node, published).table()})
    trusted = AnswerRate(PER_SECOND, node.settings.network.trusted)
    trusted.struck = node.strikes
    async with trio.open_nursery() as nursery:
        for name, server in node.servers.items():
            context = node.certificates.context if node.certificates else None
            nursery.start_soon(server.run, doors.listeners[name], doors.listeners[f"{name}_tls"], context)
        nursery.start_soon(partial(serve_dns, published.answerer, doors.dns, rate=trusted))
        nursery.start_soon(control.run, control.listen())
        node.services.start(nursery)
        for name, endpoints in doors.bound.items():
            for endpoint in endpoints:
                log.info("listening", service=name, address=str(endpoint))
        log.info("ready", node=node.settings.node.name, pid=os.getpid())
        _settle_memory()
        ready()
        await _until_told(signals, verbs)
        await _drain(node)
        nursery.cancel_scope.cancel()


async def _until_told(signals: Signals, verbs: Verbs) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.info("draining", signal=signal.Signals(number).name)
            return
        try:
            log.info("reloaded", **await verbs.reload())
        except ValueError as error:
            log.warning("reload", error=str(error))


async def _drain(node: Node) -> None:
    """Nothing new; what is under way ends, at most `[node] drain`."""
    patience = node.settings.node.drain.total_seconds()
    for server in node.servers.values():
        server.drain()
    node.services.drain()
    with trio.move_on_after(patience) as scope:
        for server in node.servers.values():
            await server.empty()
        await node.services.empty()
        while node.agent.dispatcher.waiting or node.reach.links.waiting:  # noqa: ASYNC110  # many things end it, none of them a task
            await trio.sleep(0.02)
    for server in node.servers.values():
        server.give_up()
    node.reach.pool.close_idle()
    left = node.agent.dispatcher.waiting
    log.info("drained", in_time=not scope.cancelled_caught, left=left)


async def _chores(node: Node) -> None:
    """Each hour: what has died in the inbox, closed debts nobody will repeat, memory past its time."""
    while True:
        now = int(time.time())
        node.agent.repeats.sweep(now - 35 * 86400)
        pause = CHORES
        try:
            await node.state.inbox.sweep(now)
            await node.state.ledger.forget(now - 35 * 86400)
            node.chores.over()
        except Exception as error:  # the disk: soon it may go better
            pause = node.chores.pause(error)
            log.error("chores not done", error=repr(error), again_in=pause)
        await trio.sleep(pause)


def _raise_file_limit(sessions: int) -> int:
    """Room for so many sessions and SPARE_FILES; how many sessions there is room for."""
    wanted = sessions + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
    room = max(1, max(soft, enough) - SPARE_FILES)
    if room < sessions:
        log.warning("sessions lowered", limit=sessions, to=room, why="the hard limit of open files")
    return min(sessions, room)


def _settle_memory() -> None:
    """What stands now stays: the collector need not walk it again and again (a fifth of the time under load)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_EVERY, 20, 20)


def _shortened(_: object, __: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A stranger's words, as the name of an account that nobody has, may be as long as his PDU."""
    long = {name: text for name, text in record.items() if isinstance(text, str) and len(text) > FIELD_CHARACTERS}
    return {**record, **{name: f"{text[:FIELD_CHARACTERS]}... ({len(text)})" for name, text in long.items()}}


def log_to_stderr(*, debug: bool = False) -> None:
    """One line an event: JSON for programs, columns for a terminal. debug: what each message does, too."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _shortened,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
