"""What plugins that bridge to other mail get of this node: ports of their services, and whose a message was."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from forwarder.agent.carriage import Sender
from forwarder.bridges import ServicePorts
from forwarder.daemon.doors import carry_failed, look, service_ports, verify
from forwarder.daemon.parts import Agent, Files, Ground, Store, clear_login, rules
from forwarder.daemon.services import Opened, Services
from forwarder.model import Notification, Outcome, Peer, parse_domain
from forwarder.net.certificates import Certificates
from forwarder.ports import Debt
from forwarder.services.reading import Readings
from forwarder.services.submitting import Submitting
from forwarder.storage.reading import StoredReading
from forwarder.storage.returns import Returns
from forwarder.store.sending import Sending


def sender_of(files: Files, returns: Returns) -> Sender:
    """The envelope sender that a message came with."""

    async def sender(notification: Notification) -> str | None:
        """Only what lies in our own store can have come by other mail."""
        return await returns.sender(notification.identifier) if files.naming.ours(notification.store) else None

    return sender


def hosts(files: Files) -> Callable[[str], bool]:
    """Whether the domain of an envelope sender is hosted here."""

    def hosts(sender: str) -> bool:
        try:
            return files.addresses.hosted(parse_domain(sender.rpartition("@")[2]))
        except ValueError:
            return False

    return hosts


def failed(files: Files, returns: Returns, nursery: trio.Nursery) -> Callable[[Debt, Outcome], None]:
    """Our own store need not wait for its next repeat to hear that all have refused."""

    def failed(debt: Debt, outcome: Outcome) -> None:
        if files.naming.ours(debt.store):
            nursery.start_soon(_refused, returns, debt.key, outcome.code)

    return failed


async def _refused(returns: Returns, key: bytes, code: int) -> None:
    try:
        await returns.refused(key, code)
    except Exception as error:  # the disk: its next repeat will tell
        structlog.get_logger("forwarder").info("refusal not written", error=repr(error))


def bridging(
    ground: Ground,
    store: Store,
    agent: Agent,
    sending: Sending,
    certificates: Certificates | None,
    opened: Sequence[Opened],
) -> Services:
    """The services of plugins, each with its ports."""
    settings, state, files, returns = ground.settings, ground.state, ground.files, ground.returns
    submitting = Submitting(state.messages, returns, files.accounts, rules(settings))
    sending.heard = submitting.heard
    reading = StoredReading(state.inbox, state.ledger, state.messages)
    clear = clear_login(settings)
    readings = Readings(
        *(files.accounts, files.addresses, state.catalogue, state.inbox, reading, store.sources),
        *(clear, agent.courier.take, files.naming.store_of, ground.clock),
    )

    def ports(name: str) -> ServicePorts:
        return service_ports(
            agent.strategies.ports(name),
            look=look(agent.routes, agent.decider, ground.clock),
            verify=verify(files.accounts),
            login=readings,
            submitting=submitting,
            room=partial(_room, settings.state),
            returns=returns,
            carry_failed=carry_failed(agent.courier, state.ledger, sender_of(files, returns)),
            tls=certificates.context if certificates else None,
            clear_login=lambda address: clear(Peer(address)),
        )

    return Services(opened, ports)


def _room(folder: Path) -> int:
    """Octets that are free."""
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize
