"""Fuzzes every surface a stranger or an operator's file can reach.

    python tests/fuzz/run.py [--seconds N] [--target NAME] [--seed N] [--engine atheris|seeded] [--keep]

With atheris installed it is guided by coverage, each target in a process of its own; else a seeded mutator works on
good inputs and on `corpus/`. Prints the executions of each target and in total. A finding is stored in `found/`; the
exit code is then 1. As a finding counts what an oracle of the target says, any exception, a second of processor time
for one input, and memory that grows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.exit(subprocess.call([sys.executable, "-m", "tests.fuzz.driver", *sys.argv[1:]], cwd=root))
