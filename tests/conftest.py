"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Who is started in the background of a shell is deaf to Ctrl-C, and so would be all that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
