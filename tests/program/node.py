"""A real daemon in a process of its own: its folder made by the verbs, its ports picked by the system.

Its log is read as it comes, so a test waits for an event, never for a while. Only processes started here are ended.
The clock of a node started with `turnable=True` can be turned forward; it then runs on from there.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from forwarder.cli import main
from forwarder.model import parse_mailbox

PATIENCE = 20.0
SERVICES = ("rnasp", "msrap", "rnaqp", "msoap", "dns")
PASSWORD = "secret"

TURNED = """
import mmap, struct, sys, time
with open(sys.argv[1], "rb") as file:
    real, turn = time.time, mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
time.time = lambda: real() + struct.unpack("d", turn)[0]
from forwarder.cli import main
sys.exit(main(sys.argv[2:]))
"""


def verb(*arguments: object, stdin: str = "") -> None:
    """A verb of the program, in process. It must go well."""
    before, sys.stdin = sys.stdin, StringIO(stdin)
    try:
        code = main([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    assert code == 0, arguments


class Node:
    """A configuration folder and, while it runs, its daemon."""

    def __init__(
        self, folder: Path, domain: str, settings: Mapping[str, object] | None = None, options: Sequence[str] = ()
    ) -> None:
        """settings: TABLE.KEY to a TOML value; options: more of `init`."""
        self.folder = folder
        self.domain = domain
        self.log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._turn: mmap.mmap | None = None
        listen = {f"listen.{service}": '["127.0.0.1:0"]' for service in SERVICES}
        chosen = {"network.allow": '["127.0.0.0/8"]', "node.drain": '"5s"', **listen, **(settings or {})}
        sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
        verb("init", folder, "--name", f"mx.{domain}", "--domain", domain, *sets, *options)

    # -- files

    def account(self, name: str, may: str = "read,originate") -> None:
        verb("account", "add", name, "--may", may, "--config", self.folder, stdin=f"{PASSWORD}\n")

    def address(self, mailbox: str, toml: str) -> Path:
        """Writes the file, as a person with an editor would; a running daemon is told."""
        parsed = parse_mailbox(mailbox)
        path = self.folder / "addresses" / parsed.domain / f"{parsed.localpart}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(toml + "\n")
        path.chmod(0o640)
        if self.running:
            self.ask("changed", address=mailbox)
        return path

    # -- the process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, turnable: bool = False, ready: bool = True, turned: float = 0.0) -> None:
        """turned: seconds that a turnable clock is ahead from the start."""
        program = [sys.executable, "-m", "forwarder"]
        if turnable:
            clock = self.folder / "clock"
            clock.write_bytes(struct.pack("d", turned))
            with clock.open("r+b") as file:
                self._turn = mmap.mmap(file.fileno(), 8)
            program = [sys.executable, "-c", TURNED, str(clock)]
        self.log = []
        self._process = subprocess.Popen(
            [*program, "serve", "--config", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error", "FORWARDER_DEBUG": "1"},
        )
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        if ready:
            self.event("ready")
            self.listeners: dict[str, list[str]] = self.ask("status")["listeners"]

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": line.rstrip("\n"), "level": "text"}
            with self._news:
                self.log.append(record)
                self._news.notify_all()
        with self._news:
            self.log.append({"event": "ended"})
            self._news.notify_all()

    def event(self, name: str, **fields: object) -> dict[str, Any]:
        """The first log record of that name with these fields; waits for it."""

        def seen() -> dict[str, Any] | None:
            for record in self.log:
                if record["event"] == name and fields.items() <= record.items():
                    return record
            return None

        def over() -> bool:
            return bool(self.log) and self.log[-1]["event"] == "ended"

        with self._news:
            self._news.wait_for(lambda: seen() or over(), PATIENCE)
            record = seen()
        assert record is not None, f"the daemon never said {name!r}; it said {[r['event'] for r in self.log][:90]}"
        return record

    def ended(self) -> int:
        """Waits for the process; its exit code. Nothing but records stood in its log."""
        assert self._process is not None
        code = self._process.wait(PATIENCE)
        self._close_log()
        text = [record["event"] for record in self.log if record.get("level") == "text"]
        assert not any("Traceback" in line or "Warning" in line for line in text), "\n".join(text)
        return code

    def _close_log(self) -> None:
        assert self._process is not None
        if self._reader is not None:
            self._reader.join(PATIENCE)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        self.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """-9: no word of farewell."""
        self.send_signal(signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL

    def end(self) -> None:
        """For fixtures: whatever state it is in, it is gone afterwards."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process is not None:
            self._process.wait(PATIENCE)
            self._close_log()
        if self._turn is not None:
            self._turn.close()

    # -- talking to it

    def port(self, service: str) -> int:
        return int(self.listeners[service][0].rpartition(":")[2])

    def connect(self, service: str, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port(service)), PATIENCE, source_address=(source, 0))

    def ask(self, verb: str, **fields: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(str(self.folder / "state" / "control.sock"))
            control.sendall(json.dumps({"verb": verb, **fields}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(control.makefile().readline())
        assert answer["ok"], answer
        return answer

    def turn_clock(self, seconds: float) -> None:
        assert self._turn is not None
        self._turn[:8] = struct.pack("d", self.turned + seconds)

    @property
    def turned(self) -> float:
        """Seconds its clock is ahead of ours."""
        return 0.0 if self._turn is None else float(struct.unpack("d", self._turn[:8])[0])

    def why(self, address: str) -> dict[str, Any]:
        told = subprocess.run(
            [sys.executable, "-m", "forwarder", "why", address, "--json", "--config", str(self.folder)],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert told.returncode in (0, 1), told.stderr
        said: dict[str, Any] = json.loads(told.stdout)
        return said


@contextmanager
def running(node: Node, *, turnable: bool = False) -> Iterator[Node]:
    try:
        node.start(turnable=turnable)
        yield node
    finally:
        node.end()
