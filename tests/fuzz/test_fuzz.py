"""The short mode: each surface takes its good inputs, its corpus and some damage without a finding.

The long mode is a command: `python tests/fuzz/run.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import corpus, seeded, watch
from .mutate import Mutator
from .target import Once, Target, closed, plain
from .targets import ALL

SEED = 20261124
DAMAGED, DAMAGED_TALKS = 80, 12
TALKS = {"control", "trace", "store_talk", "inbox_talk", "agent_talk"}
FILES_MOST, OCTETS_MOST = 200, 1 << 20


@pytest.mark.parametrize("name", ALL)
def test_good_inputs_and_damaged_ones_make_no_finding(name: str) -> None:
    count = len(corpus.kept(ALL[name])) + (DAMAGED_TALKS if name in TALKS else DAMAGED)
    ran = seeded.seeded(ALL[name], SEED, executions=count)
    assert ran.finding is None, ran.finding
    assert ran.executions == count


@pytest.fixture(scope="module")
def once() -> Iterator[Callable[[str], Once]]:
    """A surface by name, readied once."""
    made: dict[str, Once] = {}

    def ready(name: str) -> Once:
        if name not in made:
            made[name] = ALL[name].make()
        return made[name]

    yield ready
    for each in made.values():
        closed(each)


@pytest.mark.parametrize("name", [name for name in ALL if name not in TALKS])
@settings(max_examples=40, deadline=None)
@given(octets=st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_anything_at_all_makes_no_finding(name: str, octets: bytes, once: Callable[[str], Once]) -> None:
    once(name)(octets)


def test_the_corpus_is_small() -> None:
    files = [file for file in corpus.CORPUS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} <= set(ALL)
    assert len(files) <= FILES_MOST
    assert sum(file.stat().st_size for file in files) < OCTETS_MOST


def test_one_seed_makes_the_same_inputs_each_time() -> None:
    first, again = (Mutator(5, [b"abc", b"xyz"], [b"!"], 100) for _ in range(2))
    inputs = [next(first) for _ in range(200)]
    assert inputs == [next(again) for _ in range(200)]
    assert len(set(inputs)) > 100


def _endless(octets: bytes) -> None:
    if octets:
        for _ in itertools.count():
            pass


def _wrong(octets: bytes) -> None:
    assert b"x" not in octets


@pytest.mark.parametrize(("once", "said"), [(_wrong, "AssertionError"), (_endless, "Hang")])
def test_what_breaks_a_law_or_hangs_is_a_finding_and_is_kept(
    once: Once, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "FOUND", tmp_path)
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    ran = seeded.seeded(Target("t", plain(once), [b"", b"x"]), 1, executions=100)
    assert said in (ran.finding or "")
    assert ran.executions == 1
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"x"]


def test_memory_left_behind_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = itertools.count(watch.GROWTH, watch.GROWTH + 1)
    monkeypatch.setattr(seeded, "resident", lambda: next(sizes))
    ran = seeded.seeded(Target("t", plain(lambda octets: None), [b""]), 1, seconds=0.01)
    assert "memory grew" in (ran.finding or "")
