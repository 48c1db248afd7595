"""MSOAP: originators submit, track and cancel at our store (protocol 3.2, 3.4, 4).

* A submission is an envelope, then chunks with contiguous offsets; the keys come with the last one, after COMMIT.
* A session that ends, or a step out of place, takes its submission with it: nothing of it stays.
* The same account, envelope and octets within 10 min get the first keys again: a lost answer sends no mail twice.
* Track and Cancel know an account's own handles only; of others the answer is errornotpermitted.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import structlog

from forwarder.agent.limits import Struck, unheard
from forwarder.model import Mailbox, Peer, handle
from forwarder.ports import Account, Accounts, Conversation
from forwarder.services.login import Login
from forwarder.storage.bodies import Upload
from forwarder.storage.message_rows import Envelope, OverLimit, OverQuota
from forwarder.storage.messages import StoredMessages
from forwarder.store.letters import letter
from forwarder.wire.msoap import (
    Cancel,
    Cancelled,
    ChunkAnswer,
    Command,
    DeliveryStatus,
    EnvelopeAnswer,
    NotificationStatus,
    ReadStatus,
    Response,
    Status,
    SubmissionStatus,
    SubmitEnvelope,
    SubmitMsgChunk,
    Track,
    Tracked,
)
from forwarder.wire.rnaqp import Authenticate, Authenticated
from forwarder.wire.session import MSOAP

SHORTEST_LIFETIME = 300
"""Seconds; under the first retry's distance a message might end before it was ever notified."""

log = structlog.get_logger("forwarder.msoap")


class StoreRules(NamedTuple):
    """[store]: lifetime in seconds (the most), max_size and quota in octets."""

    lifetime: int
    max_size: int
    quota: int


class Msoap:
    """ports.Service. clear_login: whether this peer may send a password. may_post: (account, list name)."""

    def __init__(
        self,
        messages: StoredMessages,
        accounts: Accounts,
        clear_login: Callable[[Peer], bool],
        rules: StoreRules,
        may_post: Callable[[str, str], bool] = lambda account, name: False,
    ) -> None:
        self.messages = messages
        self.login = Login(accounts, clear_login, "originate")
        self.rules = rules
        self.may_post = may_post
        self.struck: Struck = unheard

    def open(self, peer: Peer) -> Conversation:
        return Originating(self, peer)


class _Submission(NamedTuple):
    """Under way: what the envelope said of it, and the octets so far. room: what the quota leaves."""

    recipients: tuple[Mailbox, ...]
    lists: tuple[str, ...]
    lifetime: int
    room: int
    upload: Upload


class Originating:
    """One originator's session."""

    def __init__(self, service: Msoap, peer: Peer) -> None:
        self._service = service
        self._messages = service.messages
        self._peer = peer
        self._name: str | None = None
        self._open: _Submission | None = None

    async def answer(self, command: Command, /) -> Response:
        if isinstance(command, Authenticate):
            return await self._authenticate(command)
        account = await self._service.login.may_still(self._name)
        if account is None:
            return await self._fail("errornotauthenticated")
        match command:
            case SubmitEnvelope():
                return await self._envelope(account, command)
            case SubmitMsgChunk():
                return await self._chunk(account, command)
            case Track(key):
                return await self._track(account.name, key)
            case Cancel(key):
                if not await self._messages.cancel(key, account.name):
                    return _error("errornotpermitted")
                log.info("cancelled", key=handle(key), account=account.name)
                return _fine(Cancelled())

    async def close(self) -> None:
        """The submission under way, if any, goes with its session."""
        submission, self._open = self._open, None
        if submission is not None:
            await submission.upload.abort()

    async def _authenticate(self, command: Authenticate) -> Response:
        self._name = None
        await self.close()
        self._name = await self._service.login.log_in(command, self._peer)
        return _error("errornotauthenticated") if self._name is None else _fine(Authenticated())

    async def _envelope(self, account: Account, command: SubmitEnvelope) -> Response:
        if self._open is not None:
            return await self._fail("errorunexpectedcommand")
        if not command.recipients and not command.lists:
            return _error("errornotpermitted")
        if command.lifetime < SHORTEST_LIFETIME:
            return _error("errorlifetimetooshort")
        recipients = tuple(r for r in command.recipients if _printable(r))
        lists = tuple(name for name in command.lists if self._service.may_post(account.name, name))
        if recipients or lists:
            upload = self._messages.upload()
            room = self._service.rules.quota - await self._messages.room(account.name)
            self._open = _Submission(recipients, lists, command.lifetime, room, upload)
            if not await self._messages.may_submit(self._as_envelope(account, self._open)):
                return await self._over("limits of the day", account, "errornotpermitted")
        denied, fine = SubmissionStatus.submissionaccessdenied, SubmissionStatus.acceptable
        return _fine(
            EnvelopeAnswer(
                tuple(fine if _printable(r) else denied for r in command.recipients),
                tuple(fine if name in lists else denied for name in command.lists),
            )
        )

    async def _chunk(self, account: Account, command: SubmitMsgChunk) -> Response:
        submission = self._open
        if submission is None or command.offset != submission.upload.size:
            return await self._fail("errorunexpectedcommand")
        size = command.offset + len(command.data)
        if size > self._service.rules.max_size:
            return await self._over("max_size", account, "errornotenoughroom")
        if size > submission.room:
            return await self._over("quota", account, "errorwouldexceedquota")
        try:
            await submission.upload.write(command.data)
            return await self._submit(account, submission) if command.islast else _fine(ChunkAnswer())
        except OverQuota:
            return await self._over("quota", account, "errorwouldexceedquota")
        except OverLimit:
            return await self._over("limits of the day", account, "errornotpermitted")
        except OSError as error:
            log.error("no room for a submission", account=account.name, error=repr(error))
            return await self._fail("errornotenoughroom")

    async def _submit(self, account: Account, submission: _Submission) -> Response:
        submitted = await self._messages.submit(submission.upload, self._as_envelope(account, submission))
        self._open = None
        log.info(
            "submitted",
            account=account.name,
            keys=[handle(key) for key in submitted.keys],
            size=submission.upload.size,
        )
        return _fine(ChunkAnswer(submitted.keys, submitted.listkey))

    def _as_envelope(self, account: Account, submission: _Submission) -> Envelope:
        upload = submission.upload
        expires = self._messages.now + min(submission.lifetime, self._service.rules.lifetime)
        return Envelope(
            account=account.name,
            recipients=submission.recipients,
            lists=submission.lists,
            letter=letter(account.name, upload.size, upload.sha256, upload.claimed, expires),
            expires=expires,
            fingerprint=_fingerprint(account.name, submission),
            quota=self._service.rules.quota,
            per_day=account.limits.get("notifications_per_day", 0),
            recipients_per_day=account.limits.get("recipients_per_day", 0),
        )

    async def _track(self, account: str, key: bytes) -> Response:
        delivery = await self._messages.track(key, account)
        if delivery is None:
            return _error("errornotpermitted")
        told, read = NotificationStatus(delivery.told), ReadStatus(delivery.read)
        return _fine(Tracked(DeliveryStatus(told, read, delivery.pinned, delivery.redirectedto, delivery.lastcode)))

    async def _over(self, limit: str, account: Account, name: str) -> Response:
        """The status has no room for the limit's name: log and `status` have it."""
        self._service.struck(limit, account.name)
        return await self._fail(name)

    async def _fail(self, name: str) -> Response:
        """With an error in it a submission is over."""
        await self.close()
        return _error(name)


def _printable(recipient: Mailbox) -> bool:
    return not any(unicodedata.category(character) == "Cc" for character in recipient.localpart)


def _fingerprint(account: str, submission: _Submission) -> bytes:
    """Of what makes two submissions the same: each part with its length before it."""
    recipients = [part for mailbox in submission.recipients for part in mailbox]
    parts = [account, str(submission.lifetime), str(len(recipients)), *recipients, *submission.lists]
    digest = hashlib.sha256(submission.upload.sha256)
    for part in parts:
        octets = part.encode()
        digest.update(len(octets).to_bytes(4, "big") + octets)
    return digest.digest()


def _fine(data: Authenticated | EnvelopeAnswer | ChunkAnswer | Tracked | Cancelled) -> Response:
    return Response(False, Status.noerror, data)


def _error(name: str) -> Response:
    response: Response = MSOAP.error(name)
    return response
