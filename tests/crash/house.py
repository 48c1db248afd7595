"""The daemon's house: its folder, its places, and its lives, one after the other in the same state."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import argon2
import trio

from forwarder.cli import main
from forwarder.model import Endpoint

from .clock import Control
from .daemon import Life

ROOT = Path(__file__).parents[2]
DOMAIN = "pobox.test"
SERVICES = ("rnasp", "msrap", "rnaqp", "msoap")
PASSWORD = "secret"
PATIENCE = 30.0
ACCOUNTS = ("brian", "toby", "freda", "polly", "quinn", "smtpgateway")

ADDRESSES: dict[str, str] = {
    "sub": 'strategy = "subscribe"\nreaders = ["brian"]',
    "take": 'strategy = "subscribe"\nreaders = ["toby"]',
    "role": 'kind = "role"\nto = ["a@ext.test", "b@old.test", "late@ext.test"]',
    "leaf": 'kind = "role"\nto = ["d@ext.test", "sub@pobox.test"]',
    "one": 'to = ["c@ext.test"]',
    "pull": 'strategy = "pull_repush"\nto = ["p@ext.test"]\n[pull_repush]\nunpin_source = "after_copy"',
    "share": 'strategy = "pull_repush"\nkind = "role"\nto = ["q@ext.test", "r@old.test"]',
    "big": 'strategy = "pull_repush"\nto = ["p@ext.test"]\n[pull_repush]\nmax_size = "10B"',
    "hold": 'strategy = "pull_hold"\nkind = "role"\nreaders = ["freda", "brian"]',
    "timer": 'strategy = "diary"\n[diary]\nfile = "{diary}"',
    "again": 'strategy = "diary"\n[diary]\nfile = "{diary}"',
    "both": 'strategy = "diary"\nreaders = ["brian"]\n[diary]\nfile = "{diary}"',
    "escalate": 'strategy = "diary"\nto = ["x@ext.test", "y@old.test"]\n[diary]\nfile = "{diary}"',
    "sticky": 'strategy = "diary"\nto = ["s@ext.test", "t@ext.test", "u@ext.test"]\n[diary]\nfile = "{diary}"',
    "guest": 'strategy = "subscribe"\nreaders = ["brian"]',
}
MAILBOXES: dict[str, str] = {
    "box": 'strategy = "subscribe"\nkind = "role"\nreaders = ["polly", "quinn"]',
    "out": 'to = ["x@smtp.test"]',
    "bad": 'to = ["bad@smtp.test"]',
    "no": 'to = ["no@ext.test"]\n[rewrite_resend]\nstateless = true',
}
"""For today's mail (letters.py)."""
NOBODY = Endpoint("127.0.0.1", 9)
BRIDGE = """
[bridge.smtp_out]
smarthost = "{smarthost}"
[bridge.returns]
domain = "srs.pobox.test"
"""


class House:
    """places: domain to service to where it is, for `[resolve.static]`. nameserver: answers for everybody else.

    smarthost: of the bridge to today's mail, for smtp.test.
    """

    def __init__(
        self,
        folder: Path,
        places: Mapping[str, Mapping[str, Endpoint]],
        nameserver: Endpoint,
        smarthost: Endpoint = NOBODY,
    ) -> None:
        self.folder = folder / "house"
        self.diary = folder / "diary"
        self.control = Control(folder / "control")
        chance = random.SystemRandom()  # an address of our own on loopback, so that its ports are free for good
        self.address = f"127.{chance.randrange(20, 250)}.{chance.randrange(1, 250)}.{chance.randrange(1, 250)}"
        self.ports = {service: 7101 + place for place, service in enumerate(SERVICES)}
        self.pop3, self.lmtp = 7110, folder / "lmtp"
        self.life = 0
        self._make(places, nameserver)
        self._bridge(smarthost)
        self.deaths: list[tuple[str, str]] = []
        self.died_at = ("", "")
        self.code = 0
        self._process: trio.Process | None = None
        self._said = b""
        self._pid = 0

    def _make(self, places: Mapping[str, Mapping[str, Endpoint]], nameserver: Endpoint) -> None:
        static = ", ".join(
            f'"{domain}" = {{ {", ".join(f"{service} = {json.dumps(str(at))}" for service, at in services.items())} }}'
            for domain, services in places.items()
        )
        sets = {
            **{f"listen.{service}": f'["{self.address}:{port}"]' for service, port in self.ports.items()},
            "listen.dns": "[]",
            "listen.lmtp": f'["unix:{self.lmtp}"]',
            "listen.pop3": f'["{self.address}:{self.pop3}"]',
            "resolve.via": '{ "smtp.test" = "smtp" }',
            "network.allow": '["127.0.0.0/8"]',
            "resolve.nameservers": f'["{nameserver}"]',
            "resolve.static": f"{{ {static} }}",
            "node.drain": '"3s"',
            "node.recheck": '"1h"',
        }
        parts = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
        _verb("init", str(self.folder), "--name", f"mx.{DOMAIN}", "--domain", DOMAIN, *parts)
        cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        for name in ACCOUNTS:
            text = f'password = "{cheap.hash(PASSWORD)}"\nmay = ["read", "originate"]\n'
            _write(self.folder / "accounts" / f"{name}.toml", text)
        for name in (*ADDRESSES, *MAILBOXES):
            self.write(name)

    def _bridge(self, smarthost: Endpoint) -> None:
        node = self.folder / "forwarder.toml"
        node.write_text(node.read_text() + BRIDGE.format(smarthost=smarthost))
        secret = self.folder / "srs.secret"
        secret.write_text("a secret of the crash harness\n")
        secret.chmod(0o600)

    def write(self, name: str) -> None:
        text = (ADDRESSES | MAILBOXES)[name].replace("{diary}", str(self.diary)) + "\n"
        _write(self.folder / "addresses" / DOMAIN / f"{name}.toml", text)

    def remove(self, name: str) -> None:
        (self.folder / "addresses" / DOMAIN / f"{name}.toml").unlink(missing_ok=True)

    # -- lives

    async def open(self) -> None:
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.crash.daemon", str(self.control.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    async def close(self) -> None:
        if self._process is not None:
            if self._pid:
                self.kill()
            self._process.kill()
            await self._process.wait()
        self.control.close()

    async def start(self, **how: Any) -> bool:
        """A life begins. True: it is ready; False: it ended before, or was a verb that ends by itself."""
        self.life += 1
        self.died_at = ("", "")
        life = Life(str(self.folder), self.life, **how)
        assert self._process is not None and self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(life._asdict()).encode() + b"\n")
        while (word := await self._hear())[0] != "ready":
            if word[0] == "ended":
                return False
        return True

    async def mend(self, **how: Any) -> int:
        """A life of `fsck --repair`; its exit code, or minus the signal."""
        await self.start(verb=("fsck", "--repair"), **how)
        return self.code

    async def ended(self) -> int:
        """Waits for its end; the exit code, or minus the signal."""
        while (word := await self._hear())[0] != "ended":
            pass
        return int(word[1])

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    async def stop(self) -> int:
        os.kill(self._pid, signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            return await self.ended()

    async def _hear(self) -> list[str]:
        assert self._process is not None and self._process.stdout is not None
        while b"\n" not in self._said:
            piece = await self._process.stdout.receive_some()
            if not piece:
                raise RuntimeError("the entry point has ended")
            self._said += bytes(piece)
        line, _, self._said = self._said.partition(b"\n")
        words = line.decode().split()
        if words[0] == "pid":
            self._pid = int(words[1])
        elif words[0] == "ended":
            self._pid = 0
            self.code = int(words[1])
        elif words[0] == "at":
            self.died_at = words[1].replace("_", " "), words[2]
            self.deaths.append(self.died_at)
        return words

    def log(self) -> list[dict[str, Any]]:
        """What the daemons have said; what is no record is under `text`."""
        found = []
        for line in (self.folder / "log").read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "", "text": line})
        return found

    async def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        stream = await trio.open_unix_socket(self.folder / "state" / "control.sock")
        async with stream:
            await stream.send_all(json.dumps({"verb": verb, **fields}).encode() + b"\n")
            said = b""
            while not said.endswith(b"\n"):
                piece = await stream.receive_some()
                if not piece:
                    raise trio.BrokenResourceError("no answer")
                said += bytes(piece)
        answer: dict[str, Any] = json.loads(said)
        return answer


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o640)


def _verb(*arguments: str) -> None:
    before, sys.stdout = sys.stdout, StringIO()
    try:
        code = main(arguments)
    finally:
        sys.stdout = before
    assert code == 0, arguments
