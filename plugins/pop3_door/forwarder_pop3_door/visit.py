"""One client's visit: the table of commands. Each answer tells what is so, and nothing is cleared but by QUIT.

* Login shows what was found alive; gone is removed for all; no answer is hidden in this session.
* RETR and TOP say +OK only with octets in hand: the whole where it is small, else the first slice. What breaks after
  that closes the connection without the dot, so that no client takes a part for the whole.
* DELE is +OK for what is gone already. QUIT is +OK after COMMIT, and -ERR only where there was none.
* A fault of ours is logged here, and is -ERR [SYS/TEMP] to the client; the session goes on.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import NamedTuple

import trio

from forwarder.bridges import Gone, Item, Login, Reader
from forwarder.model import Peer, handle
from forwarder.plugin import Log, PeerError
from forwarder_pop3_door.checks import GONE, Checks, key_of
from forwarder_pop3_door.maildrop import MESSAGES, Maildrop, Mark, Message, NoMessage, unique_name
from forwarder_pop3_door.session import (
    CLOSED,
    RECEIVE,
    Command,
    Credentials,
    Delete,
    Names,
    Quit,
    Reset,
    Retrieve,
    Session,
    Signal,
    Sizes,
    StartTls,
    Stat,
    Top,
)
from forwarder_pop3_door.stuffing import Stuffing

IDLE = 600.0  # seconds, the least that RFC 1939 3 allows
HANDSHAKE = 30.0
LOGIN = 60.0
SLICE = 60.0
COMMIT = 60.0
WRITE = 60.0  # for each PIECE
PIECE = 64 << 10  # octets

STREAM_ENDS = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""How a client's connection ends badly."""


class House(NamedTuple):
    """What all visits share. tls: the context of a new session; None: there is none.

    buffer: messages up to so many octets are fetched whole before +OK.
    """

    login: Login
    checks: Checks
    tls: Callable[[], ssl.SSLContext] | None
    buffer: int
    log: Log


class CutOff(Exception):  # an end, not a fault
    """The answer cannot be finished: close, without its dot."""


class Visit:
    """peer: who came; `tls`: by TLS from the first octet."""

    def __init__(self, house: House, stream: trio.abc.Stream, peer: Peer) -> None:
        self._house = house
        self.stream = stream
        self._peer = peer
        self._session = Session(clear=house.login.clear(peer), stls=house.tls is not None and not peer.tls)
        self._reader: Reader | None = None
        self._drop = Maildrop(())
        self._idle: trio.CancelScope | None = None
        self._draining = False

    async def run(self) -> None:
        """Until QUIT, the client's end, a deadline, or a drain. Raises CutOff, TooSlowError, trio's stream errors."""
        if self._peer.tls:
            await self._handshake()
        self._session.greet()
        while not self._draining:
            event = self._session.next_event()
            if isinstance(event, Signal):
                await self._flush()
                if event is CLOSED or self._draining or not await self._receive():
                    return
            elif isinstance(event, StartTls):
                await self._start_tls()
            else:
                await self._answer(event)
                if self._session.unsent > PIECE:
                    await self._flush()
        await self._flush()

    def drain(self) -> None:
        """Ends at once if nothing is under way, else after the answer."""
        self._draining = True
        if self._idle is not None:
            self._idle.cancel()

    # -- the stream

    async def _receive(self) -> bool:
        """False: the client has ended or slept too long, or we drain."""
        with trio.move_on_after(IDLE) as self._idle:
            data = await self.stream.receive_some(RECEIVE)
            self._session.receive_data(data)
            return bool(data)
        return False

    async def _flush(self) -> None:
        await self._write(self._session.data_to_send())

    async def _write(self, octets: bytes | bytearray) -> None:
        view = memoryview(octets)
        for at in range(0, len(view), PIECE):
            with trio.fail_after(WRITE):
                await self.stream.send_all(view[at : at + PIECE])

    async def _start_tls(self) -> None:
        await self._flush()
        await self._handshake()
        self._peer = self._peer._replace(tls=True)
        self._session.secured(clear=self._house.login.clear(self._peer))

    async def _handshake(self) -> None:
        assert self._house.tls is not None
        stream = trio.SSLStream(self.stream, self._house.tls(), server_side=True, https_compatible=True)
        with trio.fail_after(HANDSHAKE):
            await stream.do_handshake()
        self.stream = stream

    # -- the table

    async def _answer(self, event: Credentials | Command) -> None:
        try:
            if isinstance(event, Credentials):
                with trio.fail_after(LOGIN):
                    await self._log_in(event)
            else:
                await self._perform(event)
        except NoMessage:
            self._session.err("no such message")
        except PeerError as error:
            self._failed(event, error)
            self._session.err("not now, try again later", "SYS/TEMP")
        except CutOff:
            raise
        except Exception as error:
            self._failed(event, error)
            self._session.err("a problem of ours, try again later", "SYS/TEMP")

    def _failed(self, event: Credentials | Command, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._house.log.info("command failed", command=type(event).__name__, peer=self._peer.address, error=why)

    async def _log_in(self, event: Credentials) -> None:
        reader = await self._house.login(event.user, event.password, self._peer)
        if reader is None:
            self._house.log.info("login refused", peer=self._peer.address)
            self._session.refused()
            return
        items = (await reader.waiting())[:MESSAGES]
        answers = await self._house.checks.look(reader, items)
        found = [(item, answers.get(key_of(item))) for item in items]
        await self._remove(reader, [item for item, answer in found if answer is GONE])
        self._drop = Maildrop((item, answer) for item, answer in found if isinstance(answer, int))
        self._reader = reader
        hidden = sum(answer is None for _, answer in found)
        shown = self._drop.count
        self._house.log.info("login", account=reader.account, peer=self._peer.address, shown=shown, hidden=hidden)
        self._session.logged_in(f"{shown} messages")

    async def _remove(self, reader: Reader, gone: Sequence[Item]) -> None:
        """What is gone is cleared for all; where that fails, the next who finds it does it."""
        if gone:
            try:
                await reader.done((), gone)
            except Exception as error:
                self._house.log.info("not removed", account=reader.account, items=len(gone), error=str(error))

    async def _perform(self, command: Command) -> None:
        session, drop = self._session, self._drop
        match command:
            case Stat():
                session.ok(f"{drop.count} {drop.octets}")
            case Sizes(None):
                session.listing(f"{drop.count} messages", (f"{one.number} {one.size}" for one in drop.shown()))
            case Sizes(number):
                [one] = drop.shown(number)
                session.ok(f"{number} {one.size}")
            case Names(None):
                session.listing("unique names", (f"{one.number} {unique_name(one.item)}" for one in drop.shown()))
            case Names(number):
                [one] = drop.shown(number)
                session.ok(f"{number} {unique_name(one.item)}")
            case Retrieve(number):
                await self._give(drop.get(number), None)
            case Top(number, lines):
                await self._give(drop.get(number), lines)
            case Delete(number):
                drop.get(number).delete()
                session.ok("deleted at QUIT")
            case Reset():
                drop.reset()
                session.ok()
            case Quit():
                await self._quit()

    async def _quit(self) -> None:
        assert self._reader is not None  # only who is logged in gets here
        deleted = self._drop.deleted()
        self._session.closed = True
        if deleted:
            with trio.fail_after(COMMIT):
                await self._reader.done(deleted)
            self._house.checks.done(deleted)
            self._house.log.info("done", account=self._reader.account, peer=self._peer.address, items=len(deleted))
        self._session.bye()

    # -- bodies

    async def _give(self, message: Message, lines: int | None) -> None:
        """lines: None: the whole."""
        assert self._reader is not None  # only who is logged in gets here
        reader, item, checks = self._reader, message.item, self._house.checks
        try:
            await self._stream_out(reader, message, lines)
        except Gone:
            message.mark = Mark.REMOVED
            checks.gone(reader, item)
            await self._remove(reader, [item])
            self._session.err("already handled or withdrawn")
        except CutOff:
            raise
        except Exception as error:
            message.mark = Mark.HIDDEN
            checks.again(reader, item)
            why = str(error) if isinstance(error, PeerError) else f"{type(error).__name__}: {error}"
            key = handle(item.notification.identifier)
            self._house.log.info("message not had", key=key, store=item.notification.store, error=why)
            self._session.err("its store does not give it, try again later", "SYS/TEMP")
        else:
            message.mark = Mark.SHOWN

    async def _stream_out(self, reader: Reader, message: Message, lines: int | None) -> None:
        stuffing = Stuffing(lines)
        begun = False
        try:
            async with self._slices(reader, message.item, lines) as slices:
                held, whole = await self._in_hand(message, slices, stuffing)
                self._session.ok(f"{message.size} octets")
                begun = True
                await self._write(self._session.data_to_send() + held)
                while not (whole or stuffing.full) and (octets := await _next(slices)) is not None:
                    await self._write(stuffing.feed(octets))
                await self._write(stuffing.end())
        except Exception as error:
            if begun:
                if not isinstance(error, STREAM_ENDS):
                    self._house.checks.again(reader, message.item)
                key = handle(message.item.notification.identifier)
                why = f"{type(error).__name__}: {error}"
                self._house.log.info("answer cut off", key=key, peer=self._peer.address, error=why)
                raise CutOff from error
            raise

    def _slices(
        self, reader: Reader, item: Item, lines: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return _head(reader, item) if lines == 0 else reader.body(item)

    async def _in_hand(self, message: Message, slices: AsyncIterator[bytes], stuffing: Stuffing) -> tuple[bytes, bool]:
        """The first octets of the answer, and whether they are all. A store that gives more than it said is no harm."""
        held, got, most = bytearray(), 0, self._house.buffer
        while not (held and max(message.size, got) > most):
            octets = await _next(slices)
            if octets is None:
                return bytes(held), True
            got += len(octets)
            held += stuffing.feed(octets)
            if stuffing.full:
                return bytes(held), True
        return bytes(held), False


@asynccontextmanager
async def _head(reader: Reader, item: Item) -> AsyncIterator[AsyncIterator[bytes]]:
    async def one() -> AsyncGenerator[bytes, None]:
        yield head

    with trio.fail_after(SLICE):
        head = await reader.head(item)
    async with aclosing(one()) as slices:
        yield slices


async def _next(slices: AsyncIterator[bytes]) -> bytes | None:
    """None: there are no more."""
    try:
        with trio.fail_after(SLICE):
            return await anext(slices, None)
    except trio.TooSlowError:
        raise PeerError(f"no octets for {SLICE:.0f} seconds") from None
