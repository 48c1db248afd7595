"""One edge for the tests of a file: Postfix takes seconds to start and stop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .edge import Edge, opened

PEOPLE = ("brian", "freda")


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """With brian and freda, who have a mailbox each. Its folder is one that others may pass through."""
    with tempfile.TemporaryDirectory(prefix="forwarder-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with opened(folder) as running:
            for person in PEOPLE:
                running.node.account(person)
                mailbox = f"{person}@pobox.example"
                running.node.address(mailbox, f'strategy = "subscribe"\nowner = "{person}"\nreaders = ["{person}"]')
            yield running
