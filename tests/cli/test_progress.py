"""Progress is for a person at a terminal: there it is seen and then gone, elsewhere not an octet is written."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.cli.progress import progress

PROGRAM = (
    "from forwarder.cli.progress import progress\nwith progress('checking') as step:\n    [step() for _ in range(1234)]"
)


def test_without_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("checking") as step:
        step()
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_it_is_counted_on_standard_error_and_taken_away(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=its, env=environment, timeout=30, check=True
    )
    os.close(its)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # so a terminal ends
        pass
    os.close(ours)
    assert ended.stdout == b""
    assert b"checking" in shown
    assert b"1,234" in shown
    assert shown.rstrip().endswith((b"\x1b[2K", b"\x1b[?25h")), "the line is erased, the cursor is back"
