"""The parts of a node that other parts are built on, and what settings say to several of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import trio

from forwarder.agent.courier import Courier
from forwarder.agent.decide import Decider
from forwarder.agent.dispatch import Dispatcher
from forwarder.agent.limits import Strikes, SubmitterLimit
from forwarder.agent.members import Members
from forwarder.agent.perform import Performer
from forwarder.agent.repeats import Repeats
from forwarder.agent.routes import Routes
from forwarder.config.accounts import AccountFiles
from forwarder.config.addresses import AddressFiles
from forwarder.config.keys import SigningKeys
from forwarder.config.settings import Settings
from forwarder.daemon.keys import OwnKeys
from forwarder.daemon.naming import Naming
from forwarder.daemon.reach import Reach
from forwarder.daemon.state import State
from forwarder.daemon.strategies import InstalledStrategies
from forwarder.model import Peer
from forwarder.net.address_filter import may_log_in
from forwarder.net.sources import StoreSources
from forwarder.plugin import Log
from forwarder.plugins import Plugins
from forwarder.ports import Clock
from forwarder.services.msoap import StoreRules
from forwarder.services.msrap import Msrap
from forwarder.storage.returns import Returns
from forwarder.store.pulling import Pulling


@dataclass(frozen=True, slots=True)
class Files:
    """What the configuration folder says, as it is at each moment."""

    addresses: AddressFiles
    accounts: AccountFiles
    naming: Naming
    keys: SigningKeys
    own_keys: OwnKeys


@dataclass(frozen=True, slots=True)
class Ground:
    """What every other part stands on."""

    settings: Settings
    plugins: Plugins
    state: State
    files: Files
    way: Reach
    submitters: SubmitterLimit
    repeats: Repeats
    returns: Returns
    strikes: Strikes
    nursery: trio.Nursery
    clock: Clock
    log: Log


@dataclass(frozen=True, slots=True)
class Store:
    """Our message store, but for its sending; and the stores of others as we read them."""

    msrap: Msrap
    sources: StoreSources
    pulling: Pulling


@dataclass(frozen=True, slots=True)
class Agent:
    """Receiving and forwarding."""

    submitters: SubmitterLimit
    repeats: Repeats
    courier: Courier
    members: Members
    dispatcher: Dispatcher
    performer: Performer
    routes: Routes
    decider: Decider
    strategies: InstalledStrategies


def rules(settings: Settings) -> StoreRules:
    """What one originator may have in our store."""
    return StoreRules(seconds(settings.store.lifetime), settings.store.max_size, settings.store.quota)


def clear_login(settings: Settings) -> Callable[[Peer], bool]:
    """Whether this peer may send a password on the transport it came by (protocol 7.18)."""
    return lambda peer: peer.tls or may_log_in(peer.address, settings.network.clear_login)


def seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
