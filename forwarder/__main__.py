"""`python -m forwarder`: the same program where its script is not on the path."""

from __future__ import annotations

import sys

from forwarder.cli import main

sys.exit(main())
