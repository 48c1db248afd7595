"""Runs the targets one by one and counts: see run.py."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .corpus import kept, minimised, rewrite
from .seeded import Ran, seeded
from .target import Target, closed
from .targets import ALL
from .watch import quiet

_COUNT = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def guided(target: Target, seed: int, seconds: float, *, keep: bool) -> Ran:
    """Under atheris, in a process of its own; what it found worth keeping is kept if asked."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch, target.name)
        folder.mkdir()
        for number, octets in enumerate(kept(target)):
            Path(folder, str(number)).write_bytes(octets)
        limits = [f"-max_total_time={int(seconds)}", f"-seed={seed}", f"-artifact_prefix={scratch}/", "-verbosity=1"]
        command = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(folder), *limits]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        counted = _COUNT.search(done.stderr)
        memory = Path(scratch, f"{target.name}.memory")
        octets_then = [int(line.split()[1]) for line in memory.read_text().splitlines()] if memory.exists() else [0]
        if keep and not done.returncode:
            _keep(target, [file.read_bytes() for file in folder.iterdir()])
    finding = done.stderr[-6000:] if done.returncode else None
    return Ran(int(counted[1]) if counted else 0, finding, octets_then[len(octets_then) // 3], octets_then[-1])


def _keep(target: Target, inputs: list[bytes]) -> None:
    made = target.make()
    rewrite(target, minimised(made, target.seeds, inputs))
    closed(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", action="append", choices=sorted(ALL), help="only this one; may be repeated")
    parser.add_argument("--engine", choices=["atheris", "seeded"], help="default: atheris where it is installed")
    parser.add_argument("--keep", action="store_true", help="write the minimised corpus anew (atheris)")
    asked = parser.parse_args()
    quiet()
    engine = asked.engine or ("atheris" if importlib.util.find_spec("atheris") else "seeded")
    total, findings = 0, 0
    print(f"engine {engine}, seed {asked.seed}, {asked.seconds:g} s for each target")
    for name in asked.target or ALL:
        begun = time.monotonic()
        if engine == "atheris":
            ran = guided(ALL[name], asked.seed, asked.seconds, keep=asked.keep)
        else:
            ran = seeded(ALL[name], asked.seed, seconds=asked.seconds)
        total += ran.executions
        findings += ran.finding is not None
        rate = ran.executions / (time.monotonic() - begun)
        memory = f"{ran.warm >> 20} -> {ran.end >> 20} MiB"
        print(f"{name:16} {ran.executions:>10} executions {rate:>8.0f}/s  memory {memory}", flush=True)
        if ran.finding is not None:
            print(ran.finding, flush=True)
    print(f"{'total':16} {total:>10} executions, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
