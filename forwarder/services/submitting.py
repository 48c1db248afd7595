"""MSOAP in process, for messages that come by other mail (bridges.Submit): one COMMIT, then a moment for the outcome.

* What is here already is taken again, and nothing is done: whoever lost our answer asks again with the same octets.
* A refusal for good within `wait` takes the message back before it is told, so that one side alone reports it; so does
  a mailbox that is full or busy, and the bringer comes again. Whatever comes later is reported by us
  (storage/returns.py), and not before the bringer has surely had his answer.
* Who was told meanwhile that the same is here already has handed it over: then it stays, and we report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
import trio

from forwarder.bridges import Spool, Submission, SubmissionRefused
from forwarder.model import Outcome, handle
from forwarder.ports import Accounts, Verdict
from forwarder.services.msoap import StoreRules
from forwarder.storage.bodies import Upload
from forwarder.storage.message_rows import Envelope, OverLimit, OverQuota
from forwarder.storage.messages import StoredMessages
from forwarder.storage.returns import Arriving, Returns
from forwarder.store.letters import letter
from forwarder.store.machine import Event
from forwarder.wire.outcome import ACCEPTED, BUSY, DEFERRED, DUPLICATE, OVERQUOTA, PERMANENT, REFUSED, code_class

QUIET = 60
"""Seconds beside `wait` in which no failure is reported."""
REFUSALS = (Event.nouser, Event.refused)
NO_ROOM = (OVERQUOTA, BUSY)

log = structlog.get_logger("forwarder.submitting")


@dataclass(slots=True)
class _Same:
    """One delivery under way. here: how often; again: somebody brought it while another was here with it."""

    here: int = 0
    again: bool = False


class Submitting:
    """`heard` is told how each attempt of our store to notify ended."""

    def __init__(self, messages: StoredMessages, returns: Returns, accounts: Accounts, rules: StoreRules) -> None:
        self._messages = messages
        self._returns = returns
        self._accounts = accounts
        self._rules = rules
        self._waiting: dict[bytes, tuple[trio.Event, list[Verdict | None]]] = {}
        self._under_way: dict[bytes, _Same] = {}

    def spool(self) -> Spool:
        return self._messages.upload()

    def heard(self, key: bytes, verdict: Verdict | None) -> None:
        """None: the key was handed on to others."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting[1].append(verdict)
            waiting[0].set()

    async def submit(self, submission: Submission) -> Sequence[Outcome]:
        """bridges.Submit."""
        upload, envelope, arriving = await self._prepared(submission)
        with self._known(submission.once):
            return await self._submitted(submission, upload, envelope, arriving)

    @contextmanager
    def _known(self, marks: Sequence[bytes]) -> Iterator[None]:
        """So that who comes meanwhile with the same is seen."""
        for mark in set(marks):
            same = self._under_way.setdefault(mark, _Same())
            same.again = same.again or same.here > 0
            same.here += 1
        try:
            yield
        finally:
            for mark in set(marks):
                self._under_way[mark].here -= 1
                if not self._under_way[mark].here:
                    del self._under_way[mark]

    async def _submitted(
        self, submission: Submission, upload: Upload, envelope: Envelope, arriving: Arriving
    ) -> Sequence[Outcome]:
        try:
            keys = await self._returns.submit(upload, envelope, arriving)
        except OverQuota:
            raise SubmissionRefused("quota") from None
        except OverLimit:
            raise SubmissionRefused("limit") from None
        waiting = [key for key in keys if key is not None]
        log.debug("submitted", account=submission.account, keys=[handle(key) for key in waiting])
        try:
            for key in waiting:
                self._waiting[key] = (trio.Event(), [])
            with trio.move_on_after(submission.wait.total_seconds()):
                for key in waiting:
                    await self._waiting[key][0].wait()
            verdicts = {key: heard[-1] if (heard := self._waiting[key][1]) else None for key in waiting}
        finally:
            for key in waiting:
                self._waiting.pop(key, None)
        outcomes = {
            mark: await self._outcome(key, verdicts[key], mark)
            for key, mark in zip(keys, submission.once, strict=True)
            if key is not None
        }
        return [outcomes.get(mark, Outcome(DUPLICATE)) for mark in submission.once]

    async def _outcome(self, key: bytes, verdict: Verdict | None, mark: bytes) -> Outcome:
        if verdict is None or self._under_way[mark].again:
            return Outcome(DEFERRED)
        if verdict.event == Event.temporary and verdict.code in NO_ROOM:
            await self._returns.take_back(key)
            return Outcome(verdict.code)
        if verdict.event in REFUSALS:
            await self._returns.take_back(key)
            code = REFUSED if verdict.code is None else verdict.code
            return Outcome(code if code_class(code) == PERMANENT else REFUSED)
        return Outcome(ACCEPTED) if verdict.event == Event.taken else Outcome(DEFERRED)

    async def _prepared(self, submission: Submission) -> tuple[Upload, Envelope, Arriving]:
        spool = submission.spool
        assert isinstance(spool, Upload)
        if len(submission.once) != len(submission.to):
            raise ValueError("one `once` for each recipient")
        account = await self._accounts.find(submission.account)
        if account is None or "originate" not in account.may:
            await spool.abort()
            raise SubmissionRefused("account")
        expires = self._messages.now + int(submission.lifetime.total_seconds())
        envelope = Envelope(
            account=account.name,
            recipients=submission.to,
            lists=(),
            letter=letter(account.name, spool.size, spool.sha256, spool.claimed, expires),
            expires=expires,
            fingerprint=b"",
            quota=self._rules.quota,
            per_day=account.limits.get("notifications_per_day", 0),
            recipients_per_day=account.limits.get("recipients_per_day", 0),
        )
        quiet = QUIET + int(submission.wait.total_seconds())
        return spool, envelope, Arriving(submission.returns, submission.once, quiet, submission.redirects)
