"""Takes each rule of protocol 5.0 and 8 away, in a copy of the tree, and sees whether the tests that guard it miss it.

    python -m tests.house.mutants [TEXT ...]

TEXT: only rules whose topic, section or words hold it. Exit code 1 where a rule was taken away and nothing failed,
where a mutant no longer fits the code, or where a guard fails as the code stands.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from .rules import ROOT, Mutant, Rule, rules

PATIENCE = 180.0
"""Seconds for the guards of one rule."""
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED: no guard failed"
    STALE = "STALE: the code has no such place"
    BROKEN = "BROKEN: the guards could not be run at all"


class Tree(NamedTuple):
    """A private copy; its own `forwarder` and plugins are what its tests import."""

    root: Path

    @property
    def roots(self) -> list[str]:
        return [str(self.root), *(str(path) for path in sorted((self.root / "plugins").iterdir()) if path.is_dir())]

    def tested(self, tests: tuple[str, ...]) -> int:
        """pytest's exit code. In a child of this process: what is imported here need not be imported again."""
        child = os.fork()
        if not child:
            os._exit(self._run(["-x", "-q", "-p", "no:cacheprovider", "--timeout=30", "--tb=no", *tests]))
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return int(pytest.ExitCode.TESTS_FAILED)

    def _run(self, words: list[str]) -> int:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(self.root)
        sys.dont_write_bytecode = True
        sys.path[:0] = self.roots
        os.environ |= {"PYTHONPATH": os.pathsep.join(self.roots), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return int(pytest.main(words))
        except BaseException:  # nothing of the child's may reach the parent's frames
            return int(pytest.ExitCode.INTERNAL_ERROR)

    @contextmanager
    def without(self, mutant: Mutant) -> Iterator[None]:
        path = self.root / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")

    def fate(self, rule: Rule, mutant: Mutant) -> Fate:
        if not mutant.fits(self.root):
            return Fate.STALE
        with self.without(mutant):
            code = self.tested(rule.tests)
        known = {pytest.ExitCode.OK: Fate.SURVIVED, pytest.ExitCode.TESTS_FAILED: Fate.KILLED}
        return known.get(pytest.ExitCode(code), Fate.BROKEN)


@contextmanager
def copied() -> Iterator[Tree]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder) / "tree"
        shutil.copytree(ROOT, root, ignore=NOT_COPIED)
        yield Tree(root)


def wanted(words: list[str]) -> list[Rule]:
    return [rule for rule in rules() if all(word in f"{rule.design} {rule.docs} {rule.says}" for word in words)]


def prove(some: list[Rule], say: Callable[[str], object]) -> int:
    """How many mutants were not killed, or guards not green as they are; a line for each."""
    faults = 0
    killed = 0
    with copied() as tree:
        for rule in some:
            if tree.tested(rule.tests):
                faults += 1
                say(f"{rule.design}: {rule.says}\n    a guard fails as the code stands")
                continue
            for mutant in rule.mutants:
                fate = tree.fate(rule, mutant)
                killed += fate is Fate.KILLED
                if fate is not Fate.KILLED:
                    faults += 1
                    say(f"{rule.design}: {rule.says}\n    {fate.value}\n    {mutant.file}: {mutant.old!r}")
    say(f"{len(some)} rules, {killed} mutants killed, {faults} faults")
    return faults


if __name__ == "__main__":
    sys.exit(1 if prove(wanted(sys.argv[1:]), partial(print, flush=True)) else 0)
