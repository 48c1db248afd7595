"""One of each group: the lowest priority whose agent can be found (protocol 5.0, user-level DNS)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from forwarder.model import Mailbox
from forwarder.plugin import PeerError
from forwarder.ports import UserRecord

from .test_sending import BRIAN, World, record


@pytest.fixture
def world(nursery: trio.Nursery) -> World:
    return World(nursery)


@pytest.mark.parametrize(
    ("without", "sent"),
    [
        ([], ["b@b.example", "d@d.example"]),
        (["b.example"], ["a@a.example", "d@d.example"]),
        (["a.example", "b.example", "c.example"], ["b@b.example", "d@d.example"]),
        (["d.example"], ["b@b.example", "c@c.example"]),
    ],
)
async def test_one_of_each_group_by_priority(
    autojump_clock: MockClock, world: World, without: list[str], sent: list[str]
) -> None:
    """Where none of a group is to be found the first keeps its key, for it is tried again."""
    world.locator.users[str(BRIAN)] = [
        record("a@a.example", 1, 20),
        record("b@b.example", 1, 10),
        record("c@c.example", 2, 30),
        record("d@d.example", 2, 5),
    ]
    world.locator.without_agent.update(without)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert sorted(world.sent_to()) == sent


async def test_a_dns_that_fails_leaves_the_mailbox_to_its_domains_agent(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def records(mailbox: Mailbox) -> Sequence[UserRecord]:
        raise PeerError("no answer")

    monkeypatch.setattr(world.locator, "records", records)
    world.start()
    world.messages.submit(BRIAN)
    await trio.sleep(1)
    assert world.sent_to() == [str(BRIAN)]
