"""The core's own doors to the world: what `agent` and `store` need, said without sockets, SQL or TOML.

Callbacks named `done` are called exactly once, from the loop, never from within the call that took them.
Times are Unix seconds. Every call that waits for a peer or the disk has a deadline inside.

A file for each need: who is here (`addresses`), where others are and how they are told (`net`), what is kept
(`storage`), others' stores (`sources`) and our own (`store`), plugins (`strategies`), what is served (`services`).
"""

from __future__ import annotations

from collections.abc import Callable

from forwarder.ports.addresses import (
    Account,
    Accounts,
    Addresses,
    Answer,
    Broken,
    Catalogue,
    Found,
    Nobody,
    NotOurs,
    Unread,
)
from forwarder.ports.net import (
    Agent,
    ByCarrier,
    Heard,
    Locator,
    Lost,
    NoService,
    Notifier,
    Proven,
    Results,
    ServiceName,
    Sessions,
    Status2004,
    UserRecord,
)
from forwarder.ports.services import (
    Conversation,
    Service,
)
from forwarder.ports.sources import (
    BodySize,
    Gone,
    Sources,
)
from forwarder.ports.storage import (
    Arrival,
    Debt,
    Inbox,
    Ledger,
    Memories,
    Sight,
    Trace,
    Waiting,
)
from forwarder.ports.store import (
    Child,
    Copies,
    Copy,
    CopyMembers,
    Due,
    Full,
    Messages,
    Owed,
    Puller,
    PullOrder,
    Upload,
    Verdict,
)
from forwarder.ports.strategies import (
    Strategies,
)

Clock = Callable[[], float]
"""Unix seconds now."""

__all__ = [
    "Clock",
    "Found",
    "Full",
    "Nobody",
    "NotOurs",
    "Unread",
    "Broken",
    "ByCarrier",
    "Answer",
    "Addresses",
    "Account",
    "Accounts",
    "Catalogue",
    "ServiceName",
    "Agent",
    "NoService",
    "UserRecord",
    "Locator",
    "Proven",
    "Results",
    "Status2004",
    "Lost",
    "Heard",
    "Sessions",
    "Notifier",
    "Strategies",
    "Arrival",
    "Waiting",
    "Sight",
    "Inbox",
    "Debt",
    "Memories",
    "Ledger",
    "Trace",
    "Gone",
    "BodySize",
    "Sources",
    "Due",
    "Verdict",
    "Child",
    "Messages",
    "Upload",
    "Copy",
    "Owed",
    "Copies",
    "CopyMembers",
    "PullOrder",
    "Puller",
    "Conversation",
    "Service",
]
