"""Who forges a store and sender fills his own share of a mailbox, not that of the innocent (protocol 8.8)."""

from __future__ import annotations

import pytest

from forwarder.storage.caps import Caps, InboxLimits, Origin

ENTRY, NOW = "vera@pobox.example", 1_800_000_000


def by(address: str) -> Origin:
    return Origin.by(ENTRY, "store.example", "toby", address)


FORGER, NEIGHBOUR, INNOCENT = by("198.51.100.7"), by("198.51.100.8"), by("192.0.2.9")


@pytest.mark.parametrize("limit", ["waiting_per_sender", "per_sender_per_day", "per_store_per_day"])
def test_a_share_is_of_the_network_that_submits(limit: str) -> None:
    caps = Caps(InboxLimits(0, 0, 0, 0)._replace(**{limit: 3}))
    for _ in range(3):
        assert caps.strikes(FORGER, {}, NOW) is None
        caps.came(FORGER)
    assert caps.strikes(FORGER, {}, NOW) == limit
    assert caps.strikes(NEIGHBOUR, {}, NOW) == limit, "who may command one address has its network"
    assert caps.strikes(INNOCENT, {}, NOW) is None
