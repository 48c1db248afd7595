"""The rules of protocol 5.0 and 8 as data: what each says, where docs/protocol.md has it, which tests guard it, and how
it is taken away (mutants). One file for each of the two chapters beside this one; `mutants.py` is the proof."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FILES = ("rules_of_extensions.toml", "rules_of_security.toml")


class Mutant(NamedTuple):
    """One change that takes a rule away: `old` stands once in `file`."""

    file: str
    old: str
    new: str

    def fits(self, root: Path) -> bool:
        """Whether the code still has the place; else somebody has rewritten it, and this with it should be."""
        path = root / self.file
        return path.is_file() and path.read_text(encoding="utf-8").count(self.old) == 1


class Rule(NamedTuple):
    """design: its topic as the first design numbers it (docs/protocol.md 14). docs: its section of docs/protocol.md."""

    design: str
    docs: str
    says: str
    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]


def rules() -> list[Rule]:
    read: list[Rule] = []
    for name in FILES:
        with (Path(__file__).parent / name).open("rb") as file:
            for rule in tomllib.load(file)["rule"]:
                mutants = tuple(Mutant(**mutant) for mutant in rule.get("mutant", ()))
                read.append(Rule(rule["design"], rule["docs"], rule["says"], tuple(rule["tests"]), mutants))
    return read
