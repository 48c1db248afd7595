"""Bridges to today's mail: SMTP comes in by LMTP, goes out by a smarthost; Postfix asks who exists and who may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from forwarder.bridges import CarrierSpec, Carry, DomainFacts, Service, ServicePorts, ServiceSpec
from forwarder.plugin import Ports, hookimpl
from forwarder_smtp_bridge.carrier import Carrier, parts
from forwarder_smtp_bridge.entrance import Entrance
from forwarder_smtp_bridge.homecoming import Homecoming
from forwarder_smtp_bridge.looking import Looking
from forwarder_smtp_bridge.options import BridgeOptions, objections
from forwarder_smtp_bridge.postfix import postfix_auth, postfix_map
from forwarder_smtp_bridge.reporting import Reporting
from forwarder_smtp_bridge.returns import ReturnPaths, load_secrets
from forwarder_smtp_bridge.serve import Delivery, Lmtp
from forwarder_smtp_bridge.serving import Serving
from forwarder_smtp_bridge.smarthost import Smarthost
from forwarder_smtp_bridge.submission import Departure

TABLE = "bridge"
CARRIER = "smtp"

Listeners = Sequence[trio.SocketListener]


def return_paths(options: BridgeOptions, ports: Ports) -> ReturnPaths | None:
    said = options.returns
    if said is None:
        return None
    secrets = load_secrets(ports.path(said.secret_file))
    return ReturnPaths(said.domain, secrets, now=ports.now, days=said.days, hash_length=said.hash)


def smarthost(options: BridgeOptions, ports: Ports) -> Smarthost | None:
    if options.smtp_out is None:
        return None
    host, port = parts(options.smtp_out.smarthost)
    return Smarthost(host, int(port), name=ports.node, log=ports.log)


def looking(options: BridgeOptions, ports: ServicePorts) -> Looking:
    return Looking(ports.look, return_paths(options, ports), options.returns.domain if options.returns else None)


def lmtp(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    paths, account = return_paths(options, ports), options.smtp_in.account
    owner = account if isinstance(account, str) else next(iter(account.values()), "smtpgateway")
    homecoming = Homecoming(ports, paths, owner) if paths else None
    return _lmtp(options, ports, listeners, Entrance(options.smtp_in, ports, looking(options, ports), homecoming))


def submission(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    delivery = Departure(options.submission, options.smtp_in, ports, looking(options, ports))
    return _lmtp(options, ports, listeners, delivery)


def _lmtp(options: BridgeOptions, ports: ServicePorts, listeners: Listeners, delivery: Delivery) -> Service:
    said = options.smtp_in
    sessions = Lmtp(ports.node, delivery, ports.log, sessions=said.sessions, max_size=said.max_size)
    return Serving(listeners, sessions.serve, sessions.drain)


def map_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    known = looking(options, ports)
    return Serving(listeners, postfix_map(known.access, known.logins, ports.log).serve)


def auth_service(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    return Serving(listeners, postfix_auth(ports.verify, ports.log).serve)


def reports(options: BridgeOptions, ports: ServicePorts, listeners: Listeners) -> Service:
    return Reporting(ports, smarthost(options, ports))


def takes(facts: DomainFacts) -> bool:
    """RFC 5321 5.1: an MX, or for want of one an address; not what says that it takes no mail (RFC 7505)."""
    return not facts.null_mx and bool(facts.mx or facts.address)


def carry(options: BridgeOptions, ports: Ports) -> Carry:
    paths, host = return_paths(options, ports), smarthost(options, ports)
    assert paths is not None
    assert host is not None
    assert options.smtp_out is not None
    return Carrier(options.smtp_out, paths, host, ports)


def _via(options: BridgeOptions) -> str:
    return options.smtp_out.smarthost if options.smtp_out else ""


Make = Callable[[BridgeOptions, ServicePorts, Listeners], Service]


def _service(name: str, make: Make, *, always: bool = False) -> ServiceSpec[BridgeOptions]:
    return ServiceSpec(name, TABLE, BridgeOptions, make, always, objections)


@hookimpl
def forwarder_services() -> Sequence[ServiceSpec[BridgeOptions]]:
    return [
        _service("lmtp", lmtp),
        _service("submission", submission),
        _service("postfix_map", map_service),
        _service("postfix_auth", auth_service),
        _service("smtp_reports", reports, always=True),
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
        )
    ]
