"""The long mode: `python tests/crash/harness.py --kills 2000 --seed N`. See campaign.py for what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.exit(subprocess.call([sys.executable, "-m", "tests.crash.campaign", *sys.argv[1:]], cwd=root))
