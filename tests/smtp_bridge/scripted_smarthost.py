"""A smarthost that follows a script, for tests: by the letter of RFC 5321, octet-exact, on a port of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from forwarder_smtp_bridge.octets import Letter, Stuffing
from forwarder_smtp_bridge.smarthost import Smarthost

OFFERS = b"250-smart.example\r\n250-SIZE 31457280\r\n250-8BITMIME\r\n250 SMTPUTF8"
PIPELINING = OFFERS.replace(b"250-SIZE", b"250-PIPELINING\r\n250-SIZE")
DROP, HANG = b"(drop)", b"(hang)"


@dataclass
class Script:
    """Answers by stage, the next for each time the stage is reached; then what a willing smarthost says."""

    offers: bytes = OFFERS
    answers: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    heard: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    sessions: int = 0
    open_sessions: int = 0
    most_at_once: int = 0
    reached: dict[str, trio.Event] = field(default_factory=lambda: defaultdict(trio.Event))
    waiting: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def received(self, count: int) -> list[bytes]:
        """The messages, once there are so many."""
        while len(self.messages) < count:
            await self.waiting.park()
        return self.messages

    def then(self, stage: str, *answers: bytes) -> None:
        self.answers[stage] += answers

    async def serve(self, stream: trio.SocketStream) -> None:
        self.sessions += 1
        self.open_sessions += 1
        self.most_at_once = max(self.most_at_once, self.open_sessions)
        try:
            await _Serving(self, stream).run()
        except trio.BrokenResourceError:
            pass
        finally:
            self.open_sessions -= 1
            await trio.aclose_forcefully(stream)


@dataclass
class _Serving:
    script: Script
    stream: trio.SocketStream
    unread: bytes = b""
    in_mail: bool = False
    recipients: int = 0

    async def run(self) -> None:
        if not await self._answer("connect", b"220 smart.example ESMTP"):
            return
        while (line := await self._until(b"\r\n")) is not None:
            command = line.decode()
            self.script.heard.append(command)
            verb = command[:4].upper()
            if (verb == "MAIL" and self.in_mail) or (verb == "RCPT" and not self.in_mail):
                await self.stream.send_all(b"503 5.5.1 out of order\r\n")
                continue
            stage = command if command in self.script.answers else verb
            said = await self._answer(stage, self._usual(verb))
            if not said or verb == "QUIT":
                return
            self.in_mail = verb not in ("EHLO", "RSET") and (self.in_mail or said.startswith(b"250"))
            self.recipients = self.recipients + said.startswith(b"25") if verb == "RCPT" else self.recipients
            self.recipients = self.recipients if self.in_mail else 0
            if verb == "DATA" and said.startswith(b"354") and not await self._take():
                return

    def _usual(self, verb: str) -> bytes:
        go_on = b"354 go on" if self.recipients else b"554 5.5.1 no valid recipients"
        return {"EHLO": self.script.offers, "DATA": go_on, "QUIT": b"221 bye"}.get(verb, b"250 2.0.0 ok")

    async def _take(self) -> bool:
        self.unread = b"\r\n" + self.unread
        message = await self._until(b"\r\n.\r\n")
        if message is None:
            return False
        self.in_mail, self.recipients = False, 0
        self.script.messages.append((message + b"\r\n")[2:].replace(b"\r\n.", b"\r\n"))
        self.script.waiting.unpark_all()
        return bool(await self._answer("dot", b"250 2.0.0 queued"))

    async def _answer(self, stage: str, usual: bytes) -> bytes:
        answers = self.script.answers.get(stage)
        answer = answers.pop(0) if answers else usual
        self.script.reached[stage].set()
        if answer == HANG:
            await self.stream.receive_some()  # until the peer has had enough
            return b""
        if answer == DROP:
            return b""
        await self.stream.send_all(answer + b"\r\n")
        self.script.reached[f"said to {stage}"].set()
        return answer if answer[:3] != b"421" else b""

    async def _until(self, end: bytes) -> bytes | None:
        while end not in self.unread:
            octets = await self.stream.receive_some()
            if not octets:
                return None
            self.unread += octets
        found, _, self.unread = self.unread.partition(end)
        return found


class Told:
    """The operator's log."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))


@asynccontextmanager
async def smarthost_of(script: Script, told: Told | None = None) -> AsyncIterator[Smarthost]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, script.serve, listeners)
        smarthost = Smarthost(
            "127.0.0.1", listeners[0].socket.getsockname()[1], name="node.example", log=told or Told()
        )
        with trio.fail_after(30):
            yield smarthost
        await smarthost.close()
        nursery.cancel_scope.cancel()


def letter(octets: bytes, *, front: bytes = b"", return_path: bool = True) -> Letter:
    """As a draft gives it, whatever its length."""
    stuffing = Stuffing(front, return_path=return_path)
    whole = stuffing.feed(octets) + stuffing.finish()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield whole

    return Letter(stuffing.size, stuffing.eight_bit, stuffing.changed, pieces)
