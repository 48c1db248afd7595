"""Today's mail around the daemon: an MTA that brings letters by LMTP and comes again, a smarthost, readers by POP3.

The MTA does as Postfix: what was answered 2xx or 5xx is done with, after all else, no answer above all, the very same
octets come again. The smarthost keeps what it took, octet for octet, and now and then loses its last answer.
"""

from __future__ import annotations

import random
from types import TracebackType

import trio

from forwarder.model import Endpoint

from .house import PASSWORD, House
from .letters import BAD, BOX, LETTERS, NO, OUT, REFUSED_BEYOND, SENDER, Letter, Letters
from .line import LOST

PAUSE = 0.01
LETTERS_EACH_LIFE = 6
TROUBLE = 0.15


class Wire:
    """Lines over a stream. Ends with what is in LOST."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._in = bytearray()

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await trio.aclose_forcefully(self._stream)

    async def line(self) -> bytes:
        while (end := self._in.find(b"\r\n")) < 0:
            data = await self._stream.receive_some(65536)
            if not data:
                raise trio.BrokenResourceError("it ended before the answer")
            self._in += data
        line = bytes(self._in[:end])
        del self._in[: end + 2]
        return line

    async def lines(self) -> bytes:
        """Up to the line with a dot, dots undone."""
        found = bytearray()
        while (line := await self.line()) != b".":
            found += line.removeprefix(b".") + b"\r\n"
        return bytes(found)

    async def send(self, octets: bytes) -> None:
        await self._stream.send_all(octets)

    async def reply(self) -> int:
        """A reply's code, of as many lines as it has."""
        while (line := await self.line())[3:4] == b"-":
            pass
        return int(line[:3])

    async def ask(self, line: str) -> int:
        await self.send(line.encode() + b"\r\n")
        return await self.reply()


def dotted(octets: bytes) -> bytes:
    """As it goes over the wire, the end included."""
    return b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in octets.split(b"\r\n")[:-1]) + b".\r\n"


class Mta:
    """The world's mail. calm: as `Clients.calm`."""

    def __init__(self, house: House, letters: Letters, chance: random.Random) -> None:
        self._house = house
        self._letters = letters
        self._chance = chance
        self._out: set[int] = set()
        self._new = 0
        self.calm = False

    def wake(self) -> None:
        """A life begins."""
        self._out.clear()
        self._new = LETTERS_EACH_LIFE

    async def run(self) -> None:
        async with Wire(await trio.open_unix_socket(str(self._house.lmtp))) as wire:
            await wire.reply()
            await wire.ask("LHLO mta.world.test")
            while True:
                letter = self._next()
                if letter is None:
                    await trio.sleep(PAUSE)
                    continue
                self._out.add(letter.number)
                await self._deliver(wire, letter)
                self._out.discard(letter.number)

    def _next(self) -> Letter | None:
        now = self._letters.truth.control.now
        waiting = [one for one in self._letters.every.values() if one.left and one.due <= now]
        waiting = [one for one in waiting if one.number not in self._out]
        if waiting:
            return self._chance.choice(waiting)
        if not self._new or self.calm:
            return None
        self._new -= 1
        to = [self._chance.choice(LETTERS)]
        if self._chance.random() < 0.3:
            to = self._chance.sample((BOX, OUT, self._chance.choice((BAD, NO))), 2)
        return self._letters.write(tuple(to))

    async def _deliver(self, wire: Wire, letter: Letter) -> None:
        """One transaction for those whom it owes it; which of them come together may be different next time."""
        to = letter.left[: self._chance.randrange(1, 3)]
        assert await wire.ask(f"MAIL FROM:<{SENDER}>") == 250
        for one in to:
            if (code := await wire.ask(f"RCPT TO:<{one}>")) != 250:
                self._letters.truth.fault("RCPT", one, "was answered", code)
                return
        await wire.ask("DATA")
        await wire.send(dotted(letter.octets))
        for one in to:
            self._letters.told(letter, one, await wire.reply())


class Smarthost:
    """Takes mail for smtp.test. calm: without trouble of its own."""

    def __init__(self, letters: Letters, chance: random.Random) -> None:
        self._letters = letters
        self._chance = chance
        self.calm = False

    def _trouble(self) -> bool:
        return not self.calm and self._chance.random() < TROUBLE

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with Wire(stream) as wire:
                await self._talk(wire)
        except LOST:
            return

    async def _talk(self, wire: Wire) -> None:
        life = self._letters.truth.life  # what is still on its way when the daemon dies was sent in its life
        await wire.send(b"220 smtp.test ESMTP\r\n")
        sender, to = "", list[str]()
        while True:
            line = (await wire.line()).decode()
            match line[:4].upper():
                case "EHLO":
                    pipelining = b"250-PIPELINING\r\n" if self._chance.random() < 0.5 else b""
                    await wire.send(b"250-smtp.test\r\n" + pipelining + b"250-8BITMIME\r\n250 SIZE 99999999\r\n")
                case "MAIL":
                    sender, to = _path(line), []
                    await wire.send(b"250 ok\r\n")
                case "RCPT":
                    await wire.send(self._rcpt(_path(line), to))
                case "DATA":
                    await wire.send(b"354 go on\r\n")
                    if not await self._take(wire, sender, to, life):
                        return
                case "QUIT":
                    await wire.send(b"221 bye\r\n")
                    return
                case _:
                    to.clear()
                    await wire.send(b"250 ok\r\n")

    def _rcpt(self, mailbox: str, to: list[str]) -> bytes:
        if mailbox == REFUSED_BEYOND:
            return b"550 5.1.1 no such mailbox\r\n"
        if self._trouble():
            return b"450 4.2.1 not now\r\n"
        to.append(mailbox)
        return b"250 ok\r\n"

    async def _take(self, wire: Wire, sender: str, to: list[str], life: int) -> bool:
        octets, lost = await wire.lines(), self._trouble()
        for mailbox in to:
            self._letters.arrived(sender, mailbox, octets, life, heard=not lost)
        if not lost:
            await wire.send(b"250 taken\r\n")
        return not lost


def _path(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


async def serve_smarthost(smarthost: Smarthost, nursery: trio.Nursery) -> Endpoint:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, smarthost.serve, [listener])
    address, port = listener.socket.getsockname()[:2]
    return Endpoint(address, port)


class PopReader:
    """An account that reads the role `box` and is done with most of what it has read."""

    def __init__(self, house: House, letters: Letters, chance: random.Random, account: str) -> None:
        self._house = house
        self._letters = letters
        self._chance = chance
        self._account = account
        self.calm = False

    async def run(self) -> None:
        while True:
            await trio.sleep(5 * PAUSE * self._chance.random())
            closed = frozenset(self._letters.closed)
            async with Wire(await trio.open_tcp_stream(self._house.address, self._house.pop3)) as wire:
                await wire.line()
                await self._session(wire, closed)

    async def _session(self, wire: Wire, closed: frozenset[str]) -> None:
        for line in (f"USER {self._account}", f"PASS {PASSWORD}"):
            if not await self._said(wire, line):
                return
        await self._said(wire, "UIDL")
        mine: list[str] = []
        for line in (await wire.lines()).decode().splitlines():
            number, uidl = line.split()
            self._letters.listed(uidl, closed)
            if await self._said(wire, f"RETR {number}"):
                self._letters.had(uidl, await wire.lines())
                if (self.calm or self._chance.random() < 0.7) and await self._said(wire, f"DELE {number}"):
                    mine.append(uidl)
        if await self._said(wire, "QUIT"):
            self._letters.closed |= dict.fromkeys(mine, self._letters.truth.life)
            self._letters.truth.checked["letters done with"] += len(mine)

    async def _said(self, wire: Wire, line: str) -> bool:
        """Whether it went well."""
        await wire.send(line.encode() + b"\r\n")
        return (await wire.line()).startswith(b"+OK")
