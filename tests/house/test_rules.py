"""Every rule of protocol 5.0 and 8 names tests that exist, and every section of docs/protocol.md that holds such rules
is among them. That the tests fail without the rules is proved by `mutants.py`; here once, for one rule."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .rules import ROOT, rules

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
STALE = 0.05
"""Of the mutants so many may not fit the code any more before somebody has to look at them."""


RULES = rules()
SECTIONS = set(re.findall(r"^#{2,3} ([0-9]+(?:\.[0-9]+)?)\.? ", PROTOCOL, re.MULTILINE))

UNGUARDED = """
from tests.house.mutants import prove, wanted
[rule], [other] = wanted(["Codes of 64 and over"]), wanted(["A fetch has a deadline in all"])
raise SystemExit(prove([rule._replace(mutants=other.mutants)], print))
"""


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_rule_stands_once_with_a_guard_and_a_way_to_take_it_away() -> None:
    assert len({rule.says for rule in RULES}) == len(RULES) > 100
    assert [rule.says for rule in RULES if not rule.tests or not rule.mutants] == []


@pytest.mark.parametrize("test", sorted({test for rule in RULES for test in rule.tests}))
def test_a_guard_exists(test: str) -> None:
    """One of a class may be inherited from another file of its room."""
    file, of_class, name, case = re.fullmatch(r"([^:]+)::(\w+::)?(\w+)(?:\[(.*)\])?", test).groups()  # type: ignore[union-attr]
    path = ROOT / file
    assert path.is_file()
    assert any(name in functions(each) for each in (path.parent.glob("*.py") if of_class else [path]))
    if name == "test_dialogue":
        assert (ROOT / "tests" / "dialogues" / f"{case}.talk").is_file()


def test_mutants_fit_the_code() -> None:
    every = [mutant for rule in RULES for mutant in rule.mutants]
    stale = [f"{mutant.file}: {mutant.old!r}" for mutant in every if not mutant.fits(ROOT)]
    assert len(stale) <= STALE * len(every), "\n".join(stale)
    assert [mutant for mutant in every if mutant.old == mutant.new] == []


def sections_of(*chapters: str) -> set[str]:
    """Where the last table of docs/protocol.md says that these chapters of the first design are."""
    found: set[str] = set()
    chapter = ""
    for line in PROTOCOL.partition("\n## 14.")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[2] != "here":
            chapter = cells[0] or chapter
            if chapter.split()[0] in chapters:
                found.update(re.findall(r"[0-9]+(?:\.[0-9]+)?", re.sub(r"rows? [0-9, ]+", "", cells[2])))
    return found


def test_every_section_that_holds_such_rules_has_some() -> None:
    there = sections_of("5.0", "8")
    assert {"6.2", "7.1", "12"} <= there, "else this test would see nothing"
    assert there - {rule.docs for rule in RULES} == set()
    assert {rule.docs for rule in RULES} - SECTIONS == set()


def test_every_point_of_the_two_chapters_has_some() -> None:
    topics = {rule.design.split(",")[0] for rule in RULES}
    assert {topic.split()[0] for topic in topics if topic.startswith("8.")} == {
        f"8.{number}" for number in range(1, 14)
    }
    assert {f"5.0 repeats ({letter})" for letter in "abcdefg"} <= topics


def proof(*words: str) -> tuple[int, str]:
    """In a process of its own: what this one has imported would be imported there."""
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


def test_a_rule_that_is_taken_away_is_missed() -> None:
    assert proof("-m", "tests.house.mutants", "Codes of 64 and over") == (0, "1 rules, 1 mutants killed, 0 faults\n")


def test_a_rule_that_nothing_guards_is_seen() -> None:
    code, said = proof("-c", UNGUARDED)
    assert code == 1
    assert "SURVIVED" in said
    assert said.endswith("1 rules, 0 mutants killed, 1 faults\n")
