"""One target under atheris: `python -m tests.fuzz.guided TARGET CORPUS [libFuzzer arguments]`. Run by run.py."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

WORD_OCTETS = 64  # of a dictionary's entry, says libFuzzer


def main() -> None:
    atheris = importlib.import_module("atheris")
    name, folder, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["forwarder", "forwarder_smtp_bridge", "email", "tomllib", "tomlkit"]):
        target = importlib.import_module("tests.fuzz.targets").ALL[name]
        watch = importlib.import_module("tests.fuzz.watch")
        corpus = importlib.import_module("tests.fuzz.corpus")
    watch.quiet()
    once, memory = watch.watched(target.make()), [0, 0]
    statistics = Path(folder, "..", f"{name}.memory")

    def measured(octets: bytes) -> None:
        try:
            once(octets)
        except Exception:
            traceback.print_exc()
            print(f"finding: {corpus.store_finding(target, octets)}", file=sys.stderr)
            raise
        memory[0] += 1
        if memory[0] % 10_000 == 0:
            with statistics.open("a") as file:
                file.write(f"{memory[0]} {watch.resident()}\n")

    limits = [f"-max_len={target.most}", "-timeout=20", "-print_final_stats=1"]
    words = Path(folder, "..", f"{name}.words")
    escaped = ["".join(f"\\x{octet:02x}" for octet in word) for word in target.words if len(word) <= WORD_OCTETS]
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    limits += [f"-dict={words}"] if escaped else []
    atheris.Setup([sys.argv[0], *limits, *arguments, folder], measured)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
