"""One dialogue: its lines read, its parties played, the daemon held to its part. README.md explains the lines.

The parties speak from one thread, one line after the other: a dialogue is exact about who waits for whom.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..program.node import Node  # noqa: TID252  # one way to start a daemon, for both kinds of tests
from ..program.ports import free_port  # noqa: TID252
from . import pdu
from .words import Mismatch, Words, hexed, seconds

PATIENCE = 8.0
A_MOMENT = 0.15
CLIENTS = {"store": "rnasp", "forwarder": "rnasp", "reader": "rnaqp", "fetcher": "msrap", "writer": "msoap"}
SERVERS = {"agent": "rnasp", "source": "msrap"}

_LINE = re.compile(r"(?P<frm>\w+) (?P<how>->|=>|~>) (?P<to>\w+): ?(?P<text>.*)")


class Line(NamedTuple):
    number: int
    text: str


class Talk:
    """A file: what it needs of the daemon before it starts, and its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        numbered = enumerate(path.read_text().splitlines(), 1)
        lines = [Line(number, text.strip()) for number, text in numbered if text.strip() and text.strip()[0] != "#"]
        self.addresses: dict[str, str] = {}
        self.domains: dict[str, str] = {}
        self.lines: list[Line] = []
        for line in lines:
            kind, _, rest = line.text.partition(" ")
            if kind == "address":
                mailbox, _, toml = rest.partition(": ")
                self.addresses[mailbox] = toml.replace("; ", "\n")
            elif (found := re.fullmatch(r"(\w+) at (\S+)", line.text)) is not None:
                self.domains[found[1]] = found[2]
            else:
                self.lines.append(line)


class Server(NamedTuple):
    """Where a domain's agent or source listens; nobody's port is closed."""

    service: str
    port: int
    listener: socket.socket | None


def servers(talks: Sequence[Talk]) -> dict[str, Server]:
    """For every domain that an agent, a source or nobody of a talk is at."""
    found: dict[str, Server] = {}
    for talk in talks:
        for party, domain in talk.domains.items():
            assert domain not in found, f"{talk.path}: {domain} is another talk's already"
            role = party.rstrip("0123456789")
            listener = socket.create_server(("127.0.0.1", 0)) if role in SERVERS else None
            port = listener.getsockname()[1] if listener is not None else free_port()
            found[domain] = Server(SERVERS.get(role, "rnasp"), port, listener)
    return found


class _Party:
    """An end of the talk: one connection of a client, or all that a server of ours has accepted."""

    def __init__(self, protocol: str, listener: socket.socket | None = None) -> None:
        self.protocol = protocol
        self.listener = listener
        self.open: list[socket.socket] = []
        self.answering: list[socket.socket] = []

    def close(self) -> None:
        for connection in self.open:
            connection.close()
        self.open, self.answering = [], []


class Stage:
    """Plays a talk before a daemon."""

    def __init__(self, node: Node, servers: dict[str, Server]) -> None:
        self._node = node
        self._servers = servers

    def play(self, talk: Talk) -> None:
        self._words = Words(talk.path.stem, int(time.time()) + self._turned())
        self._talk = talk
        self._parties: dict[str, _Party] = {}
        try:
            for line in talk.lines:
                try:
                    self._line(line.text)
                except (Mismatch, ValueError, OSError, EOFError) as error:
                    where = f"{talk.path.name}:{line.number}: {line.text}"
                    raise AssertionError(f"{where}\n    {type(error).__name__}: {error}") from error
        finally:
            for party in self._parties.values():
                party.close()

    def _turned(self) -> int:
        return int(self._node.turned)

    def _line(self, text: str) -> None:
        if match := _LINE.fullmatch(text):
            frm, how, to, said = match["frm"], match["how"], match["to"], match["text"]
            if frm == "us":
                self._hear(self._party(to), how, said)
            else:
                self._say(self._party(frm), how, said)
        elif match := re.fullmatch(r"(\w+) asks us: (.+), until: (.+)", text):
            self._ask_until(self._party(match[1]), match[2], match[3])
        elif match := re.fullmatch(r"clock \+(\S+)", text):
            self._node.turn_clock(seconds(match[1]))
        elif match := re.fullmatch(r"us hangs up on (\w+)", text):
            self._expect_end(self._party(match[1]))
        elif match := re.fullmatch(r"us says nothing to (\w+)", text):
            self._expect_silence(self._party(match[1]))
        elif match := re.fullmatch(r"(\w+) hangs up", text):
            self._party(match[1]).close()
        elif match := re.fullmatch(r"file (\S+): (.*)", text):
            self._node.address(match[1], match[2].replace("; ", "\n"))
        else:
            raise ValueError("no line of a dialogue")

    def _party(self, name: str) -> _Party:
        if name not in self._parties:
            role = name.rstrip("0123456789")
            if role in SERVERS:
                self._parties[name] = _Party(SERVERS[role], self._servers[self._talk.domains[name]].listener)
            else:
                self._parties[name] = _Party(CLIENTS[role])
        return self._parties[name]

    # -- saying

    def _say(self, party: _Party, how: str, text: str) -> None:
        if how == "->":
            octets = pdu.frame(self._words.say(party.protocol, text, server=party.listener is not None))
        else:
            octets = hexed(text)
            octets = pdu.frame(octets) if how == "=>" else octets
        self._speaker(party).sendall(octets)

    def _speaker(self, party: _Party) -> socket.socket:
        if party.listener is not None:
            if not party.answering:
                raise Mismatch("nobody has asked")
            return party.answering.pop(0)
        if not party.open:
            party.open.append(self._node.connect(party.protocol))
        return party.open[0]

    # -- hearing

    def _hear(self, party: _Party, how: str, text: str) -> None:
        octets = self._receive(party)
        if how == "=>":
            if octets != bytes.fromhex(text):
                raise Mismatch(f"it says {octets.hex()}")
            pdu.decode(party.protocol, octets)
        else:
            self._words.check(party.protocol, octets, text, server=party.listener is not None)

    def _receive(self, party: _Party) -> bytes:
        deadline = time.monotonic() + PATIENCE
        while True:
            ready = self._readable(party, deadline - time.monotonic())
            if not ready:
                raise Mismatch("it says nothing")
            for connection in ready:
                if connection is party.listener:
                    party.open.append(connection.accept()[0])
                    party.open[-1].settimeout(PATIENCE)
                    continue
                head = _exactly(connection, 4)
                if head:
                    party.answering.append(connection)
                    return _exactly(connection, int.from_bytes(head, "big"))
                if party.listener is None:
                    raise Mismatch("it has hung up")
                party.open.remove(connection)
                connection.close()

    def _readable(self, party: _Party, patience: float) -> list[socket.socket]:
        waiting = party.open + ([party.listener] if party.listener is not None else [])
        if not waiting:
            raise ValueError("that party has said nothing yet")
        readable: list[socket.socket] = select.select(waiting, [], [], max(0.0, patience))[0]
        return readable

    def _ask_until(self, party: _Party, command: str, answer: str) -> None:
        """For what the daemon does after its answer: asked again until it is so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._say(party, "->", command)
            try:
                return self._hear(party, "->", answer)
            except Mismatch:
                if time.monotonic() > deadline:
                    raise

    def _expect_end(self, party: _Party) -> None:
        if not party.open:
            party.open.append(self._node.connect(party.protocol))
        if self._readable(party, PATIENCE) == []:
            raise Mismatch("it stays")
        if _exactly(party.open[0], 1):
            raise Mismatch("it speaks")
        party.close()

    def _expect_silence(self, party: _Party) -> None:
        if self._readable(party, A_MOMENT):
            raise Mismatch(f"it says {self._receive(party).hex()}")


def _exactly(connection: socket.socket, count: int) -> bytes:
    """That many octets; none where the stream has ended before the first."""
    octets = b""
    while len(octets) < count:
        try:
            more = connection.recv(count - len(octets))
        except ConnectionResetError:
            more = b""
        if not more:
            if octets:
                raise EOFError("it ended in the middle of a PDU")
            return b""
        octets += more
    return octets
