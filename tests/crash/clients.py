"""Those who call the daemon: the sender's store, readers, our originator. Each does what the protocol says, until the
daemon dies under his hands; what he was told before stands in the truth.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from forwarder.model import parse_mailbox
from forwarder.wire import msoap, msrap, rnaqp, rnasp
from forwarder.wire.outcome import REFUSED, code_class
from forwarder.wire.rnasp import Capabilities, Status
from forwarder.wire.session import MSOAP, MSRAP, RNAQP, RNASP, Protocol

from .house import ADDRESSES, PASSWORD, House
from .letters import Letters
from .line import LOST, Line
from .mail import Mta, PopReader
from .peers import notification
from .truth import FOREVER, MESSAGES, Own, Sent, Submission, Truth, body

NEW_EACH_LIFE = 8
SUBMISSIONS_EACH_LIFE = 2
PAUSE = 0.01
AWAY = ("moved@ext.test",)
"""Nobody is there to read."""
CAPABILITIES = Capabilities(1, frozenset({"results"}), "mx.isp.test")
AGAIN_SECONDS = 500
"""In which a submission whose answer was lost may be repeated without becoming a second message."""


class Clients:
    """calm: nothing is killed, everything is read, nothing new begins. rare: how probable is what seldom happens."""

    def __init__(self, house: House, truth: Truth, letters: Letters, chance: random.Random, rare: float) -> None:
        self._mta = Mta(house, letters, chance)
        self._readers = [PopReader(house, letters, chance, account) for account in ("polly", "quinn")]
        self._house = house
        self._truth = truth
        self._chance = chance
        self._rare = rare
        self._calm = False
        self._names = [name for name in ADDRESSES if name != "guest"]
        self._out: set[bytes] = set()

    @property
    def calm(self) -> bool:
        return self._calm

    @calm.setter
    def calm(self, calm: bool) -> None:
        self._calm = self._mta.calm = calm
        for reader in self._readers:
            reader.calm = calm

    def _line(self, service: str, protocol: Protocol) -> Line:
        return Line(self._house.address, self._house.ports[service], protocol)

    async def run(self) -> None:
        """Until everybody has lost his line."""
        self._new, self._submit = NEW_EACH_LIFE, SUBMISSIONS_EACH_LIFE
        self._out.clear()
        self._mta.wake()
        async with trio.open_nursery() as nursery:
            for work in (
                self._notify,
                self._notify,
                self._originate,
                self._brian,
                self._toby,
                self._hold_freda,
                self._hold_brian,
                self._keys,
                self._keys,
                self._guest,
                self._mta.run,
                self._mta.run,
                *(reader.run for reader in self._readers),
            ):
                nursery.start_soon(self._until_lost, work)

    async def _until_lost(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except LOST:
            return

    def _maybe(self, probability: float) -> bool:
        return not self.calm and self._chance.random() < probability

    # -- the sender's store

    async def _notify(self) -> None:
        async with self._line("rnasp", RNASP) as line:
            while True:
                batch = self._due()
                if not batch:
                    await trio.sleep(PAUSE)
                    continue
                extended = batch[0].name == "big" or self._chance.random() < 0.7
                try:
                    await self._tell(line, batch if extended else batch[:1], extended)
                finally:
                    self._out.difference_update(sent.key for sent in batch)

    def _due(self) -> list[Sent]:
        now, truth = self._truth.control.now, self._truth
        self._withdraw()
        due = [
            s for s in truth.sent.values() if s.due <= now and s.key not in self._out and not s.silenced and not s.gone
        ]
        due = due[: self._chance.randrange(1, 5)]
        if not due and self._new and not self.calm:
            self._new -= 1
            due = [truth.send(self._chance.choice(self._names))]
        self._out.update(sent.key for sent in due)
        return due

    def _withdraw(self) -> None:
        """Now and then a sender takes a message back that others hold for their readers."""
        held = [s for s in self._truth.sent.values() if s.name == "share" and s.acked and not s.gone]
        if held and self._maybe(self._rare):
            self._chance.choice(held).withdrawn = True

    async def _tell(self, line: Line, batch: list[Sent], extended: bool) -> None:
        truth = self._truth
        for sent in batch:
            sent.repeats[truth.life] += 1
        told = tuple(notification(sent, sized=sent.name != "big") for sent in batch)
        response = await line.ask(rnasp.Notify(told, CAPABILITIES if extended else None))
        now = truth.control.now
        if not extended:
            self._told(batch[0], 32 if response.abort else 0, now)
            return
        if response.abort:
            truth.fault("a batch was answered", response.status.name)
            return
        for sent, outcome in zip(batch, response.data.results, strict=True):
            self._told(sent, outcome.code, now)

    def _told(self, sent: Sent, code: int, now: float) -> None:
        match code_class(code):
            case 0:
                self._truth.checked["taken"] += 1
                sent.acked = sent.acked or now
                sent.due = FOREVER
                if sent.name == "one" and not self._truth.got[sent.key, "c@ext.test"]:
                    self._truth.fault("a stateless forward was answered before its target was told")
                if sent.refused:
                    self._truth.fault(sent.name, sent.key.hex(), "was refused and is taken now")
                if sent.name == "big" and not sent.refused:
                    sent.due = now + 90_000
            case 3:
                sent.due, sent.refused = FOREVER, code
                if sent.name != "big" or code != REFUSED:
                    self._truth.fault(sent.name, sent.key.hex(), "was answered", code)
            case _:
                sent.due = now + 0.2

    # -- readers of our agent

    async def _login(self, line: Line, account: str) -> bool:
        response = await line.ask(rnaqp.Authenticate(account, PASSWORD))
        if response.status is not Status.noerror and not response.abort:
            self._truth.fault(account, "may not log in")
        return bool(response.status is Status.noerror)

    async def _brian(self) -> None:
        """Peeks, and clears what he has noted."""
        async with self._line("rnaqp", RNAQP) as line:
            await self._login(line, "brian")
            while True:
                response = await line.ask(rnaqp.Peek(None, 1000))
                if not response.abort:
                    self._peeked(response.data.items)
                    noted = [item for item in response.data.items if self._done_with(item.notification.identifier)]
                    if noted and self._maybe(0.5):
                        await line.ask(rnaqp.Clear(tuple(item.cursor for item in noted)))
                        self._truth.checked["cleared"] += len(noted)
                await trio.sleep(5 * PAUSE)

    def _peeked(self, items: tuple[rnaqp.Item, ...]) -> None:
        marks = [(item.notification.identifier, item.notification.recipient) for item in items]
        if len(set(marks)) < len(marks):
            self._truth.fault("brian sees a notification twice on one page")
        for item in items:
            key = item.notification.identifier
            self._truth.seen["brian"].add(key)
            if item.notification.store == "pobox.test":
                self._truth.hold(key, "sub@pobox.test")

    def _done_with(self, key: bytes) -> bool:
        """Some he clears at once, some he leaves until their store has repeated them."""
        sent = self._truth.sent.get(key)
        return key[0] % 2 == 0 or (sent is not None and sent.verified)

    async def _toby(self) -> None:
        """Takes and clears in one step: an answer that is lost is lost until the store repeats."""
        async with self._line("rnaqp", RNAQP) as line:
            await self._login(line, "toby")
            while True:
                await trio.sleep(10 * PAUSE * self._chance.random())
                if self._maybe(0.3):
                    await line.ask(rnaqp.Peek(None, 10))
                try:
                    response = await line.ask(rnaqp.RetrieveAndClear())
                except LOST:  # with all that has come meanwhile, too
                    for sent in self._truth.sent.values():
                        if sent.name == "take" and sent.key not in self._truth.seen["toby"]:
                            sent.doubtful = True
                    raise
                if not response.abort:
                    self._truth.seen["toby"].update(item.notification.identifier for item in response.data.items)

    # -- readers of our store

    async def _hold_freda(self) -> None:
        await self._browse("freda")

    async def _hold_brian(self) -> None:
        await self._browse("brian")

    async def _browse(self, account: str) -> None:
        async with self._line("msrap", MSRAP) as line:
            await self._login(line, account)
            while True:
                response = await line.ask(msrap.ScanList("hold@pobox.test", 0))
                if response.status is Status.noerror:
                    for key in response.data.messages:
                        self._truth.hold(key, account)
                for own in self._some(lambda own: own.holder == account):
                    await self._deal_with(line, own)
                await trio.sleep(5 * PAUSE)

    async def _keys(self) -> None:
        """Whoever was notified of a key of ours: reads, silences, un-pins, and looks whether it stays so."""
        async with self._line("msrap", MSRAP) as line:
            while True:
                for own in self._some(lambda own: "@" in own.holder and own.holder not in AWAY):
                    await self._deal_with(line, own)
                await trio.sleep(2 * PAUSE)

    def _some(self, wanted: Callable[[Own], bool]) -> list[Own]:
        every = [own for own in self._truth.own.values() if wanted(own)]
        fresh = [own for own in every if own.number is None and not own.closed]
        chosen = fresh[:20] + self._chance.sample(every, min(5, len(every)))
        self._chance.shuffle(chosen)
        return chosen

    async def _deal_with(self, line: Line, own: Own) -> None:
        if own.number is None or self._maybe(0.3):
            await self._read(line, own)
        if own.number is not None and not own.tried and self._maybe(0.25):
            response = await line.ask(msrap.Silence(own.key))
            if response.status is Status.noerror:
                own.silenced = own.silenced or self._truth.life
        if own.number is not None and not own.unpinned and self._maybe(0.25):
            own.tried = True
            response = await line.ask(msrap.UnPin(own.key))
            if response.status is Status.noerror:
                own.unpinners.add(line)
                self._truth.unpinned(own)

    async def _read(self, line: Line, own: Own) -> None:
        closed = self._truth.closed_by(own, line)  # as it stands before the question
        response = await line.ask(msrap.Retrieve(own.key, msrap.View.all, 0, 1 << 20))
        if response.status is Status.noerror:
            if closed:
                self._truth.fault(own.holder, "could read", own.key.hex(), "which was closed", closed)
            own.served.add(line)
            self._truth.read(own, response.data.data)
        elif response.status is Status.errornosuchmessage:
            own.closed = True
            if not self._truth.closed_to(own):
                self._truth.fault(own.holder, "cannot read", own.key.hex(), f"of message {own.number}, which is open")
        elif not response.abort:
            self._truth.fault(own.holder, "was answered", response.status.name)

    # -- our originator

    async def _originate(self) -> None:
        async with self._line("msoap", MSOAP) as line:
            await line.ask(rnaqp.Authenticate("toby", PASSWORD))
            while True:
                await trio.sleep(5 * PAUSE * self._chance.random())
                if (submission := self._to_submit()) is not None:
                    await self._submit_once(line, submission)
                elif self._truth.submissions:
                    await self._look_after(line, self._chance.choice(list(self._truth.submissions.values())))

    def _to_submit(self) -> Submission | None:
        truth = self._truth
        for old in truth.submissions.values():
            if not old.keys:
                old.may_double = old.may_double or truth.control.now - old.at > AGAIN_SECONDS
                return old
        if not self._submit or self.calm:
            return None
        self._submit -= 1
        to = tuple(self._chance.sample(MESSAGES, self._chance.randrange(1, 4)))
        made = Submission(truth.number(), to, truth.control.now)
        truth.submissions[made.number] = made
        return made

    async def _submit_once(self, line: Line, submission: Submission) -> None:
        recipients = tuple(parse_mailbox(to) for to in submission.to)
        if (await line.ask(msoap.SubmitEnvelope(recipients, (), 40 * 86400))).abort:
            return
        response = await line.ask(msoap.SubmitMsgChunk(True, 0, body(submission.number)))
        if response.status.name != "noerror":
            self._truth.fault("a submission was answered", response.status.name)
            return
        self._truth.checked["submitted"] += 1
        submission.keys = response.data.identifiers
        for key, to in zip(submission.keys, submission.to, strict=True):
            self._truth.hold(key, to)

    async def _look_after(self, line: Line, submission: Submission) -> None:
        """Tracks it; now and then takes one back."""
        for key, to in zip(submission.keys, submission.to, strict=True):
            own = self._truth.hold(key, to)
            silenced = own.silenced  # as it stands before the question
            response = await line.ask(msoap.Track(key))
            if response.status.name != "noerror":
                self._truth.fault("a key of an acknowledged submission is unknown:", response.status.name)
                continue
            told = response.data.delivery.notificationstatus.name
            own.alone = told == "silenced" and not response.data.delivery.redirectedto
            if silenced and to not in ("moved@ext.test", "copy@ext.test") and told != "silenced":
                self._truth.fault(key.hex(), "was silenced and shows", told)
            if self._maybe(self._rare):
                own.cancelling = True
                await line.ask(msoap.Cancel(key))
                own.cancelled = self._truth.life

    # -- the operator

    async def _guest(self) -> None:
        """An address comes and goes; a reader's list is asked for its name."""
        while not self.calm:
            await trio.sleep(10 * PAUSE * self._chance.random())
            try:
                match self._chance.randrange(3):
                    case 0:
                        self._house.write("guest")
                    case 1:
                        self._house.remove("guest")
                    case _:
                        await self._house.ask("list_names", address="hold@pobox.test")
                        continue
                await self._house.ask("changed", address="guest@pobox.test")
            except ValueError:  # it died in the middle of its answer
                return
