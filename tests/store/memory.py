"""The store's ports in memory: keys in a dictionary, agents and stores by script, a clock that Trio turns."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from forwarder.model import ContentDigest, Mailbox, Notification, Outcome, ServiceLocation
from forwarder.ports import (
    Agent,
    BodySize,
    Child,
    Copy,
    Due,
    NoService,
    Owed,
    ServiceName,
    UserRecord,
    Verdict,
)
from forwarder.store.letters import letter
from forwarder.store.machine import Event, State, may_hand_on, step
from forwarder.wire.notification import decode_notification

START = 1_800_000_000.0
SIZE, DIGEST = 1234, hashlib.sha256(b"x").digest()


def clock() -> float:
    """Follows Trio's clock, which the tests let jump."""
    return START + trio.current_time()


@dataclass
class Key:
    due: Due
    state: State
    root: int


class MemoryMessages:
    """ports.Messages."""

    def __init__(self) -> None:
        self.keys: dict[int, Key] = {}
        self.asked = 0
        self.hands_over = False
        """Whether what is submitted is told by `fresh`; else that only says that there is something."""
        self._fresh: list[Due] = []
        self._news = trio.Event()

    def submit(self, recipient: Mailbox, sender: str = "toby") -> int:
        octets = letter(sender, SIZE, DIGEST, None, int(START) + 30 * 86400)
        number = self._mint(Due(0, b"", recipient, octets, None, None, None, True, 0), None)
        self._fresh.append(self.keys[number].due)
        self._news.set()
        self._news = trio.Event()
        return number

    def _mint(self, due: Due, root: int | None) -> int:
        number = len(self.keys) + 1
        due = due._replace(number=number, identifier=hashlib.sha256(b"%d" % number).digest()[:16])
        self.keys[number] = Key(due, State(due=int(clock())), root or number)
        return number

    def news(self) -> trio.Event:
        return self._news

    def fresh(self) -> tuple[Sequence[Due], bool]:
        found, self._fresh = self._fresh, []
        return found, self.hands_over

    async def due(self, limit: int, without: Collection[str]) -> tuple[Sequence[Due], float | None]:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        waiting = [key for key in self.keys.values() if key.state.due is not None]
        now = [key for key in waiting if _at(key) <= clock() and _agent(key.due) not in without]
        rows = [key.due._replace(follow=key.state.follow) for key in sorted(now, key=_at)]
        return rows[:limit], min((float(_at(key)) for key in waiting if _at(key) > clock()), default=None)

    async def settle(self, number: int, verdict: Verdict) -> None:
        await trio.lowlevel.checkpoint()
        key, (event, wait, code, jitter) = self.keys[number], verdict
        moved = step(key.state, Event(event), int(clock()), wait=wait, code=code, jitter=jitter)
        key.state = moved or key.state

    async def hand_on(self, number: int, children: Sequence[Child], code: int | None, *, keep: bool = False) -> bool:
        await trio.lowlevel.checkpoint()
        key = self.keys[number]
        family = {other.due.recipient.folded for other in self.keys.values() if other.root == key.root}
        if not may_hand_on([child.recipient for child in children], family, key.due.depth):
            return False
        moved = step(key.state, Event.handed_on, int(clock()), code=code)
        assert moved is not None
        key.state = key.state if keep else moved
        for to, original, rna, token in children:
            self._mint(Due(0, b"", to, key.due.letter, original, rna, token, True, key.due.depth + 1), key.root)
        return True


def _at(key: Key) -> int:
    assert key.state.due is not None
    return key.state.due


def _agent(due: Due) -> str:
    return due.rna or due.recipient.domain


@dataclass(frozen=True)
class Sent:
    """One attempt as an agent saw it. at: seconds since the test began."""

    at: float
    to: str
    notification: Notification
    rna: str | None
    redirect: bool


Answers = Callable[[Sent], Outcome | Exception]


class MemoryNotifier:
    """ports.Notifier: `answers` says what the agent of a mailbox does; by default it takes all."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: dict[str, Answers] = {}
        self.slow: dict[str, float] = {}
        self.out: dict[str, int] = defaultdict(int)
        self.most_out: dict[str, int] = defaultdict(int)

    async def notify(
        self, recipient: Mailbox, notification: bytes, *, rna: str | None = None, redirect: bool = True
    ) -> Outcome:
        sent = Sent(trio.current_time(), str(recipient), decode_notification(notification), rna, redirect)
        self.sent.append(sent)
        domain = rna or recipient.domain
        self.out[domain] += 1
        self.most_out[domain] = max(self.most_out[domain], self.out[domain])
        try:
            await trio.sleep(self.slow.get(domain, 0.0))
        finally:
            self.out[domain] -= 1
        answers = self.answers.get(str(recipient))
        answer = answers(sent) if answers else Outcome(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class MemoryLocator:
    """ports.Locator as sending asks it: per-user records, and domains without an agent."""

    def __init__(self) -> None:
        self.users: dict[str, list[UserRecord]] = {}
        self.without_agent: set[str] = set()

    def known(self, domain: str, service: ServiceName) -> Agent | None:
        return None

    async def find(self, domain: str, service: ServiceName) -> Agent:
        if domain in self.without_agent:
            raise NoService("noserver", domain)
        return Agent((), domain)

    async def place(self, location: ServiceLocation, service: ServiceName) -> Agent:
        return await self.find(location.domain or "", service)

    async def records(self, mailbox: Mailbox) -> Sequence[UserRecord]:
        return self.users.get(str(mailbox), ())


# -- pulling


class MemoryUpload:
    """ports.Upload."""

    def __init__(self) -> None:
        self.octets = b""
        self.aborted = False
        self.claimed: Mailbox | None = None

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.octets).digest()

    async def write(self, data: bytes) -> None:
        self.octets += data

    async def abort(self) -> None:
        self.aborted = True


@dataclass
class Debt:
    owed: Owed
    due: float


class MemoryCopies:
    """ports.Copies. What readers of copies do is played by `read_by_all`."""

    def __init__(self) -> None:
        self.kept: list[tuple[Copy, bytes]] = []
        self.outcomes: dict[tuple[str, bytes, Mailbox], int] = {}
        self.debts: dict[int, Debt] = {}
        self.ours: dict[bytes, Mailbox] = {}
        self.pulls: list[tuple[Mailbox, bytes]] = []
        self.limit: str | None = None
        self._news = trio.Event()

    def news(self) -> trio.Event:
        return self._news

    def upload(self) -> MemoryUpload:
        return MemoryUpload()

    async def pulled(self, store: str, key: bytes, address: Mailbox) -> Outcome | None:
        code = self.outcomes.get((store, key, address))
        return None if code is None else Outcome(code)

    async def refuse(self, store: str, key: bytes, address: Mailbox, code: int, expires: int | None) -> None:
        self.outcomes[store, key, address] = code

    async def copied_for(self, key: bytes) -> Mailbox | None:
        return self.ours.get(key)

    async def alike(self, address: Mailbox, sha256: bytes, seconds: int) -> int:
        return self.pulls.count((address, sha256))

    async def full(self, address: Mailbox, store: str, sender: str, size: int) -> str | None:
        return self.limit

    async def keep(self, upload: object, copy: Copy) -> None:
        assert isinstance(upload, MemoryUpload)
        self.kept.append((copy, upload.octets))
        self.outcomes[copy.store, copy.key, copy.address.folded] = 0
        self.pulls.append((copy.address, upload.sha256))
        if not copy.shared:
            self._owe(len(self.kept), copy, silence=True, unpin=copy.unpin == "after_copy")

    def read_by_all(self, number: int) -> None:
        self._owe(number, self.kept[number - 1][0], silence=False, unpin=True)

    def _owe(self, number: int, copy: Copy, *, silence: bool, unpin: bool) -> None:
        self.debts[number] = Debt(Owed(number, copy.source, silence, unpin, 0, int(clock())), clock())
        self._news.set()
        self._news = trio.Event()

    async def owed(self, limit: int) -> tuple[Sequence[Owed], float | None]:
        await trio.lowlevel.checkpoint()
        due = [debt.owed for debt in self.debts.values() if debt.due <= clock()]
        return due[:limit], min((debt.due for debt in self.debts.values() if debt.due > clock()), default=None)

    async def paid(self, number: int, *, silence: bool, unpin: bool) -> None:
        debt = self.debts[number].owed
        left = debt._replace(silence=debt.silence and not silence, unpin=debt.unpin and not unpin)
        self.debts[number].owed = left
        if not left.silence and not left.unpin:
            del self.debts[number]

    async def postpone(self, number: int, seconds: int) -> None:
        debt = self.debts[number]
        self.debts[number] = Debt(debt.owed._replace(failures=debt.owed.failures + 1), clock() + seconds)


@dataclass
class MemorySources:
    """ports.Sources: one message by key; what is asked is written down. fails: raised by the next calls of a name."""

    bodies: dict[bytes, bytes] = field(default_factory=dict)
    said: dict[bytes, BodySize] = field(default_factory=dict)
    asked: list[tuple[float, str]] = field(default_factory=list)
    fails: dict[str, list[Exception]] = field(default_factory=dict)

    def hold(self, key: bytes, body: bytes) -> None:
        self.bodies[key] = body
        self.said[key] = BodySize(len(body), ContentDigest(1, hashlib.sha256(body).digest()), None)

    def _ask(self, name: str) -> None:
        self.asked.append((trio.current_time(), name))
        if self.fails.get(name):
            raise self.fails[name].pop(0)

    async def look(self, notification: Notification) -> BodySize:
        self._ask("look")
        return self.said[notification.identifier]

    async def head(self, notification: Notification, limit: int) -> bytes:
        self._ask("head")
        return self.bodies[notification.identifier][:limit]

    def body(self, notification: Notification, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._body(notification, limit)

    @asynccontextmanager
    async def _body(self, notification: Notification, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self._ask("body")

        async def slices() -> AsyncIterator[bytes]:
            body = self.bodies[notification.identifier]
            for at in range(0, min(len(body), limit), 10):
                yield body[at : at + 10]

        yield slices()

    async def silence(self, notification: Notification) -> None:
        self._ask("silence")

    async def unpin(self, notification: Notification) -> None:
        self._ask("unpin")
