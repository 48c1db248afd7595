"""What a service of a plugin gets of this daemon: the doors of bridges.py, over the rooms that do it for everybody."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from forwarder.agent.carriage import Sender
from forwarder.agent.courier import Courier
from forwarder.agent.decide import Decider
from forwarder.agent.explain import Explained, Explainer
from forwarder.agent.routes import Routes
from forwarder.bridges import Answer, CarryFailed, Failed, Look, Never, ServicePorts, Verify
from forwarder.model import Mailbox, Notification, Outcome, Route, ServiceLocation
from forwarder.plugin import Defer, PeerError, Ports, Refuse, Step, Tell
from forwarder.ports import Accounts, Broken, Clock, Ledger, NotOurs
from forwarder.services.reading import Readings
from forwarder.services.submitting import Submitting
from forwarder.storage.returns import Returns
from forwarder.wire.notification import decode_notification
from forwarder.wire.outcome import ACCEPTED, NOUSER, REDIRECTED, REFUSED, TEXTS

NOWHERE = Notification(ServiceLocation("unknown.invalid"), None, Mailbox("-", "invalid"), bytes(16), "-")


def look(routes: Routes, decider: Decider, clock: Clock) -> Look:
    """As a store that knows no redirect would meet it; where it has moved is told to whoever may know."""
    explainer = Explainer(routes, decider)

    async def look(mailbox: Mailbox) -> Answer:
        at = datetime.fromtimestamp(clock(), UTC)
        found = await explainer.explain(NOWHERE._replace(recipient=mailbox), at)
        if isinstance(found.answer, Broken):
            raise PeerError(f"{found.answer.file}: {found.answer.text}")
        if isinstance(found.answer, NotOurs):
            return Answer(REFUSED, "relaying to this domain is not for us", ours=False)
        if found.route is None:
            return Answer(NOUSER, "no such mailbox")
        today, of_2004 = found.stores
        return _answer(found.route, today, of_2004)

    return look


def _answer(route: Route, today: Explained, of_2004: Explained) -> Answer:
    senders = tuple(dict.fromkeys((*([route.owner] if route.owner else ()), *route.readers)))
    told = _only(today)
    if isinstance(told, Tell) and (_tells_smtp(route) or route.fallback is None):
        return Answer(REDIRECTED, "has moved", told.to if _tells_smtp(route) else (), senders)
    outcome = _outcome(of_2004)
    return Answer(outcome.code, outcome.text or TEXTS.get(outcome.code, ""), (), senders)


def _only(explained: Explained) -> Step | None:
    """What is done, if it is one thing: a Tell beside another step is a copy's address, and the mail is taken."""
    steps = explained.decision.plan.steps if explained.decision else ()
    return steps[0] if len(steps) == 1 else None


def _step(explained: Explained, kind: type) -> object:
    steps = explained.decision.plan.steps if explained.decision else ()
    return next((step for step in steps if isinstance(step, kind)), None)


def _tells_smtp(route: Route) -> bool:
    return any(getattr(options, "tell_smtp", False) for options in route.options.values())


def _outcome(explained: Explained) -> Outcome:
    if explained.outcome is not None:
        return explained.outcome
    refused, deferred = _step(explained, Refuse), _step(explained, Defer)
    if isinstance(refused, Refuse):
        return Outcome(refused.code, text=refused.text)
    if isinstance(deferred, Defer):
        return Outcome(deferred.code)
    refusals = [expansion.refusal for expansion in explained.expansions.values() if expansion.refusal]
    return refusals[0] if refusals else Outcome(ACCEPTED)


def verify(accounts: Accounts) -> Verify:
    async def verify(account: str, password: str, address: str) -> bool:
        found = await accounts.verify(account, password, address)
        return found is not None and "originate" in found.may

    return verify


def carry_failed(courier: Courier, ledger: Ledger, sender: Sender) -> CarryFailed:
    async def carry_failed(number: int, mailbox: Mailbox | None, answer: Never) -> Failed:
        named = mailbox is not None and courier.owes(number, mailbox)
        known = await courier.carry_failed(number, mailbox, answer)
        debt = await ledger.debt(number)
        return Failed(known, None if debt is None else await sender(decode_notification(debt.octets)), named)

    return carry_failed


def service_ports(
    ports: Ports,
    *,
    look: Look,
    verify: Verify,
    login: Readings,
    submitting: Submitting,
    room: Callable[[], int],
    returns: Returns,
    carry_failed: CarryFailed,
    tls: Callable[[], ssl.SSLContext] | None,
    clear_login: Callable[[str], bool],
) -> ServicePorts:
    return ServicePorts(
        *(ports.source, ports.log, ports.now, ports.connect, ports.texts, ports.node, ports.path),
        ports.scratch,
        look=look,
        verify=verify,
        login=login,
        spool=submitting.spool,
        room=room,
        submit=submitting.submit,
        failures=returns,
        carry_failed=carry_failed,
        tls=tls,
        clear_login=clear_login,
    )
