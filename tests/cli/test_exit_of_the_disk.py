"""What a verb ends with where the disk does not take it: "not now", for nothing is wrong with what was typed."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from forwarder.cli import NOT_NOW, USAGE, _report


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, NOT_NOW), (errno.EIO, NOT_NOW), (errno.ENOENT, USAGE), (errno.EACCES, USAGE)]
)
def test_a_fault_of_the_disk_is_not_now(number: int, code: int, capsys: Any) -> None:
    assert _report(OSError(number, "said so", "/some/file")) == code
    assert capsys.readouterr().err == "forwarder: /some/file: said so\n"
