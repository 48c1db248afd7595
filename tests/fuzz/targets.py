"""All surfaces, by name."""

from __future__ import annotations

from . import config_targets, daemon_targets, dialogue_targets, dns_targets, message_targets, wire_targets

ALL = {
    target.name: target
    for room in (wire_targets, config_targets, dns_targets, message_targets, daemon_targets, dialogue_targets)
    for target in room.TARGETS
}
