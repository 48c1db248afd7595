"""The agent of a node, put together: routes and plans, what is owed and carried, the dispatcher in front of all.

The dispatcher hands leaves back to itself, the courier and the errands hand them to it: these ends are tied last.
"""

from __future__ import annotations

from forwarder.agent.carriage import Carriage
from forwarder.agent.courier import Courier
from forwarder.agent.decide import Decider
from forwarder.agent.dispatch import Dispatcher
from forwarder.agent.errands import Errands
from forwarder.agent.limits import PullLimit
from forwarder.agent.marks import Marks
from forwarder.agent.members import Members
from forwarder.agent.owed import Retry
from forwarder.agent.perform import Inner, Performer
from forwarder.agent.routes import Routes
from forwarder.agent.screens import Screens
from forwarder.agent.story import Story
from forwarder.config.doors import Doors
from forwarder.daemon.bridging import failed, hosts, sender_of
from forwarder.daemon.keys import TextsOrOwn
from forwarder.daemon.parts import Agent, Ground, Store, seconds
from forwarder.daemon.state import SCRATCH
from forwarder.daemon.strategies import InstalledStrategies, PluginSource
from forwarder.net.texts import TextRecords


def receiving(ground: Ground, store: Store, doors: Doors) -> Agent:
    """Raises ValueError for a plugin's bad table."""
    files, state = ground.files, ground.state
    strategies = _strategies(ground, store)
    routes = _routes(ground, strategies)
    marks = Marks(ground.repeats, files.addresses, ground.clock, name=ground.settings.node.name)
    errands = _errands(ground, store, strategies)
    courier = _courier(ground, store, strategies, errands, marks, doors)
    performer = _performer(ground, routes, courier, marks, lambda octets, told: dispatcher.receive_inner(octets, told))
    decider = Decider(routes, strategies)
    dispatcher = _dispatcher(ground, routes, strategies, decider, performer)
    members = Members(
        *(routes, decider, courier, state.ledger, state.copies, store.sources, files.addresses),
        *(ground.clock, ground.log),
    )
    courier.inner, errands.perform, errands.pulled = dispatcher.receive_inner, dispatcher.perform, members.pulled
    return Agent(
        *(ground.submitters, ground.repeats, courier, members, dispatcher, performer, routes, decider, strategies)
    )


def _strategies(ground: Ground, store: Store) -> InstalledStrategies:
    settings, way = ground.settings, ground.way
    records = TextsOrOwn(ground.files.own_keys, TextRecords(way.names, strangers=way.strangers))
    return InstalledStrategies(
        *(ground.plugins, PluginSource(store.sources), way.connect, records, ground.clock),
        *(settings.node.name, settings.path, settings.state / SCRATCH),
    )


def _routes(ground: Ground, strategies: InstalledStrategies) -> Routes:
    settings = ground.settings
    return Routes(
        ground.files.addresses,
        strategies,
        ground.state.ledger,
        name=settings.node.name,
        mark=ground.repeats.mark,
        depth=settings.limits.depth,
        targets=settings.limits.targets,
    )


def _errands(ground: Ground, store: Store, strategies: InstalledStrategies) -> Errands:
    retry = _retry(ground)
    errands = Errands(
        *(ground.nursery, ground.way.tick, store.pulling, strategies, ground.files.addresses, ground.state.ledger),
        *(retry.wait, retry.give_up, ground.clock, ground.log),
    )
    errands.unpin = store.sources.unpin
    return errands


def _courier(
    ground: Ground, store: Store, strategies: InstalledStrategies, errands: Errands, marks: Marks, doors: Doors
) -> Courier:
    files, way, clock, returns = ground.files, ground.way, ground.clock, ground.returns
    carriers = {spec.name: spec.make(options, strategies.ports(spec.name)) for spec, options in doors.carriers}
    carriage = Carriage(
        *(carriers, ground.nursery, way.tick, store.sources),
        *(sender_of(files, returns), hosts(files), clock, ground.log),
    )
    story = Story(ground.state.trace, ground.log, clock)
    courier = Courier(
        *(way.links, ground.state.ledger, store.sources, errands, marks, story, carriage, _retry(ground), clock)
    )
    courier.failed = failed(files, returns, ground.nursery)
    return courier


def _performer(ground: Ground, routes: Routes, courier: Courier, marks: Marks, inner: Inner) -> Performer:
    limits, state, way = ground.settings.limits, ground.state, ground.way
    pulls = PullLimit(limits.waiting, limits.waiting_per_sender, ground.submitters.exempt, ground.strikes)
    courier.pull_ended = pulls.ended
    return Performer(
        *(routes, way.links, ground.repeats, courier, marks, state.inbox, state.ledger, way.tick, ground.clock, inner),
        redirect_require_tls=ground.settings.network.redirect_require_tls,
        pulls=pulls,
        struck=ground.strikes,
    )


def _dispatcher(
    ground: Ground, routes: Routes, strategies: InstalledStrategies, decider: Decider, performer: Performer
) -> Dispatcher:
    screens = Screens(strategies.screens(ground.settings.plugins.options), ground.log)
    return Dispatcher(
        *(ground.submitters, routes, ground.repeats, screens, decider, performer, ground.state.trace),
        *(ground.way.tick, ground.nursery, ground.clock, ground.log),
        literals=ground.settings.network.literals,
        struck=ground.strikes,
    )


def _retry(ground: Ground) -> Retry:
    said = ground.settings.retry
    return Retry(*map(seconds, (said.first, said.longest, said.give_up)))
