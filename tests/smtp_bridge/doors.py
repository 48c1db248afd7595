"""The bridge on doors in memory: an MTA's LMTP client, and what the node and the smarthost have seen of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import trio
import trio.testing

from forwarder.bridges import Answer, ServicePorts
from forwarder.testing import MemoryCarryFailed, MemoryLog, MemoryLook, MemorySpool, MemorySubmit, TurnedClock
from forwarder.testing import make_service_ports as in_memory
from forwarder_smtp_bridge.entrance import Entrance
from forwarder_smtp_bridge.homecoming import Homecoming
from forwarder_smtp_bridge.looking import Looking
from forwarder_smtp_bridge.options import BridgeOptions
from forwarder_smtp_bridge.postfix import postfix_map
from forwarder_smtp_bridge.returns import ReturnPaths
from forwarder_smtp_bridge.serve import Delivery, Lmtp
from forwarder_smtp_bridge.submission import Departure

SRS = "srs.pobox.example"
SECRET = b"a secret of ours, long"
TEA = b"Received: from x.example by mx.pobox.example; now\r\nSubject: tea\r\n\r\nAt four.\r\n"


class Node:
    """The doors of a node: what they answer is set, what they were told is read. wrong: a fault of every spool."""

    def __init__(self, answers: Mapping[str, Answer | Exception] | None = None, **options: Any) -> None:
        self.options = BridgeOptions.model_validate(options)
        self.look = MemoryLook(answers)
        self.submit = MemorySubmit()
        self.carry_failed = MemoryCarryFailed()
        self.log = MemoryLog()
        self.now = TurnedClock()
        self.room = 1 << 40
        self.spools: list[MemorySpool] = []
        self.wrong: OSError | None = None
        self.paths = ReturnPaths(SRS, [SECRET], now=self.now)
        self.ports: ServicePorts = in_memory(
            look=self.look,
            submit=self.submit,
            carry_failed=self.carry_failed,
            log=self.log,
            now=self.now,
            spool=self._spool,
            room=lambda: self.room,
        )
        self.looking = Looking(self.look, self.paths, self.log, self.options.fixed_account)

    def _spool(self) -> MemorySpool:
        self.spools.append(MemorySpool(self.wrong))
        return self.spools[-1]

    @property
    def entrance(self) -> Entrance:
        homecoming = Homecoming(self.ports, self.paths, self.options.smtp_in.any_owner)
        return Entrance(self.options.smtp_in, self.ports, self.looking, homecoming)

    @property
    def departure(self) -> Departure:
        return Departure(self.options.submission, self.options.smtp_in, self.ports, self.looking)

    @property
    def taken(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Account, recipients and envelope sender of each submission."""
        return [(said.account, tuple(map(str, said.to)), said.returns) for said, _ in self.submit.taken]

    def logged(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.log.lines if name == event]

    @property
    def left(self) -> list[MemorySpool]:
        """Spools that are neither gone nor submitted."""
        submitted = [said.spool for said, _ in self.submit.taken]
        return [spool for spool in self.spools if not spool.gone and spool not in submitted]


class Mta:
    """An LMTP client, by the letter: one line for each recipient after the dot, or none and the end."""

    def __init__(self, nursery: trio.Nursery, delivery: Delivery, log: MemoryLog) -> None:
        lmtp = Lmtp("node.example", delivery, log, sessions=10, max_size=1 << 20)
        self._stream, theirs = trio.testing.memory_stream_pair()
        self._unread = b""
        nursery.start_soon(lmtp.serve, theirs)

    async def ask(self, line: str) -> str:
        await self._stream.send_all(line.encode() + b"\r\n")
        return await self.line()

    async def line(self) -> str:
        """ "" at the end."""
        while b"\n" not in self._unread:
            octets = await self._stream.receive_some()
            if not octets:
                assert not self._unread
                return ""
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\r\n")
        return line.decode()

    async def greet(self) -> None:
        await self.line()
        await self._stream.send_all(b"LHLO mta.example\r\n")
        while (await self.line())[3] == "-":
            pass

    async def hand_over(self, sender: str, to: Sequence[str], octets: bytes = TEA) -> list[str]:
        """The line of each recipient, in order; "" where the session was closed without one."""
        await self.greet()
        mail = await self.ask(f"MAIL FROM:<{sender}>")
        if not mail.startswith("250"):
            return [mail] * len(to)
        said = {one: await self.ask(f"RCPT TO:<{one}>") for one in to}
        taken = [one for one in to if said[one].startswith("250")]
        if taken:
            assert octets.endswith(b"\r\n") or not octets
            assert (await self.ask("DATA")).startswith("354")
            await self._stream.send_all(octets.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            for one in taken:
                said[one] = await self.line()
        return [said[one] for one in to]


async def handed_over(
    node: Node, sender: str, *to: str, octets: bytes = TEA, delivery: Delivery | None = None
) -> list[str]:
    """What an MTA hears that hands this over, in a session of its own."""
    async with trio.open_nursery() as nursery:
        lines = await Mta(nursery, delivery or node.entrance, node.log).hand_over(sender, to, octets)
        nursery.cancel_scope.cancel()
    return lines


async def map_says(node: Node, address: str) -> str:
    """What Postfix hears from the table `access`."""
    door = postfix_map(node.looking.access, node.looking.logins, node.log)
    mine, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, theirs)
        asked = f"access {address}".encode()
        await mine.send_all(b"%d:%s," % (len(asked), asked))
        said = b""
        while not said.endswith(b","):
            said += await mine.receive_some()
        nursery.cancel_scope.cancel()
    return said.partition(b":")[2][:-1].decode()


def numbers(lines: Sequence[str]) -> Iterator[str]:
    """Code and enhanced code of each."""
    return (" ".join(line.split()[:2]) for line in lines)
