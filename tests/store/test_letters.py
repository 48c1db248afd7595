"""What our store's notifications say of where it is."""

from __future__ import annotations

import pytest

from forwarder.model import Mailbox, ServiceLocation
from forwarder.ports import Due
from forwarder.store.letters import addressed, letter
from forwarder.wire.notification import decode_notification


@pytest.mark.parametrize("tls", [False, True])
def test_the_store_is_named_over_tls_too_where_it_serves_that(tls: bool) -> None:
    octets = letter("toby", 5, bytes(32), None, 2_000_000_000)
    due = Due(1, bytes(16), Mailbox("brian", "isp.example"), octets, None, None, None, True, 0)
    said = decode_notification(addressed(due, "a.example", tls=tls))
    assert said.storeclear == ServiceLocation("a.example")
    assert said.storessl == (ServiceLocation("a.example") if tls else None)
