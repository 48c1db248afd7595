"""Whose turn it is: one table for the server's and the client's side of every protocol (protocol 2). Sans-IO.

Half duplex: a command, its answer, the next command. A client that sends ahead is not read before its answer is out.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.der import MalformedPDU
from forwarder.wire.frames import Frames, Oversize, frame

KIB, MIB = 1024, 1024 * 1024

_ABORTS = frozenset(
    {
        "errormalformedpdu",
        "errorcommandtimeout",
        "errorunexpectedcommand",
        "errorserviceshutdown",
        "errorinternalproblem",
    }
)
_CLOSES = frozenset({"errormalformedpdu", "errorcommandtimeout", "errorserviceshutdown"})


class Protocol(NamedTuple):
    """One of the four protocols as data. Limits in octets, idle in seconds."""

    name: str
    command_limit: int
    response_limit: int
    idle: float
    decode_command: Callable[[bytes], Any]
    encode_command: Callable[[Any], bytes]
    decode_response: Callable[[bytes], Any]
    encode_response: Callable[[Any], bytes]
    error: Callable[[str], Any]
    """error("errormalformedpdu") -> the ResponseNull with that status and the abort flag of protocol 2."""


def _protocol(name: str, room: Any, command: int, response: int, idle: float) -> Protocol:
    def error(status: str) -> Any:
        return room.Response(status in _ABORTS, room.Status[status])

    return Protocol(
        name,
        command,
        response,
        idle,
        room.decode_command,
        room.encode_command,
        room.decode_response,
        room.encode_response,
        error,
    )


RNASP = _protocol("rnasp", rnasp, MIB, MIB, 60.0)
RNAQP = _protocol("rnaqp", rnaqp, 64 * KIB, 16 * MIB, 300.0)
MSRAP = _protocol("msrap", msrap, 4 * KIB, MIB + KIB, 300.0)
MSOAP = _protocol("msoap", msoap, MIB + KIB, MIB + KIB, 300.0)


class LocalError(RuntimeError):
    """We spoke out of turn: a bug on our side."""


class State(Enum):
    __hash__ = object.__hash__  # of members, by identity; Enum's own is a function in Python, asked at each turn

    IDLE = "between transactions"
    BUSY = "a command is out and not answered"
    CLOSED = "nothing more may be said"


class Event(Enum):
    __hash__ = object.__hash__

    COMMAND = "a command goes to the server"
    ANSWER = "its response goes to the client"
    LAST_WORD = "a response after which the session ends"
    UNEXPECTED = "a command that is good DER, but none of the protocol's"
    GARBAGE = "what is no PDU, or a PDU out of turn"
    END = "the stream ended"


_TURNS = {
    (State.IDLE, Event.COMMAND): State.BUSY,
    (State.IDLE, Event.UNEXPECTED): State.IDLE,
    (State.IDLE, Event.GARBAGE): State.CLOSED,
    (State.IDLE, Event.LAST_WORD): State.CLOSED,
    (State.IDLE, Event.END): State.CLOSED,
    (State.BUSY, Event.ANSWER): State.IDLE,
    (State.BUSY, Event.LAST_WORD): State.CLOSED,
    (State.BUSY, Event.GARBAGE): State.CLOSED,
    (State.BUSY, Event.END): State.CLOSED,
    (State.CLOSED, Event.END): State.CLOSED,
}
"""Both sides live by this table. A pair that does not stand here is a LocalError."""


class NeedData(Enum):
    NEED_DATA = "nothing to do before more octets arrive, or before our answer is out"


NEED_DATA = NeedData.NEED_DATA


class Bad(NamedTuple):
    """A command that is none: send `reply` (framed), then close if `close`. oversize: its length is over the limit."""

    reply: bytes
    close: bool
    oversize: bool = False


class _Session:
    __slots__ = ("_frames", "protocol", "state")

    def __init__(self, protocol: Protocol, limit: int) -> None:
        self.protocol = protocol
        self.state = State.IDLE
        self._frames = Frames(limit)

    @property
    def inside(self) -> bool:
        """A PDU has begun to arrive and is not complete: the per-PDU read deadline counts."""
        return self._frames.inside

    @property
    def held(self) -> int:
        """Octets that were received and not handed out: a PDU's beginning, or what was sent ahead of its turn."""
        return self._frames.held

    def receive_data(self, data: bytes) -> None:
        """What the stream gave, not empty."""
        self._frames.receive_data(data)

    def receive_eof(self) -> bool:
        """The stream ended. True if clean: between transactions, no PDU begun."""
        clean = self.state is not State.BUSY and self._frames.empty
        self._turn(Event.END)
        return clean

    def _turn(self, event: Event) -> None:
        state = _TURNS.get((self.state, event))
        if state is None:
            raise LocalError(f"{self.protocol.name}: {event.name} while {self.state.name}")
        self.state = state


class ServerSession(_Session):
    """receive_data, next_event until NEED_DATA; each command is answered by one `send`."""

    __slots__ = ()

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol, protocol.command_limit)

    def next_event(self) -> Any | NeedData | Bad:
        """A command of the protocol, NEED_DATA, or Bad. Nothing more is read while one is being answered."""
        if self.state is not State.IDLE:
            return NEED_DATA
        try:
            pdu = self._frames.next_pdu()
            if pdu is None:
                return NEED_DATA
            command = self.protocol.decode_command(pdu)
        except MalformedPDU as error:
            return self._bad(error)
        self.state = _TURNS[State.IDLE, Event.COMMAND]
        return command

    def _bad(self, error: MalformedPDU) -> Bad:
        self._turn(Event.UNEXPECTED if error.unexpected else Event.GARBAGE)
        name = "errorunexpectedcommand" if error.unexpected else "errormalformedpdu"
        reply = self.protocol.encode_response(self.protocol.error(name))
        return Bad(frame(reply), self.state is State.CLOSED, isinstance(error, Oversize))

    def send(self, response: Any) -> bytes:
        """The framed response. Without a command to answer only one that ends the session may be sent (time-out,
        shutdown). Raises LocalError out of turn.
        """
        octets = frame(self.protocol.encode_response(response))
        self._turn(Event.LAST_WORD if response.status._name_ in _CLOSES else Event.ANSWER)
        return octets


class ClientSession(_Session):
    """`send` a command, receive_data, next_event until its response. After MalformedPDU the session is closed."""

    __slots__ = ()

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol, protocol.response_limit)

    def send(self, command: Any) -> bytes:
        """The framed command. Raises LocalError out of turn."""
        return self.send_pdu(self.protocol.encode_command(command))

    def send_pdu(self, pdu: bytes) -> bytes:
        """The same for a command that is ready octets (rnasp.encode_batch)."""
        if not self._frames.empty:
            raise LocalError(f"{self.protocol.name}: a command on a session whose peer spoke unasked")
        self._turn(Event.COMMAND)
        return frame(pdu)

    def next_event(self) -> Any | NeedData:
        """The response, or NEED_DATA. Raises MalformedPDU for a bad one, and for what comes unasked."""
        if self.state is not State.BUSY:
            if not self._frames.empty:
                self.state = State.CLOSED
                raise MalformedPDU("a response that nobody asked for")
            return NEED_DATA
        try:
            pdu = self._frames.next_pdu()
            if pdu is None:
                return NEED_DATA
            response = self.protocol.decode_response(pdu)
        except MalformedPDU:
            self._turn(Event.GARBAGE)
            raise
        last = response.status._name_ in _CLOSES or not self._frames.empty
        self._turn(Event.LAST_WORD if last else Event.ANSWER)
        return response
