"""All surfaces, by name."""

from __future__ import annotations

from . import (
    bridge_targets,
    config_targets,
    daemon_targets,
    dialogue_targets,
    dns_targets,
    message_targets,
    pop3_targets,
    wire_targets,
)

ROOMS = (
    *(wire_targets, config_targets, dns_targets, message_targets, daemon_targets, dialogue_targets, bridge_targets),
    pop3_targets,
)
ALL = {target.name: target for room in ROOMS for target in room.TARGETS}
