"""At my store: submit, track, cancel (MSOAP, protocol 3.2 and 4).

A submission whose answer was lost is repeated once, at once: the store knows account, envelope and content again for
10 min and gives the first keys. Octets are sent as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import NamedTuple

from forwarder.model import Mailbox
from forwarder.reader.calls import Calls, Refused, Talk, expect, twice
from forwarder.reader.me import StoreAccount
from forwarder.wire.msoap import (
    Cancel,
    Cancelled,
    ChunkAnswer,
    DeliveryStatus,
    EnvelopeAnswer,
    SubmissionStatus,
    SubmitEnvelope,
    SubmitMsgChunk,
    Track,
    Tracked,
)

CHUNK = 1 << 20
"""Octets of a message in one command (protocol 2)."""


class Submitted(NamedTuple):
    """keys: of each recipient that the store took, in the envelope's order. denied: whom it would not."""

    keys: tuple[tuple[bytes, Mailbox], ...]
    denied: tuple[Mailbox, ...]


class Originator:
    """One account at one store."""

    def __init__(self, calls: Calls, store: StoreAccount) -> None:
        self._calls, self._store = calls, store
        self.name = f"{store.account} at {store.where}"
        self._who = f"the store at {store.where}"

    def _session(self) -> AbstractAsyncContextManager[Talk]:
        return self._calls.own(self._store.where, "msoap", self._store)

    async def submit(self, recipients: Sequence[Mailbox], message: bytes, lifetime: int) -> Submitted:
        """lifetime in seconds. Nothing is submitted if no recipient is acceptable. Raises PeerError."""
        return await twice(partial(self._submit, tuple(recipients), message, lifetime))

    async def _submit(self, recipients: tuple[Mailbox, ...], message: bytes, lifetime: int) -> Submitted:
        async with self._session() as talk:
            envelope = SubmitEnvelope(recipients, (), lifetime)
            judged = expect(await talk.ask(envelope), EnvelopeAnswer, self._who).recipients
            if len(judged) != len(recipients):
                raise Refused(f"{self._who}: {len(judged)} answers for {len(recipients)} recipients")
            pairs = list(zip(recipients, judged, strict=True))
            taken = [recipient for recipient, status in pairs if status is SubmissionStatus.acceptable]
            denied = tuple(recipient for recipient, status in pairs if status is not SubmissionStatus.acceptable)
            if not taken:
                return Submitted((), denied)
            keys = await self._chunks(talk, message)
        if len(keys) != len(taken):
            raise Refused(f"{self._who}: {len(keys)} keys for {len(taken)} recipients")
        return Submitted(tuple(zip(keys, taken, strict=True)), denied)

    async def _chunks(self, talk: Talk, message: bytes) -> tuple[bytes, ...]:
        answer = ChunkAnswer()
        for offset in range(0, len(message), CHUNK):
            last = offset + CHUNK >= len(message)
            chunk = SubmitMsgChunk(last, offset, message[offset : offset + CHUNK])
            answer = expect(await talk.ask(chunk), ChunkAnswer, self._who)
        return answer.identifiers

    async def track(self, keys: Sequence[bytes]) -> list[DeliveryStatus | None]:
        """What became of each; None: the store knows it no more, or it is not ours."""
        return await twice(partial(self._track, keys))

    async def _track(self, keys: Sequence[bytes]) -> list[DeliveryStatus | None]:
        found: list[DeliveryStatus | None] = []
        async with self._session() as talk:
            for key in keys:
                try:
                    found.append(expect(await talk.ask(Track(key)), Tracked, self._who).delivery)
                except Refused as refused:
                    if refused.status != "errornotpermitted":
                        raise
                    found.append(None)
        return found

    async def cancel(self, key: bytes) -> bool:
        """False: the store does not let us, or knows it no more."""
        return await twice(partial(self._cancel, key))

    async def _cancel(self, key: bytes) -> bool:
        async with self._session() as talk:
            try:
                expect(await talk.ask(Cancel(key)), Cancelled, self._who)
            except Refused as refused:
                if refused.status != "errornotpermitted":
                    raise
                return False
        return True
