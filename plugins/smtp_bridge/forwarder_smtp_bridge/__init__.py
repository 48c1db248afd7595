"""Bridges to today's mail: SMTP comes in by LMTP, goes out by a smarthost; Postfix asks who exists and who may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import trio

from forwarder.bridges import (
    CarrierSpec,
    Carry,
    DomainFacts,
    Service,
    ServicePorts,
    ServiceSpec,
    no_doubts,
    nobody,
    nowhere,
)
from forwarder.plugin import Ports, hookimpl
from forwarder_smtp_bridge.asking import ask
from forwarder_smtp_bridge.carrier import Carrier
from forwarder_smtp_bridge.entrance import Entrance
from forwarder_smtp_bridge.homecoming import Homecoming
from forwarder_smtp_bridge.listening import Listening
from forwarder_smtp_bridge.looking import Looking
from forwarder_smtp_bridge.options import (
    BridgeOptions,
    doubts,
    incoming_accounts,
    incoming_domains,
    objections,
    submitting_accounts,
)
from forwarder_smtp_bridge.postfix import postfix_auth, postfix_map
from forwarder_smtp_bridge.reporting import Reporting
from forwarder_smtp_bridge.returns import ReturnPaths, load_secrets
from forwarder_smtp_bridge.serve import Delivery, Lmtp
from forwarder_smtp_bridge.smarthost import Smarthost
from forwarder_smtp_bridge.submission import Departure

TABLE = "bridge"
CARRIER = "smtp"

Listeners = Sequence[trio.SocketListener]

_smarthosts: WeakValueDictionary[tuple[str, str], Smarthost] = WeakValueDictionary()


def return_paths(options: BridgeOptions, ports: Ports) -> ReturnPaths | None:
    said = options.returns
    if said is None:
        return None
    secrets = load_secrets(ports.path(said.secret_file))
    return ReturnPaths(said.domain, secrets, now=ports.now, days=said.days, hash_length=said.hash)


def smarthost_of(options: BridgeOptions, ports: Ports) -> Smarthost | None:
    """One for a node, whoever asks: mail and reports share its connections."""
    if options.smtp_out is None:
        return None
    key = (ports.node, options.smtp_out.smarthost)
    found = _smarthosts.get(key)
    if found is None:
        found = _smarthosts[key] = Smarthost(*options.smtp_out.place, name=ports.node, log=ports.log)
    return found


def looking_of(options: BridgeOptions, ports: ServicePorts) -> Looking:
    return Looking(ports.look, return_paths(options, ports), ports.log, options.fixed_account)


def world_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    paths = return_paths(options, ports)
    homecoming = Homecoming(ports, paths, options.smtp_in.any_owner) if paths else None
    entrance = Entrance(options.smtp_in, ports, looking_of(options, ports), homecoming)
    return _lmtp_service(options, ports, listeners, entrance)


def submission_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    departure = Departure(options.submission, options.smtp_in, ports, looking_of(options, ports))
    return _lmtp_service(options, ports, listeners, departure)


def _lmtp_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners, delivery: Delivery) -> Service:
    said = options.smtp_in
    sessions = Lmtp(ports.node, delivery, ports.log, sessions=said.sessions, max_size=said.max_size)
    return Listening(listeners, sessions.serve, sessions.drain)


def map_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    known = looking_of(options, ports)
    return Listening(listeners, postfix_map(known.access, known.logins, ports.log).serve)


def auth_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    return Listening(listeners, postfix_auth(ports.verify, ports.log).serve)


def reports_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    return Reporting(ports, smarthost_of(options, ports))


def takes(facts: DomainFacts) -> bool:
    """RFC 5321 5.1: an MX, or for want of one an address; not what says that it takes no mail (RFC 7505)."""
    return not facts.null_mx and bool(facts.mx or facts.address)


def carry(options: BridgeOptions, ports: Ports) -> Carry:
    paths, smarthost = return_paths(options, ports), smarthost_of(options, ports)
    assert paths is not None
    assert smarthost is not None
    assert options.smtp_out is not None
    return Carrier(options.smtp_out, paths, smarthost, ports, options.smtp_in.max_size, options.fixed_account)


def _via(options: BridgeOptions) -> str:
    return options.smtp_out.smarthost if options.smtp_out else ""


Make = Callable[[BridgeOptions, ServicePorts, Listeners], Service]


def _service(name: str, make: Make, *, always: bool = False) -> ServiceSpec[BridgeOptions]:
    accounts = {"lmtp": incoming_accounts, "submission": submitting_accounts}.get(name, nobody)
    domains = incoming_domains if name == "lmtp" else nowhere
    doubted = doubts if name in ("lmtp", "submission") else no_doubts
    return ServiceSpec(
        *(name, TABLE, BridgeOptions, make, always),
        objections=objections,
        accounts=accounts,
        domains=domains,
        inner=True,
        doubts=doubted,
    )


@hookimpl
def forwarder_services() -> Sequence[ServiceSpec[BridgeOptions]]:
    return [
        _service("lmtp", world_service),
        _service("submission", submission_service),
        _service("postfix_map", map_service),
        _service("postfix_auth", auth_service),
        _service("smtp_reports", reports_service, always=True),
    ]


@hookimpl
def forwarder_carriers() -> Sequence[CarrierSpec[BridgeOptions]]:
    return [
        CarrierSpec(
            name=CARRIER,
            table=TABLE,
            options=BridgeOptions,
            offered=lambda options: options.smtp_out is not None,
            takes=takes,
            via=_via,
            make=carry,
            objections=objections,
            ask=ask,
        )
    ]
