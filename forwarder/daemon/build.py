"""Settings to objects, the only place: who gets whom. Nothing here decides, nothing here waits for a peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
import trio

from forwarder.agent.courier import Courier, Retry
from forwarder.agent.decide import Decider
from forwarder.agent.dispatch import Dispatcher
from forwarder.agent.errands import Errands
from forwarder.agent.limits import SubmitterLimit
from forwarder.agent.links import Links
from forwarder.agent.members import Members
from forwarder.agent.notify import OwnNotifier
from forwarder.agent.perform import Performer
from forwarder.agent.repeats import Repeats
from forwarder.agent.routes import Routes
from forwarder.agent.screens import Screens
from forwarder.agent.tick import Tick
from forwarder.config.accounts import AccountFiles
from forwarder.config.addresses import AddressFiles
from forwarder.config.certificates import believe, load_pair
from forwarder.config.keys import SigningKeys
from forwarder.config.settings import Settings
from forwarder.daemon.keys import OwnKeys, TextsOrOwn
from forwarder.daemon.naming import Naming
from forwarder.daemon.state import State
from forwarder.daemon.strategies import InstalledStrategies, PluginSource
from forwarder.model import Endpoint, Hop, Mailbox, Peer
from forwarder.net.address_filter import AddressFilter, may_log_in
from forwarder.net.certificates import Certificates, Pair
from forwarder.net.dial import Dialer
from forwarder.net.locate import Locator
from forwarder.net.resolve import Dns
from forwarder.net.server import Limits, PduServer
from forwarder.net.sessions import Pool
from forwarder.net.sources import StoreSources
from forwarder.net.texts import TextRecords
from forwarder.net.tls import Trust, system_context, system_trust
from forwarder.net.tls_policy import TlsPolicy
from forwarder.plugin import Log
from forwarder.plugins import Plugins
from forwarder.ports import Clock, ServiceName
from forwarder.services.msoap import Msoap, StoreRules
from forwarder.services.msrap import Msrap
from forwarder.services.rnaqp import Rnaqp
from forwarder.services.rnasp import Rnasp
from forwarder.services.withdrawn import Withdrawn
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
    addresses: AddressFiles
    accounts: AccountFiles
    state: State
    naming: Naming
    keys: SigningKeys
    limits: Limits
    submitters: SubmitterLimit
    tick: Tick
    links: Links
    pool: Pool
    repeats: Repeats
    courier: Courier
    members: Members
    dispatcher: Dispatcher
    sources: StoreSources
    sending: Sending
    pulling: Pulling
    msrap: Msrap
    servers: Mapping[str, PduServer]
    certificates: Certificates | None


def build(
    settings: Settings,
    plugins: Plugins,
    state: State,
    nursery: trio.Nursery,
    own: Callable[[Endpoint], bool],
    sessions: int,
    clock: Clock = time.time,
) -> Node:
    """own: whether we listen there ourselves (protocol 8.3). sessions: room for so many.

    Raises ValueError for a plugin's bad table.
    """
    limits, network, name = settings.limits, settings.network, settings.node.name
    log = structlog.get_logger("forwarder")
    addresses = AddressFiles(settings.folder, settings, plugins.strategies, time.monotonic)
    accounts = AccountFiles(settings.folder, clock)
    naming = Naming(addresses, name)
    keys = SigningKeys(settings.folder)
    own_keys = OwnKeys(keys, clock)
    submitters = SubmitterLimit(limits.submitter_rate, network.trusted, time.monotonic)

    address_filter = AddressFilter(network.allow, own)
    dialer = Dialer(address_filter)
    names = Dns(settings.resolve.nameservers, settings.resolve.zones)
    locator = _locator(settings, address_filter, names)
    tick = Tick(lambda error: log.error("tick failed", error=str(error), exc_info=error))
    trust = _trust(settings)
    pool = Pool(dialer.connect, nursery, name=name, trust=trust)
    links = Links(locator, pool, tick, nursery)

    def clear_login(peer: Peer) -> bool:
        return peer.tls or may_log_in(peer.address, network.clear_login)

    withdrawn = Withdrawn(state.messages, state.copies, lambda notification: sources.look(notification), clock)
    msrap = Msrap(state.messages, withdrawn, accounts, addresses, clear_login)
    sources = StoreSources(locator, dialer.connect, time.monotonic, naming.ours, msrap, trust)
    repeats = Repeats(name, state.secret, hops=limits.hops, remembered=limits.remembered, clock=clock)

    def hop(mailbox: Mailbox, how: int) -> Hop:
        return Hop(name, repeats.mark(mailbox.folded), int(clock()), how)

    pulling = Pulling(
        state.copies,
        sources,
        clock,
        ours=naming.ours,
        hop=hop,
        lifetime=_seconds(settings.store.lifetime),
        first=_seconds(settings.retry.first),
        longest=_seconds(settings.retry.longest),
        give_up=_seconds(settings.retry.give_up),
    )

    async def connect(host: str, port: int) -> trio.SocketStream:
        [endpoint, *_] = await locator.resolve(host, port)
        return await dialer.connect(endpoint)

    strategies = InstalledStrategies(
        plugins, PluginSource(sources), connect, TextsOrOwn(own_keys, TextRecords(names)), clock
    )
    routes = Routes(
        addresses, strategies, state.ledger, name=name, mark=repeats.mark, depth=limits.depth, targets=limits.targets
    )
    retry = Retry(*(_seconds(part) for part in (settings.retry.first, settings.retry.longest, settings.retry.give_up)))
    errands = Errands(
        nursery, tick, pulling, strategies, addresses, state.ledger, retry.wait, retry.give_up, clock, log
    )
    courier = Courier(links, state.ledger, repeats, addresses, sources, errands, retry, clock, name=name)
    performer = Performer(
        routes,
        links,
        repeats,
        courier,
        state.inbox,
        state.ledger,
        tick,
        clock,
        lambda octets, told: dispatcher.receive_inner(octets, told),
        redirect_require_tls=network.redirect_require_tls,
    )
    decider = Decider(routes, strategies)
    dispatcher = Dispatcher(
        submitters,
        routes,
        repeats,
        Screens(strategies.screens(settings.plugins.options), log),
        decider,
        performer,
        state.trace,
        tick,
        nursery,
        clock,
        log,
        literals=network.literals,
    )
    courier.inner = dispatcher.receive_inner
    errands.perform = dispatcher.perform
    members = Members(routes, decider, courier, state.ledger, state.copies, sources, addresses, clock, log)
    errands.pulled = members.pulled
    notifier = OwnNotifier(dispatcher, links, addresses, name=name)
    sending = Sending(
        state.messages,
        notifier,
        locator,
        clock,
        naming.store_of,
        redirect_require_tls=network.redirect_require_tls,
        tells_tls=_tells_tls(settings),
        signing=own_keys.signing,
    )

    rules = StoreRules(_seconds(settings.store.lifetime), settings.store.max_size, settings.store.quota)
    session_limits = Limits(sessions, limits.sessions_per_address, submitters.exempt)
    servers = {
        "rnasp": PduServer(RNASP, Rnasp(dispatcher, name=name), session_limits, log),
        "msrap": PduServer(MSRAP, msrap, session_limits, log),
        "rnaqp": PduServer(
            RNAQP, Rnaqp(accounts, addresses, state.catalogue, state.inbox, clear_login), session_limits, log
        ),
        "msoap": PduServer(MSOAP, Msoap(state.messages, accounts, clear_login, rules), session_limits, log),
    }
    return Node(
        settings,
        plugins,
        addresses,
        accounts,
        state,
        naming,
        keys,
        session_limits,
        submitters,
        tick,
        links,
        pool,
        repeats,
        courier,
        members,
        dispatcher,
        sources,
        sending,
        pulling,
        msrap,
        servers,
        _certificates(settings, log),
    )


async def recall(node: Node, clock: Clock = time.time) -> None:
    """Before anybody is let in: the repeats memory from the rows, then what is owed."""
    since = int(clock()) - MEMORY_SECONDS
    sights = [*await node.state.inbox.sights(since), *await node.state.ledger.sights(since)]
    node.repeats.recall(sorted(sights, key=lambda sight: sight.at))
    await node.courier.load()


def start(node: Node, nursery: trio.Nursery) -> None:
    """The tasks that stand where time passes."""
    for task in (
        node.tick.run,
        node.links.run,
        node.pool.run,
        node.dispatcher.run,
        node.courier.run,
        node.members.run,
        node.sources.run,
        node.sending.run,
        node.pulling.run,
    ):
        nursery.start_soon(task)


def _locator(settings: Settings, address_filter: AddressFilter, names: Dns) -> Locator:
    network, resolve = settings.network, settings.resolve
    static = {domain: services.places for domain, services in resolve.static.items()}
    policy = TlsPolicy(frozenset(network.require_tls), frozenset(network.clear_fallback))
    return Locator(address_filter, names, static=static, literals=network.literals, policy=policy)


def _trust(settings: Settings) -> Trust:
    """The system's authorities are read when the first TLS service is met, a file of our own now."""
    if not settings.network.ca:
        return system_trust
    context = system_context()
    believe(context, settings.path(settings.network.ca))
    return lambda: context


def _certificates(settings: Settings, log: Log) -> Certificates | None:
    paths = [(pair.domains, settings.path(pair.certificate), settings.path(pair.key)) for pair in settings.tls]
    pairs = [Pair(domains, cert, key, partial(load_pair, cert, key)) for domains, cert, key in paths]
    return Certificates(pairs, log) if pairs else None


def _tells_tls(settings: Settings) -> Callable[[str], bool]:
    """Whether our notifications may say of a store's name that it serves TLS: it must have a certificate here."""
    named = {domain for pair in settings.tls for domain in pair.domains} if settings.listen.msrap_tls else set()
    return lambda store: store in named


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
