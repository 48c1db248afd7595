"""By what answers a store is known as one of 2004, and for how long (protocol 5.0, detection)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from forwarder.net.sources import LEGACY_SECONDS, StoreSources
from forwarder.plugin import PeerError
from forwarder.wire.msrap import QuerySize, Response, Retrieve
from forwarder.wire.rnasp import Status

from .test_sources import NOTE, Net, Store


class Says(Store):
    """QuerySize is answered so, the rest as by any store."""

    def __init__(self, abort: bool, status: Status) -> None:
        super().__init__()
        self.said = Response(abort, status)

    async def answer(self, command: Any, /) -> Response | None:
        if isinstance(command, QuerySize):
            self.asked.append(command)
            return self.said
        return await super().answer(command)


def sources(nursery: trio.Nursery, store: Store, now: list[float]) -> tuple[StoreSources, Net]:
    net = Net(nursery, store)
    return StoreSources(net, net.dial, lambda: now[0], lambda domain: False, store), net


@pytest.mark.parametrize("status", [Status.errormalformedpdu, Status.errorunexpectedcommand])
async def test_a_question_it_does_not_know_is_asked_in_the_old_way_for_a_day(
    nursery: trio.Nursery, status: Status
) -> None:
    store, now = Says(True, status), [1000.0]
    asking, net = sources(nursery, store, now)
    assert (await asking.look(NOTE)).size is None
    await asking.look(NOTE)
    assert [type(command) for command in store.asked] == [QuerySize, Retrieve, Retrieve]
    assert net.dialled == (2 if status is Status.errormalformedpdu else 1), "what it closes is opened anew"
    now[0] += LEGACY_SECONDS - 1
    await asking.look(NOTE)
    assert isinstance(store.asked[-2], Retrieve)
    now[0] += 2
    await asking.look(NOTE)
    assert [type(command) for command in store.asked[-2:]] == [QuerySize, Retrieve]
    assert LEGACY_SECONDS == 24 * 3600


@pytest.mark.parametrize(
    ("abort", "status"),
    [
        (False, Status.errorunexpectedcommand),
        (False, Status.errormalformedpdu),
        (True, Status.errorinternalproblem),
        (True, Status.errornotauthenticated),
        (False, Status.errorinternalproblem),
    ],
)
async def test_any_other_no_is_a_no_and_the_store_is_asked_in_the_new_way_again(
    nursery: trio.Nursery, abort: bool, status: Status
) -> None:
    """The flag says whether a command was aborted, the status alone never."""
    store = Says(abort, status)
    asking, _ = sources(nursery, store, [1000.0])
    for _ in range(2):
        with pytest.raises(PeerError):
            await asking.look(NOTE)
    assert [type(command) for command in store.asked] == [QuerySize, QuerySize]
