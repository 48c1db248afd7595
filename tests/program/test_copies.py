"""Copies of others' messages by a real daemon: what an address may hold, and what is left at the source in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.wire.msoap import Cancel, NotificationStatus, Track
from forwarder.wire.msrap import QuerySize, ScanList

from .node import PATIENCE, Node
from .session import Session, submit

HERE = "pobox.example"
DESK = f"desk@{HERE}"
READ = 'strategy = "pull_hold"\nreaders = ["anna"]\npull_hold.unpin_source = "after_readers"'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """anna reads DESK; toby and vera write; and an account is named like the address."""
    made = Node(tmp_path / "node", HERE, {"store.quota_per_sender": '"3KiB"'})
    for name in ("anna", "toby", "vera", DESK):
        made.account(name)
    made.address(DESK, f'{READ}\npull_hold.keep = "1h"')
    try:
        yield made
    finally:
        made.end()


def until(seen: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := seen()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def listed(node: Node) -> list[bytes]:
    with Session(node, "msrap", "anna") as reader:
        response = reader.ask(ScanList(DESK, 0))
        return list(response.data.messages) if response.status.name == "noerror" else []


def test_one_sender_fills_his_own_share_of_an_address_and_the_limit_is_named(node: Node) -> None:
    node.start()
    with Session(node, "msoap", "toby") as toby, Session(node, "msoap", "vera") as vera:
        submit(toby, DESK, body=b"1" * 2048)
        until(lambda: len(listed(node)) == 1)
        submit(toby, DESK, body=b"2" * 2048)
        until(lambda: node.ask("status")["limits"].get("quota_per_sender"))
        submit(vera, DESK, body=b"3" * 2048)
        until(lambda: len(listed(node)) == 2)
    assert node.event("limit struck", limit="quota_per_sender")["by"] == DESK
    assert node.event("errand put off")["error"] == "over the limit quota_per_sender"


def test_when_its_time_ends_the_source_is_unpinned_and_no_account_of_its_name_has_a_hold_on_it(node: Node) -> None:
    node.start(turnable=True)
    with Session(node, "msoap", "toby") as toby:
        [key] = submit(toby, DESK)
        [copy] = until(lambda: listed(node))
        until(lambda: toby.ask(Track(key)).data.delivery.notificationstatus is NotificationStatus.silenced)
        assert toby.ask(Track(key)).data.delivery.pinned
        with Session(node, "msoap", DESK) as namesake, Session(node, "msrap") as reader:
            for command in (Track(copy), Cancel(copy)):
                assert namesake.says(command) == "errornotpermitted"
            assert reader.says(QuerySize(copy)) == "noerror"
    assert node.stop() == 0
    node.start(turnable=True, turned=3700.0)
    with Session(node, "msoap", "toby") as toby, Session(node, "msrap") as reader:
        until(lambda: not toby.ask(Track(key)).data.delivery.pinned)
        assert reader.says(QuerySize(copy)) == "errornosuchmessage"
    assert listed(node) == []
