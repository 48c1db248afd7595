"""The daemon as the crash harness runs it: the real one, with places to die at and a disk that can fail.

Reads lives from stdin, one JSON line each, forks a daemon for it (the imports are done once), and says on stdout how
it goes: `pid N`, `at POINT INSTANT` right before it kills itself, `ready`, `ended STATUS`. Nothing of this is known to
the daemon: `Database._transact` is wrapped from outside, the clock is `time.time` turned by a file, the tests' plugin
comes by a made entry point, and SQLite gets a VFS of ours.

A life may be another verb than `serve`: `fsck --repair`, which mends what lies there.

Instants of a transaction: `before` BEGIN; `within`, all jobs done, before COMMIT; `writing`, in the middle of the
log's octets; `after` COMMIT, before anybody is told.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from .clock import BROKEN, FULL, Control

PR_SET_PDEATHSIG = 1
INSTANTS = ("before", "within", "writing", "after")


class Life(NamedTuple):
    """folder: the configuration. point "" = it does not kill itself. nth: of the transactions that hold the point."""

    folder: str
    number: int
    point: str = ""
    instant: str = "after"
    nth: int = 1
    disk: bool = False
    verb: tuple[str, ...] = ("serve",)


if __name__ == "__main__":  # before anybody takes the clock as a default
    _CONTROL = Control(Path(sys.argv[1]))
    _real = time.time
    time.time = lambda: _real() + _CONTROL.turned

import apsw  # noqa: E402

from forwarder.cli import main  # noqa: E402
from forwarder.cli import serve as _verb  # noqa: E402, F401  # so that a fork finds it imported
from forwarder.daemon import run  # noqa: E402
from forwarder.storage.database import Database  # noqa: E402

from . import diary  # noqa: E402

_OUT = os.dup(1)
"""To the harness; what a verb prints goes to the log."""


def say(*words: object) -> None:
    os.write(_OUT, (" ".join(map(str, words)) + "\n").encode())


class Death:
    """Where this life ends."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._seen = 0
        self.writing = False

    def now(self) -> NoReturn:
        say("at", self._life.point.replace(" ", "_"), self._life.instant)
        os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)  # not reached: nobody survives that signal

    def waits_in(self, group: Sequence[Any]) -> bool:
        if any(job.point == self._life.point for job in group):
            self._seen += 1
        return self._seen == self._life.nth

    def wrap(self) -> None:
        transact, life = Database._transact, self._life

        def mortal(database: Database, group: Sequence[Any]) -> list[Any]:
            if not self.waits_in(group):
                return transact(database, group)
            if life.instant == "before":
                self.now()
            if life.instant == "within":
                assert database._writer is not None
                database._writer.set_commit_hook(self.now)
            self.writing = life.instant == "writing"
            transact(database, group)
            return self.now()

        Database._transact = mortal  # type: ignore[method-assign, assignment]


class Disk(apsw.VFS):
    """A disk that fails when it is told to, and on which a life may end in the middle of the log's octets."""

    def __init__(self, death: Death) -> None:
        self.death = death
        super().__init__("mortal", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        return _File(self.death, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, death: Death, name: Any, flags: Any) -> None:
        self.death = death
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        if _CONTROL.disk == FULL:
            raise apsw.FullError("no space left")
        super().xWrite(data, offset)
        if self.death.writing and len(data) > 1000:
            self.death.now()

    def xSync(self, flags: int) -> None:
        if _CONTROL.disk == BROKEN:
            raise apsw.IOError("sync failed")
        super().xSync(flags)


def live(life: Life) -> NoReturn:
    """In the forked process."""
    end_with_parent()
    sys.stdin.close()
    log = os.open(os.path.join(life.folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.dup2(log, 1)
    diary.LIFE = life.number
    death = Death(life)
    if life.point:
        death.wrap()
    disk = Disk(death) if life.disk or life.instant == "writing" else None
    entry_points = metadata.entry_points
    diaries = metadata.EntryPoint("diary", "tests.crash.diary", "forwarder")
    metadata.entry_points = lambda **group: [*entry_points(**group), diaries]  # type: ignore[assignment]
    run.serve = partial(run.serve, ready=partial(say, "ready"))
    code = main([*life.verb, "--config", life.folder])
    sys.stdout.flush()
    del disk
    os._exit(code)


def end_with_parent() -> None:
    """Whoever forked us is gone: so are we, at once (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main_loop() -> None:
    for line in sys.stdin:
        life = Life(**json.loads(line))
        pid = os.fork()
        if not pid:
            live(life)
        say("pid", pid)
        child = os.pidfd_open(pid)
        ready, _, _ = select.select([child, sys.stdin], [], [])
        os.close(child)
        if sys.stdin in ready:  # no order comes while a life lasts: the harness is gone
            return
        _, status = os.waitpid(pid, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main_loop()
