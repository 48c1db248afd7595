"""Pulling a message into our store, and what is then owed to its source (protocol 5.4, 5.5, 5.0 e, 8.9).

* Look, then fetch in slices to a spool file, then check size and digest, then one commit; only after it Silence, UnPin.
* One (store, key, address) is worked once; what was answered is remembered. A ring of pulls shows by its octets.
* The debts are rows: performed by `run`, at least once, with back-off, across restarts.
* An evil store: no more octets than it said, none beyond the limit, each slice with a deadline (`Sources`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from forwarder.model import COPIED, SHA256, Hop, Mailbox, Notification, Outcome, handle
from forwarder.plugin import PeerError
from forwarder.ports import BodySize, Clock, Copies, Copy, Full, Gone, NoService, Owed, PullOrder, Sources, Upload
from forwarder.ports.setbacks import Setback
from forwarder.store.letters import copied
from forwarder.store.sending import sleep_until
from forwarder.wire.notification import decode_notification, encode_notification
from forwarder.wire.outcome import ACCEPTED, BUSY, DUPLICATE, EXPIRED, LOOP, REFUSED

ALIKE = 3
ALIKE_SECONDS = 86400
DEBTS_AT_ONCE = 8

log = structlog.get_logger("forwarder.store")


class Pulling:
    """Implements ports.Puller. ours: whether a store's name is our own. hop: our mark for an address, by how.

    returns: the envelope sender of what came by other mail. lifetime: seconds a copy is kept where the order says
    nothing. first, longest, give_up: [retry], in seconds.
    """

    def __init__(
        self,
        copies: Copies,
        sources: Sources,
        clock: Clock,
        *,
        ours: Callable[[str], bool],
        hop: Callable[[Mailbox, int], Hop],
        returns: Callable[[Notification], Awaitable[str | None]],
        lifetime: int,
        first: int = 30,
        longest: int = 86400,
        give_up: int = 7 * 86400,
    ) -> None:
        self._copies = copies
        self._sources = sources
        self._clock = clock
        self._ours = ours
        self._hop = hop
        self._returns = returns
        self._lifetime = lifetime
        self._first, self._longest, self._give_up = first, longest, give_up
        self._under_way: set[tuple[str, bytes, Mailbox]] = set()
        self.setback = Setback()
        self.struck: Callable[[str, str], None] = _unheard

    async def pull(self, order: PullOrder) -> Outcome:
        """After COMMIT of the copy. Raises PeerError to be called again: the source's fault, a full quota or disk."""
        notification = order.notification
        mark = (notification.store, notification.identifier, order.address.folded)
        if mark in self._under_way:
            return Outcome(BUSY, retryafter=300)
        self._under_way.add(mark)
        try:
            if earlier := await self._copies.pulled(*mark):
                return Outcome(DUPLICATE) if earlier.code == ACCEPTED else earlier
            code, expires = await self._work(order)
            if code != ACCEPTED:
                await self._copies.refuse(*mark, code, expires)
            log.info("pulled", key=handle(notification.identifier), address=str(order.address), code=code)
            return Outcome(code)
        except Full as full:
            self.struck(full.limit, str(order.address))
            raise
        finally:
            self._under_way.discard(mark)

    async def _work(self, order: PullOrder) -> tuple[int, int | None]:
        """The code to remember, and the source's own end."""
        notification = order.notification
        if self._ours(notification.store):
            copied_for = await self._copies.copied_for(notification.identifier)
            if copied_for and copied_for.folded == order.address.folded:
                return LOOP, notification.expires
        if notification.size is not None and notification.size > order.max_size:
            return REFUSED, notification.expires
        try:
            seen = await self._sources.look(notification)
            expires = _earliest(notification.expires, seen.expires)
            if seen.size is not None and seen.size > order.max_size:
                return REFUSED, expires
            await self._have_room(order, seen)
            return await self._fetch(order, seen, expires), expires
        except Gone:
            return EXPIRED, notification.expires
        except NoService as error:
            if error.kind == "forbidden":
                return REFUSED, notification.expires
            raise
        except OSError as error:
            raise PeerError(f"no room for the copy: {error}") from error

    async def _have_room(self, order: PullOrder, seen: BodySize) -> None:
        """Raises Full, before anything is fetched."""
        notification = order.notification
        size = next((size for size in (seen.size, notification.size) if size is not None), 1)
        if limit := await self._copies.full(order.address, notification.store, notification.sender, size):
            raise Full(limit)

    async def _fetch(self, order: PullOrder, seen: BodySize, expires: int | None) -> int:
        upload = self._copies.upload()
        try:
            limit = order.max_size + 1 if seen.size is None else seen.size
            async with self._sources.body(order.notification, limit) as slices:
                async for piece in slices:
                    await upload.write(piece)
            if upload.size > order.max_size:
                return REFUSED
            _check(order.notification, seen, upload)
            if await self._copies.alike(order.address, upload.sha256, ALIKE_SECONDS) >= ALIKE:
                return LOOP
            copy = self._copy(order, upload, expires, await self._returns(order.notification))
            if copy.expires <= self._clock():
                return EXPIRED
            await self._copies.keep(upload, copy)
            return ACCEPTED
        finally:
            await upload.abort()

    def _copy(self, order: PullOrder, upload: Upload, expires: int | None, returns: str | None) -> Copy:
        notification = order.notification
        ends = int(self._clock()) + (self._lifetime if order.keep is None else order.keep)
        archived = order.keep is not None and order.unpin == "after_copy"  # a promise about a body that is ours alone
        ends = ends if expires is None or archived else min(ends, expires)
        letter = copied(
            notification,
            order.address,
            self._hop(order.address, COPIED),
            *(upload.size, upload.sha256, upload.claimed, ends),
        )
        return Copy(
            store=notification.store,
            key=notification.identifier,
            source=notification.raw or encode_notification(notification),
            address=order.address,
            entry=order.entry,
            to=order.to,
            readers=order.readers,
            linked=order.linked,
            unpin=order.unpin,
            shared=order.shared,
            letter=letter,
            expires=ends,
            sender=notification.sender,
            returns=returns,
        )

    # -- what is owed to sources

    async def run(self) -> None:
        """Silences and un-pins what is owed. Ends with its cancellation."""
        while True:
            try:
                await self._pay_what_is_due()
                self.setback.over()
            except Exception as error:  # the disk: later may go better, and nothing is lost meanwhile
                pause = self.setback.pause(error)
                log.exception("debts to sources not read", error=repr(error), again_in=pause)
                await trio.sleep(pause)

    async def _pay_what_is_due(self) -> None:
        """Then sleeps until there may be more."""
        news = self._copies.news()
        owed, upcoming = await self._copies.owed(DEBTS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for debt in owed:
                nursery.start_soon(self._pay, debt)
        if not owed:
            with trio.move_on_after(sleep_until(upcoming, self._clock)):
                await news.wait()

    async def _pay(self, debt: Owed) -> None:
        try:
            try:
                await self._tell_source(debt)
            except PeerError as error:
                await self._later(debt, error)
            self.setback.over(debt.number)
        except Exception as error:  # a bug or the disk: the row stands, it is tried again, but not in a circle
            pause = self.setback.pause(error, debt.number)
            log.exception("debt to a source failed", message=debt.number, error=repr(error), again_in=pause)
            await trio.sleep(pause)

    async def _later(self, debt: Owed, error: PeerError) -> None:
        waited = self._clock() - debt.since
        if waited > self._give_up:
            log.warning("source given up", message=debt.number, seconds=int(waited), detail=str(error))
            await self._copies.paid(debt.number, silence=True, unpin=True)
        else:
            log.info("source not told", message=debt.number, detail=str(error))
            await self._copies.postpone(debt.number, min(self._first << min(debt.failures, 20), self._longest))

    async def _tell_source(self, debt: Owed) -> None:
        notification = decode_notification(debt.source)
        if notification.expires is not None and notification.expires <= self._clock():
            await self._copies.paid(debt.number, silence=True, unpin=True)  # there is nothing left to silence there
            return
        try:
            if debt.silence:
                await self._sources.silence(notification)
            if debt.unpin:
                await self._sources.unpin(notification)
        except Gone:  # dealt with, by us or by another: nothing is owed any more
            await self._copies.paid(debt.number, silence=True, unpin=True)
        else:
            await self._copies.paid(debt.number, silence=debt.silence, unpin=debt.unpin)


def _unheard(limit: str, who: str) -> None:
    """Where nobody counts."""


def _earliest(*times: int | None) -> int | None:
    return min((at for at in times if at is not None), default=None)


def _check(notification: Notification, seen: BodySize, upload: Upload) -> None:
    """Raises PeerError: what came is not what was promised."""
    sizes = {size for size in (notification.size, seen.size) if size is not None}
    if sizes and sizes != {upload.size}:
        raise PeerError(f"{upload.size} octets came where {sorted(sizes)} were promised")
    for digest in (notification.digest, seen.digest):
        if digest is not None and digest.algorithm == SHA256 and digest.value != upload.sha256:
            raise PeerError("the digest differs")
