"""The nodes of a demo as processes: `start` waits until all answer, `stop` ends every one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from forwarder.cli.errors import No
from forwarder.demo.shell import Shell, until

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class PortTaken(Exception):  # an answer: other ports, please
    """Somebody took a port between our look and the daemon's."""


class Daemons:
    """names: of each node's folder, the name of the node."""

    def __init__(self, shell: Shell, names: Mapping[str, str]) -> None:
        self._shell, self._names = shell, names
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Returns when all answer. Raises PortTaken, No."""
        for node in self._names:
            self._running[node] = self._shell.serve(node)
        for node, process in self._running.items():
            if not until(lambda n=node, p=process: p.poll() is not None or self._answers(n), START_SECONDS):  # type: ignore[misc]
                raise No(f"forwarder demo: {self._names[node]} does not answer: {last_line(f'{node}.log')}")
            if process.poll() is not None:
                if "in use" in last_line(f"{node}.log"):
                    raise PortTaken(node)
                raise No(f"forwarder demo: {self._names[node]} has ended: {last_line(f'{node}.log')}")

    def ended(self) -> str | None:
        """The name of a node that has ended by itself."""
        return next((self._names[node] for node, process in self._running.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """SIGTERM to each, SIGKILL to what is still there STOP_SECONDS later."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _answers(self, node: str) -> bool:
        """Its control socket appears when all listen; to ask earlier would only take its time."""
        there = Path(node, "state", "control.sock").exists()
        return there and self._shell.watch("status", "--config", node, "--json") is not None


def last_line(log: str) -> str:
    """The last line that a process wrote there."""
    lines = Path(log).read_text(errors="replace").splitlines() if Path(log).exists() else []
    return lines[-1] if lines else "its log is empty"
