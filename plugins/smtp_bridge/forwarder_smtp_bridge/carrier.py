"""Targets without an agent, by the smarthost (bridges.md 5): what the core owes becomes one SMTP message.

* Nothing inside is touched. A native message gets two lines in front, as a gateway must (RFC 5321 3.7.2).
* The envelope sender is a return path of ours, so whatever fails comes back to the row that owes it.
* Later is 5 minutes doubling to 4 hours; after `retry` what was later is never.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import trio

from forwarder.bridges import Carried, Gone, Later, Load, Never, Taken
from forwarder.model import Mailbox, handle
from forwarder.plugin import Ports
from forwarder_smtp_bridge.fates import Fate, Refused, Sent
from forwarder_smtp_bridge.headers import HEAD, way_of
from forwarder_smtp_bridge.options import SmtpOut
from forwarder_smtp_bridge.returns import Outgoing, ReturnPaths
from forwarder_smtp_bridge.smarthost import Smarthost

FIRST, LONGEST = timedelta(minutes=5), timedelta(hours=4)
BODY_MOST = 1 << 31
REFUSED, LOOP, EXPIRED = 49, 50, 53


class Carrier:
    """bridges.Carry."""

    def __init__(self, options: SmtpOut, paths: ReturnPaths, smarthost: Smarthost, ports: Ports) -> None:
        self._options = options
        self._paths = paths
        self._smarthost = smarthost
        self._ports = ports

    async def __call__(self, load: Load, /) -> Mapping[Mailbox, Carried]:
        if self._ports.now() - load.since > self._options.retry:
            return dict.fromkeys(load.to, Never(REFUSED, "given up: it could not be sent in all the time it had"))
        file = self._ports.scratch / secrets.token_hex(16)
        try:
            await self._fetch(load, file)
            return await self._send(load, file)
        except Gone:  # withdrawn, or dealt with by somebody else: there is nothing to be carried any more
            return dict.fromkeys(load.to, Never(EXPIRED, "its sender has withdrawn it"))
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: file.unlink(missing_ok=True))

    async def _fetch(self, load: Load, file: Path) -> None:
        """The message, to a file of ours. Raises Gone, PeerError, OSError."""
        async with load.body(BODY_MOST) as slices, await trio.open_file(file, "xb") as spool:
            async for octets in slices:
                await spool.write(octets)

    async def _send(self, load: Load, file: Path) -> Mapping[Mailbox, Carried]:
        answers: dict[Mailbox, Carried] = {}
        async with await trio.open_file(file, "rb") as spool:
            delivered = way_of(await spool.read(HEAD)).delivered
        to = [mailbox for mailbox in load.to if load.returns is None or str(mailbox).lower() not in delivered]
        answers.update(dict.fromkeys((m for m in load.to if m not in to), Never(LOOP, "it was delivered there before")))
        if to:
            fates = await self._smarthost.carry(
                self._sender(load),
                to,
                lambda: file.open("rb"),
                native=load.returns is None,
                front=self._front(load) if load.returns is None else b"",
            )
            answers.update({mailbox: self._carried(load, fate) for mailbox, fate in fates.items()})
        return answers

    def _sender(self, load: Load) -> str:
        if load.returns is None:
            return self._paths.envelope_sender(Outgoing("native", load.number))
        return self._paths.envelope_sender(Outgoing("smtp", load.number, load.returns, load.local))

    def _front(self, load: Load) -> bytes:
        """What a gateway adds: for whom it was, and where it came from."""
        n = load.notification
        store, account = _printable(n.store), _printable(n.sender)
        received = (
            f"Received: from {store} (im2000 {account})\r\n"
            f"\tby {self._ports.node} with IM2000 id {handle(n.identifier)};\r\n"
            f"\t{format_datetime(self._ports.now())}\r\n"
        )
        return f"Delivered-To: {_printable(str(n.original or n.recipient))}\r\n{received}".encode()

    def _carried(self, load: Load, fate: Fate) -> Carried:
        match fate:
            case Sent():
                return Taken(self._options.settle if load.returns is None else timedelta(0))
            case Refused(code, status, text):
                return Never(REFUSED, f"{code} {status} {text}")
            case _:
                return Later(later(self._ports.now(), load.tries), f"{fate.code} {fate.status} {fate.text}")


def later(now: datetime, tries: int) -> datetime:
    """After so many tries that failed before."""
    wait: timedelta = FIRST * (1 << min(tries, 10))
    return now + min(wait, LONGEST)


def _printable(text: str) -> str:
    return "".join(c if "!" <= c <= "~" and c not in "()<>;" else "?" for c in text)


def parts(smarthost: str) -> Sequence[str]:
    """Host and port."""
    host, _, port = smarthost.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port
