"""What tests with daemons of other users need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Others than its owner may pass through it. pytest's own are closed by each run that begins beside ours."""
    with tempfile.TemporaryDirectory(prefix="forwarder-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
