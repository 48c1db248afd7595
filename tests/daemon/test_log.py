"""What the daemon's log shows: what an operator must know; what each message does only where he asks for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from forwarder.daemon.run import log_to_stderr
log_to_stderr(debug={debug})
for said in ("debug", "info", "warning"):
    getattr(structlog.get_logger("forwarder"), said)("x")
"""


@pytest.mark.parametrize(("debug", "shown"), [(False, ["info", "warning"]), (True, ["debug", "info", "warning"])])
def test_each_messages_doings_are_shown_where_asked_for(debug: bool, shown: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM.format(debug=debug)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=30, check=True)
    assert [json.loads(line)["level"] for line in ended.stderr.splitlines()] == shown
