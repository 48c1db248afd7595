"""The control socket, our end (operator 3): one JSON object a line asked, one answered. The daemon's end is daemon/.

`{"verb": "...", ...}` -> `{"ok": true, ...}` or `{"ok": false, "error": "..."}`.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from forwarder.cli.errors import No
from forwarder.config.sockets import within_reach

PATIENCE = 15.0
"""Seconds for the daemon to answer."""
LONGEST = 16 << 20
"""Octets of an answer at most."""


def ask(state: Path, verb: str, *, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
    """The daemon's answer within `patience` seconds. Raises No: no daemon runs, it does not answer, or it says no."""
    question = json.dumps({"verb": verb, **fields}).encode() + b"\n"
    try:
        answer = json.loads(_exchange(state / "control.sock", question, patience))
    except (FileNotFoundError, ConnectionRefusedError):
        raise No(f"forwarder: no daemon runs on {state}") from None
    except (OSError, ValueError) as error:
        raise No(f"forwarder: the daemon on {state} does not answer: {error}") from None
    if not isinstance(answer, dict) or not answer.get("ok"):
        raise No(f"forwarder: the daemon says: {answer.get('error') if isinstance(answer, dict) else answer}")
    return answer


def tell(state: Path, verb: str, **fields: Any) -> dict[str, Any] | None:
    """As `ask`, for news: None where no daemon runs or it cannot be asked (it finds out by itself)."""
    try:
        return ask(state, verb, **fields)
    except No:
        return None


def _exchange(path: Path, question: bytes, patience: float) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(patience)
        with within_reach(path) as name:
            connection.connect(name)
        connection.sendall(question)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) < LONGEST:
            some = connection.recv(1 << 16)
            if not some:
                break
            answer += some
        if not answer:
            raise OSError("it went away")
        return bytes(answer)
