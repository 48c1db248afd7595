"""What Postfix asks us: who exists and who may send as whom (tables `access` and `logins`), is this password right.

Each question is answered within `wait`, or that we do not know: a map that hangs holds smtpd for a minute and more.
What the callables raise is logged and TEMP. Passwords are handed on and nowhere else.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from forwarder.model import Mailbox
from forwarder.plugin import Log, PeerError
from forwarder_smtp_bridge.dovecot_auth import AuthSession, Credentials
from forwarder_smtp_bridge.outcomes import Kind, Refused, map_answer
from forwarder_smtp_bridge.paths import bare_mailbox
from forwarder_smtp_bridge.socketmap import Malformed, MapSession, Question

RECEIVE = 4096
WAIT = 1.0  # seconds for an answer
SEND = 10.0
IDLE = 300.0
SESSIONS = 512  # each smtpd keeps a connection, and Postfix has 100 of them unless told otherwise

Access = Callable[[Mailbox], Awaitable[tuple[Kind, str]]]
"""The route look-up: a row of outcomes.TABLE, and a text instead of the row's own ("" = that one)."""
Logins = Callable[[Mailbox], Awaitable[Sequence[str] | None]]
"""Who may send as this mailbox; none: (); None: we do not know."""
Verify = Callable[[str, str, str], Awaitable[bool | None]]
"""login, password, address of the client; None: we do not know."""

NOT_FOUND = "NOTFOUND "
UNKNOWN = "TEMP try again later"
_SEPARATES = re.compile(r"[\s,\x00-\x20]")  # a login of this kind would be read as two

T = TypeVar("T")


class _Session(Protocol):
    def receive_data(self, data: bytes | bytearray, /) -> None: ...

    def data_to_send(self) -> bytes: ...


S = TypeVar("S", bound=_Session)


class _Answers(Protocol[S]):
    def begin(self) -> S: ...

    async def step(self, session: S, /) -> bool:
        """Answers the next question; False if there is none. Raises Malformed."""
        ...


class Door(Generic[S]):
    """Sessions of one service over streams, `sessions` at most; those over it are closed, which is TEMP for Postfix."""

    def __init__(self, name: str, answers: _Answers[S], log: Log, sessions: int = SESSIONS) -> None:
        self.open = 0
        self._name, self._answers, self._log, self._cap = name, answers, log, sessions

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One session to its end; the stream is closed then. Raises nothing of what peers do."""
        self.open += 1
        try:
            if self.open > self._cap:
                self._log.info("too many sessions", service=self._name)
            else:
                await self._converse(stream, self._answers.begin())
        except Malformed as error:
            self._log.info("bad request", service=self._name, why=str(error))
        except trio.TooSlowError:
            self._log.info("peer too slow", service=self._name)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a peer may go at any time, nothing of it is kept
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.Stream, session: S) -> None:
        while True:
            answered = await self._answers.step(session)
            with trio.fail_after(SEND):
                await stream.send_all(session.data_to_send())
            if not answered:
                with trio.fail_after(IDLE):
                    octets = await stream.receive_some(RECEIVE)
                if not octets:
                    return
                session.receive_data(octets)


class _InTime:
    def __init__(self, name: str, log: Log, wait: float) -> None:
        self._name, self._log, self._wait = name, log, wait

    async def ask(self, answer: Callable[[], Awaitable[T]]) -> T | None:
        """None: it took too long, or failed; that is logged."""
        with trio.move_on_after(self._wait):
            try:
                return await answer()
            except Exception as error:
                self._log.info("look-up failed", service=self._name, error=_told(error))
                return None
        self._log.info("look-up too slow", service=self._name, wait=self._wait)
        return None


def _told(error: Exception) -> str:
    """What we do not know has a text for the operator (a file and its line); a bug's could show a password."""
    return str(error) if isinstance(error, PeerError) else type(error).__name__


class _Map:
    def __init__(self, access: Access, logins: Logins, in_time: _InTime) -> None:
        self._access, self._logins, self._in_time = access, logins, in_time

    def begin(self) -> MapSession:
        return MapSession()

    async def step(self, session: MapSession) -> bool:
        question = session.next_question()
        if question is not None:
            session.answer(await self._found(question))
        return question is not None

    async def _found(self, question: Question) -> str:
        try:
            mailbox = bare_mailbox(question.key)
        except Refused:
            mailbox = None
        if question.table == "access":
            return map_answer("malformed") if mailbox is None else await self._who_exists(mailbox)
        if question.table == "logins":
            return NOT_FOUND if mailbox is None else await self._who_may_send(mailbox)
        return "PERM no such table"

    async def _who_exists(self, mailbox: Mailbox) -> str:
        known = await self._in_time.ask(lambda: self._access(mailbox))
        return UNKNOWN if known is None else map_answer(*known)

    async def _who_may_send(self, mailbox: Mailbox) -> str:
        logins = await self._in_time.ask(lambda: self._logins(mailbox))
        if logins is None:
            return UNKNOWN
        names = [login for login in logins if not _SEPARATES.search(login)]
        return f"OK {','.join(names)}" if names else NOT_FOUND


class _Auth:
    def __init__(self, verify: Verify, in_time: _InTime, log: Log) -> None:
        self._verify, self._in_time, self._log = verify, in_time, log
        self._numbers = itertools.count(1)

    def begin(self) -> AuthSession:
        return AuthSession(os.getpid(), next(self._numbers), secrets.token_hex(16))

    async def step(self, session: AuthSession) -> bool:
        question = session.next_question()
        if question is not None:
            right = await self._in_time.ask(lambda: self._right(question))
            session.answer(question, right)
            if right is False:
                self._log.info("wrong login or password", login=question.login, peer=question.address)
        return question is not None

    async def _right(self, question: Credentials) -> bool | None:
        return await self._verify(question.login, question.password, question.address)


def postfix_map(
    access: Access, logins: Logins, log: Log, *, sessions: int = SESSIONS, wait: float = WAIT
) -> Door[MapSession]:
    """The service of `socketmap:unix:PATH:access` and `...:logins`. wait in seconds."""
    return Door("postfix_map", _Map(access, logins, _InTime("postfix_map", log, wait)), log, sessions)


def postfix_auth(verify: Verify, log: Log, *, sessions: int = SESSIONS, wait: float = WAIT) -> Door[AuthSession]:
    """The service of `smtpd_sasl_type = dovecot`. wait in seconds; smtpd itself waits 10."""
    return Door("postfix_auth", _Auth(verify, _InTime("postfix_auth", log, wait), log), log, sessions)
