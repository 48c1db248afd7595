"""Targets without an agent, by the smarthost (bridges.md 5): what the core owes becomes one SMTP message.

* Nothing inside is touched. A native message gets two lines in front, as a gateway must (RFC 5321 3.7.2).
* The envelope sender is a return path of ours, so whatever fails comes back to the row that owes it.
* Later is 5 minutes doubling to 4 hours; after `retry` what was later is never.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from forwarder.bridges import Carried, Gone, Later, Load, Never, Taken
from forwarder.model import Mailbox, handle
from forwarder.plugin import Ports
from forwarder_smtp_bridge.draft import Draft
from forwarder_smtp_bridge.fates import Deferred, Fate, Refused, Sent
from forwarder_smtp_bridge.front import native_front
from forwarder_smtp_bridge.headers import Way, way_of
from forwarder_smtp_bridge.options import SmtpOut
from forwarder_smtp_bridge.returns import Outgoing, ReturnPaths
from forwarder_smtp_bridge.smarthost import Smarthost

FIRST, LONGEST = timedelta(minutes=5), timedelta(hours=4)
REFUSED, LOOP, EXPIRED = 49, 50, 53


class Carrier:
    """bridges.Carry. most: octets of a message, more the MTA would not take. account: the fixed one of submission, ""
    where there is none."""

    def __init__(
        self, options: SmtpOut, paths: ReturnPaths, smarthost: Smarthost, ports: Ports, most: int, account: str = ""
    ) -> None:
        self._options = options
        self._paths = paths
        self._smarthost = smarthost
        self._ports = ports
        self._most = most
        self._account = account

    async def __call__(self, load: Load, /) -> Mapping[Mailbox, Carried]:
        size = load.notification.size
        if size is not None and size > self._most:
            return dict.fromkeys(load.to, Never(REFUSED, f"it is too big: {size} octets, {self._most} go"))
        native = load.returns is None
        front = self._front(load) if native else b""
        draft = Draft(self._ports.scratch, front=front, return_path=native)
        try:
            async with load.body(self._most) as slices:
                async for octets in slices:
                    await draft.write(octets)
            return await self._send(load, draft, native=native, utf8=not front.isascii())
        except Gone:  # there is nothing to be carried any more, and nobody to be told
            return dict.fromkeys(load.to, Never(EXPIRED, "it is not there any more: withdrawn, or dealt with"))
        finally:
            await draft.close()

    async def _send(self, load: Load, draft: Draft, *, native: bool, utf8: bool) -> Mapping[Mailbox, Carried]:
        way = way_of(draft.head)
        loops = [mailbox for mailbox in load.to if not native and way.was_at(mailbox)]
        to = [mailbox for mailbox in load.to if mailbox not in loops]
        answers: dict[Mailbox, Carried] = dict.fromkeys(loops, Never(LOOP, "it was delivered there before"))
        if to:
            sender = self._paths.envelope_sender(_outgoing(load, self._account))
            letter = draft.finish()
            fates = await self._smarthost.carry(sender, to, letter, utf8=utf8 or _utf8(way, native=native))
            answers |= {mailbox: self._carried(load, fate, letter.changed) for mailbox, fate in fates.items()}
        return answers

    def _front(self, load: Load) -> bytes:
        n = load.notification
        ours = n.recipient.folded not in {mailbox.folded for mailbox in load.to}
        return native_front(
            n.recipient if ours else None,
            store=n.store,
            account=n.sender,
            node=self._ports.node,
            handle=handle(n.identifier),
            now=self._ports.now(),
        )

    def _carried(self, load: Load, fate: Fate, changed: int) -> Carried:
        match fate:
            case Sent():
                said = f"{changed} bare CR or LF replaced" if changed else ""
                return Taken(self._options.settle if load.returns is None else timedelta(0), said)
            case Refused():
                return Never(REFUSED, _said(fate))
            case Deferred():
                now = self._ports.now()
                if now - load.since > self._options.retry:
                    return Never(REFUSED, f"given up: {_said(fate)}")
                return Later(later(now, load.tries), _said(fate))


def _outgoing(load: Load, account: str) -> Outgoing:
    if load.returns is None:
        return Outgoing("native", load.number)
    submitted = bool(account) and load.notification.sender == account
    return Outgoing("submission" if submitted else "smtp", load.number, load.returns, load.local)


def _utf8(way: Way, *, native: bool) -> bool:
    """Whether SMTPUTF8 is to be asked for, beside what addresses need: as on the way in; else RFC 6532 rules."""
    return way.wide if native else way.asked_utf8


def _said(fate: Deferred | Refused) -> str:
    return f"{fate.code or ''} {fate.status} {fate.text}".strip()


def later(now: datetime, tries: int) -> datetime:
    """After so many tries that failed before."""
    wait: timedelta = FIRST * (1 << min(tries, 10))
    return now + min(wait, LONGEST)
