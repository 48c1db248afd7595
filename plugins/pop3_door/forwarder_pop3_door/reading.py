"""What the door needs of the node: who may log in, and what waits for him. All else of the plugin has it from here."""

from __future__ import annotations

from forwarder.bridges import Gone, Item, Login, Reader
from forwarder.plugin import PeerError

__all__ = ["Gone", "Item", "Login", "PeerError", "Reader"]
