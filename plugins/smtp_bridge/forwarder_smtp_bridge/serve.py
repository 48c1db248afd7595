"""LMTP sessions over streams. Whoever takes the mail is a Delivery; here are turns, deadlines and the cap of sessions.

What Delivery raises, and what it does not decide in time, closes the session without an answer: Postfix keeps the mail
and comes again. An OSError of the sink is the disk's, and temporary for each recipient. A session holds one command
line or one piece, so `sessions` bounds memory; a message of any size passes through.

`sessions` transactions are under way at once; a further one waits for its turn. Sessions between two transactions cost
next to nothing, and Postfix keeps more of them than it uses: a 421 for these would stop all its mail for minutes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import trio

from forwarder.model import Mailbox
from forwarder.plugin import Log
from forwarder_smtp_bridge.events import (
    NEED_DATA,
    DataBegins,
    DataEnds,
    Ended,
    Event,
    Mail,
    Piece,
    Rcpt,
    Reset,
    TooBig,
)
from forwarder_smtp_bridge.lmtp import GO_AHEAD, QUIT, Session
from forwarder_smtp_bridge.outcomes import TABLE, Reply

RECEIVE = 16 * 1024  # octets at once
SEND = 16 * 1024  # octets of answers that may wait for the end of the input

IDLE_SESSIONS = 8
"""So many sessions for each transaction that may be under way."""
BUSY = Reply(421, "4.3.2", "too many sessions, try again later")
NO_TURN = Reply(451, "4.3.2", "busy, try again later")
SHUTDOWN = Reply(421, "4.3.2", "shutting down, try again later")
IDLE = Reply(421, "4.4.2", "timeout")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A transaction as it was taken: recipients in order, one reply is owed to each."""

    mail: Mail
    recipients: tuple[Mailbox, ...]


class Sink(Protocol):
    """One message on its way in. Exactly one of commit and abort is the last call, also after a failure or a cancel."""

    async def write(self, octets: bytes, /) -> None:
        """The next octets, dots undone, PIECE at most. An OSError is answered 451 4.3.0 for each recipient."""
        ...

    async def commit(self) -> Sequence[Reply]:
        """The message is whole: a reply for each recipient of the envelope, in order, 2xx only after COMMIT.

        Whatever is raised but an OSError closes the session without an answer; then `abort` is called too.
        """
        ...

    async def abort(self) -> None:
        """No message: forget what was written."""
        ...


class Delivery(Protocol):
    """Who takes the mail of all sessions. Reply: 2xx takes, 4xx and 5xx refuse, 421 ends the session."""

    async def mail(self, mail: Mail, /) -> Reply:
        """Whether a transaction may begin."""
        ...

    async def rcpt(self, envelope: Envelope, mailbox: Mailbox, /) -> Reply:
        """Whether this recipient is taken beside those of the envelope."""
        ...

    async def data(self, envelope: Envelope, /) -> Sink | Reply:
        """The message is about to come; a Reply refuses it."""
        ...


class Waits(NamedTuple):
    """Seconds. command: for a whole command (RFC 5321 4.5.3.2.7); piece: of a message, transfer: for all of it; decide:
    for Delivery; turn: until another transaction ends; commit: after the dot (Postfix's lmtp_data_done_timeout is
    600 s); send: for the peer to take answers.
    """

    command: float = 300.0
    piece: float = 180.0
    transfer: float = 1800.0
    decide: float = 30.0
    turn: float = 60.0
    commit: float = 300.0
    send: float = 60.0


WAITS = Waits()


class Lmtp:
    """All LMTP sessions of a service. host: our name in the greeting; max_size: octets of a message; sessions: whose
    transactions may be under way at once."""

    def __init__(
        self, host: str, delivery: Delivery, log: Log, *, sessions: int, max_size: int, waits: Waits = WAITS
    ) -> None:
        self.host, self.delivery, self.log = host, delivery, log
        self.max_size, self.waits = max_size, waits
        self._cap = sessions * IDLE_SESSIONS
        self.turns = trio.CapacityLimiter(sessions)
        self.open = 0
        self.draining = False
        self.idle: set[_Talk] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One session to its end; the stream is closed then. Raises nothing of what peers or Delivery do."""
        if self.open >= self._cap or self.draining:
            await self._turn_away(stream)
            return
        self.open += 1
        talk = _Talk(self, stream)
        try:
            await talk.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.log.info("lmtp peer gone", in_data=talk.session.in_data)
        except trio.TooSlowError:
            self.log.info("lmtp session hung, closed without an answer")
        except Exception as error:
            self.log.info("lmtp session failed, closed without an answer", error=f"{type(error).__name__}: {error}")
        finally:
            self.open -= 1
            await talk.end()

    def drain(self) -> None:
        """No new sessions; those between transactions end now, the others after theirs."""
        self.draining = True
        for talk in self.idle:
            talk.leave()

    async def _turn_away(self, stream: trio.abc.Stream) -> None:
        try:
            with trio.move_on_after(self.waits.send):
                await stream.send_all(bytes(SHUTDOWN if self.draining else BUSY) + b"\r\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


class _Talk:
    """One session: who is asked when, and how long is waited.

    One scope for all its waits, its deadline set anew for each: a scope for each would be a tenth of a mail's cost.
    """

    def __init__(self, lmtp: Lmtp, stream: trio.abc.Stream) -> None:
        self.lmtp, self.waits, self._stream = lmtp, lmtp.waits, stream
        self.session = Session(lmtp.host, lmtp.max_size)
        self._mail: Mail | None = None
        self._recipients: tuple[Mailbox, ...] = ()
        self._sink: Sink | None = None
        self._has_turn = False
        self._scope = trio.CancelScope()
        self._receiving = False
        self._since = self._began = trio.current_time()

    async def run(self) -> None:
        """Until the session is closed and its last words are out. Raises TooSlowError where somebody hung."""
        while True:
            with self._scope:
                await self._talk()
            if not self._scope.cancelled_caught:
                return
            if not self._receiving:
                raise trio.TooSlowError
            self._scope, self._receiving = trio.CancelScope(), False
            why = SHUTDOWN if self.lmtp.draining and self.session.idle else IDLE
            self.session.close(why, why.text)

    def leave(self) -> None:
        """Of a session that waits for a command: now."""
        self._scope.cancel()

    def _within(self, seconds: float) -> None:
        """So long may the next wait be."""
        self._scope.deadline = trio.current_time() + seconds

    async def _talk(self) -> None:
        session = self.session
        while True:
            event = session.next_event()
            if event is not NEED_DATA:
                await self._take(event)
                if session.unsent < SEND:
                    continue
            await self._flush()
            if event is NEED_DATA:
                if session.closed:
                    return
                await self._receive()

    async def end(self) -> None:
        """What is not committed is forgotten, the stream closed; whoever cancels waits for that, 5 s at most."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            self._end_turn()
            try:
                await self._drop()
            except Exception as error:
                self.lmtp.log.info("lmtp abort failed", error=f"{type(error).__name__}: {error}")
        await trio.aclose_forcefully(self._stream)

    # -- the stream

    async def _flush(self) -> None:
        octets = self.session.data_to_send()
        if octets:
            self._within(self.waits.send)
            await self._stream.send_all(octets)

    async def _receive(self) -> None:
        session, idle = self.session, self.lmtp.idle
        self._scope.deadline = self._deadline()
        self._receiving = True
        if session.idle:
            idle.add(self)
            if self.lmtp.draining:
                self.leave()
        try:
            octets = await self._stream.receive_some(RECEIVE)
        finally:
            idle.discard(self)
        if self._scope.cancel_called:  # in the very moment in which something came: it leaves all the same
            await trio.lowlevel.checkpoint_if_cancelled()
        self._receiving = False
        if not octets:
            session.close(why="peer closed")
        if session.in_data or not session.inside:
            self._since = trio.current_time()
        session.receive_data(octets)

    def _deadline(self) -> float:
        """Of a message for the next piece and for all of it; of a command for its last octet."""
        if self.session.in_data:
            return min(self._since + self.waits.piece, self._began + self.waits.transfer)
        return self._since + self.waits.command

    # -- decisions

    async def _take(self, event: Event) -> None:
        delivery, session = self.lmtp.delivery, self.session
        self._since = trio.current_time()
        match event:
            case Mail():
                session.reply(await self._mailed(event))
            case Rcpt(mailbox):
                assert self._mail is not None
                self._within(self.waits.decide)
                reply = await delivery.rcpt(Envelope(self._mail, self._recipients), mailbox)
                if reply.good:
                    self._recipients = (*self._recipients, mailbox)
                session.reply(reply)
            case DataBegins():
                await self._begin()
            case Piece(octets):
                await self._write(octets)
            case DataEnds():
                await self._commit()
            case TooBig():
                self.lmtp.log.info("lmtp message too big", most=self.lmtp.max_size)
                await self._drop()
                self._end_turn()
            case Reset():
                self._mail = None
                self._end_turn()
            case Ended(why) if why != QUIT:
                self.lmtp.log.info("lmtp session ended", why=why)

    async def _mailed(self, mail: Mail) -> Reply:
        """Whether a transaction may begin; it has its turn then, until it ends."""
        if not self._has_turn and not await self._turn():
            self.lmtp.log.info("limit lmtp sessions", most=self.lmtp.turns.total_tokens)
            return NO_TURN
        self._within(self.waits.decide)
        reply = await self.lmtp.delivery.mail(mail)
        self._mail, self._recipients = mail, ()
        if not reply.good:
            self._end_turn()
        return reply

    async def _turn(self) -> bool:
        turns = self.lmtp.turns
        try:
            turns.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            self._within(math.inf)
            with trio.move_on_after(self.waits.turn) as scope:
                await turns.acquire_on_behalf_of(self)
            if scope.cancelled_caught:
                return False
        self._has_turn = True
        return True

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self.lmtp.turns.release_on_behalf_of(self)

    async def _begin(self) -> None:
        assert self._mail is not None
        self._within(self.waits.decide)
        answer = await self.lmtp.delivery.data(Envelope(self._mail, self._recipients))
        if isinstance(answer, Reply):
            self.session.reply(answer)
            return
        self._sink, self._began = answer, trio.current_time()
        self.session.reply(GO_AHEAD)

    async def _write(self, octets: bytes) -> None:
        if self._sink is None:
            return  # given up: the rest is read and forgotten
        try:
            self._within(self.waits.decide)
            await self._sink.write(octets)
        except OSError as error:
            self._failed(error)
            await self._drop()

    async def _commit(self) -> None:
        replies = await self._replies()
        if replies is None:
            await self._drop()
            broken = TABLE["broken"].reply
            assert broken is not None
            replies = [broken] * len(self._recipients)
        self._sink = None
        self._end_turn()
        self.session.replies(replies)
        await self._flush()

    async def _replies(self) -> Sequence[Reply] | None:
        """None: the disk did not take the message."""
        if self._sink is None:
            return None
        try:
            self._within(self.waits.commit)
            return await self._sink.commit()
        except OSError as error:
            self._failed(error)
            return None

    def _failed(self, error: OSError) -> None:
        self.lmtp.log.info("lmtp message not written", error=f"{type(error).__name__}: {error}")

    async def _drop(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self._within(self.waits.decide)
            await sink.abort()
