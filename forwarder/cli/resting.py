"""A state folder for verbs that work on it: held where no daemon runs, else the daemon is asked (operator 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forwarder.cli.errors import No
from forwarder.daemon.state import DATABASE, StateInUse, lock

HOURS = 86400.0
"""Seconds that the daemon may take for what goes through all of its state."""


@contextmanager
def at_rest(state: Path) -> Iterator[bool]:
    """True: the folder is ours until the end. False: a daemon has it. Raises No where there is no state."""
    if not (state / DATABASE).exists():
        raise No(f"forwarder: there is no state in {state}: no daemon has run on it")
    try:
        descriptor = lock(state)
    except StateInUse:
        yield False
        return
    try:
        if os.geteuid() == 0:  # the daemon's user must be able to open it
            owner = state.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        yield True
    finally:
        os.close(descriptor)
