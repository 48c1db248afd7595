"""Settings to objects, the only place: who gets whom. Nothing here decides, nothing here waits for a peer.

Each part is built by a function of its own, in the order in which one needs the other: files, reach, store, agent,
sending, servers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
import trio

from forwarder.agent.limits import Strikes, SubmitterLimit
from forwarder.agent.notify import OwnNotifier
from forwarder.agent.repeats import Repeats
from forwarder.config.accounts import AccountFiles
from forwarder.config.addresses import AddressFiles
from forwarder.config.certificates import load_pair
from forwarder.config.doors import Doors
from forwarder.config.keys import SigningKeys
from forwarder.config.settings import Settings
from forwarder.daemon.bridging import bridging, sender_of
from forwarder.daemon.keys import OwnKeys
from forwarder.daemon.naming import Naming
from forwarder.daemon.parts import Agent, Files, Ground, Store, clear_login, rules, seconds
from forwarder.daemon.reach import Reach, reach
from forwarder.daemon.receiving import receiving
from forwarder.daemon.services import Opened, Services
from forwarder.daemon.state import State
from forwarder.model import Endpoint, Hop, Mailbox
from forwarder.net.certificates import Certificates, Pair
from forwarder.net.server import Limits, PduServer
from forwarder.net.sources import StoreSources
from forwarder.plugin import Log
from forwarder.plugins import Plugins
from forwarder.ports import Clock, ServiceName
from forwarder.ports.setbacks import Setback
from forwarder.services.msoap import Msoap
from forwarder.services.msrap import Msrap
from forwarder.services.rnaqp import Rnaqp
from forwarder.services.rnasp import Rnasp
from forwarder.services.withdrawn import Withdrawn
from forwarder.storage.own_pins import OwnPins
from forwarder.storage.returns import Returns
from forwarder.store.pulling import Pulling
from forwarder.store.sending import Sending
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP

SERVICES: Sequence[ServiceName] = ("rnasp", "msrap", "rnaqp", "msoap")
MEMORY_SECONDS = 35 * 86400


@dataclass(frozen=True, slots=True)
class Node:
    """Everything that runs, for `run` to start and `control` to show."""

    settings: Settings
    plugins: Plugins
    state: State
    files: Files
    reach: Reach
    store: Store
    agent: Agent
    sending: Sending
    sessions: Limits
    servers: Mapping[str, PduServer]
    certificates: Certificates | None
    strikes: Strikes
    services: Services
    chores: Setback = field(default_factory=Setback)


def build(
    settings: Settings,
    plugins: Plugins,
    state: State,
    nursery: trio.Nursery,
    own: Callable[[Endpoint], bool],
    sessions: int,
    doors: Doors,
    opened: Sequence[Opened],
    clock: Clock = time.time,
) -> Node:
    """own: whether we listen there ourselves (protocol 8.3). sessions: room for so many.
    doors, opened: services and carriers of plugins, and the sockets of these services.

    Raises ValueError for a plugin's bad table.
    """
    log: Log = structlog.get_logger("forwarder")
    files = _files(settings, plugins, clock)
    strikes = Strikes(log, time.monotonic)
    submitters = SubmitterLimit(settings.limits.submitter_rate, settings.network.trusted, time.monotonic, strikes)
    carriers = {spec.name: spec.takes for spec, _ in doors.carriers}
    way = reach(settings, nursery, own, log, submitters, strikes, carriers)
    state.ledger.pins = OwnPins(state.messages, files.naming.ours)
    state.inbox.struck = files.accounts.struck = strikes
    repeats = Repeats(
        settings.node.name,
        state.secret,
        hops=settings.limits.hops,
        remembered=settings.limits.remembered,
        clock=clock,
    )
    repeats.struck = strikes
    returns = Returns(state.messages)
    ground = Ground(*(settings, plugins, state, files, way, submitters, repeats, returns, strikes, nursery, clock, log))
    store = _store(ground)
    store.msrap.misses.struck = store.pulling.struck = strikes
    agent = receiving(ground, store, doors)
    sending = _sending(ground, agent)
    limits = Limits(sessions, settings.limits.sessions_per_address, submitters.exempt, strikes)
    servers = _servers(settings, state, files, store, agent, limits, log)
    certificates = _certificates(settings, log)
    services = bridging(ground, store, agent, sending, certificates, opened)
    return Node(
        *(settings, plugins, state, files, way, store, agent, sending, limits, servers, certificates, strikes, services)
    )


def _files(settings: Settings, plugins: Plugins, clock: Clock) -> Files:
    addresses = AddressFiles(settings.folder, settings, plugins.strategies, time.monotonic)
    keys = SigningKeys(settings.folder)
    naming = Naming(addresses, settings.node.name)
    return Files(addresses, AccountFiles(settings.folder, clock), naming, keys, OwnKeys(keys, clock))


def _store(ground: Ground) -> Store:
    settings, state, files, way, clock = ground.settings, ground.state, ground.files, ground.way, ground.clock
    withdrawn = Withdrawn(state.messages, state.copies, lambda notification: sources.look(notification), clock)
    msrap = Msrap(state.messages, withdrawn, files.accounts, files.addresses, clear_login(settings))
    sources = StoreSources(
        way.locator,
        way.dialer.connect,
        time.monotonic,
        files.naming.ours,
        msrap,
        way.trust,
        way.strangers,
        dial_strange=partial(way.dialer.connect, strange=True),
        missed=way.dialer.missed,
    )

    def hop(mailbox: Mailbox, how: int) -> Hop:
        return Hop(settings.node.name, ground.repeats.mark(mailbox.folded), int(clock()), how)

    pulling = Pulling(
        state.copies,
        sources,
        clock,
        ours=files.naming.ours,
        hop=hop,
        returns=sender_of(files, ground.returns),
        lifetime=seconds(settings.store.lifetime),
        first=seconds(settings.retry.first),
        longest=seconds(settings.retry.longest),
        give_up=seconds(settings.retry.give_up),
    )
    return Store(msrap, sources, pulling)


def _sending(ground: Ground, agent: Agent) -> Sending:
    settings, files, way, clock = ground.settings, ground.files, ground.way, ground.clock
    return Sending(
        ground.state.messages,
        OwnNotifier(agent.dispatcher, agent.performer, way.links, files.addresses, clock, name=settings.node.name),
        way.locator,
        clock,
        files.naming.store_of,
        redirect_require_tls=settings.network.redirect_require_tls,
        tells_tls=_tells_tls(settings),
        signing=files.own_keys.signing,
    )


def _servers(
    settings: Settings, state: State, files: Files, store: Store, agent: Agent, limits: Limits, log: Log
) -> Mapping[str, PduServer]:
    clear = clear_login(settings)
    rnaqp = Rnaqp(files.accounts, files.addresses, state.catalogue, state.inbox, clear)
    msoap = Msoap(state.messages, files.accounts, clear, rules(settings))
    msoap.struck = limits.struck
    return {
        "rnasp": PduServer(RNASP, Rnasp(agent.dispatcher, name=settings.node.name), limits, log),
        "msrap": PduServer(MSRAP, store.msrap, limits, log),
        "rnaqp": PduServer(RNAQP, rnaqp, limits, log),
        "msoap": PduServer(MSOAP, msoap, limits, log),
    }


async def recall(node: Node, clock: Clock = time.time) -> None:
    """Before anybody is let in: the repeats memory from the rows, then what is owed."""
    since = int(clock()) - MEMORY_SECONDS
    sights = [*await node.state.inbox.sights(since), *await node.state.ledger.sights(since)]
    node.agent.repeats.recall(sorted(sights, key=lambda sight: sight.at))
    await node.agent.courier.load()


def start(node: Node, nursery: trio.Nursery) -> None:
    """The tasks that stand where time passes."""
    for task in (
        node.reach.tick.run,
        node.reach.links.run,
        node.reach.pool.run,
        node.agent.dispatcher.run,
        node.agent.courier.run,
        node.agent.members.run,
        node.store.sources.run,
        node.store.pulling.run,
        node.sending.run,
    ):
        nursery.start_soon(task)


def _certificates(settings: Settings, log: Log) -> Certificates | None:
    paths = [(pair.domains, settings.path(pair.certificate), settings.path(pair.key)) for pair in settings.tls]
    pairs = [Pair(domains, cert, key, partial(load_pair, cert, key)) for domains, cert, key in paths]
    return Certificates(pairs, log) if pairs else None


def _tells_tls(settings: Settings) -> Callable[[str], bool]:
    """Whether our notifications may say of a store's name that it serves TLS: it must have a certificate here."""
    named = {domain for pair in settings.tls for domain in pair.domains} if settings.listen.msrap_tls else set()
    return lambda store: store in named
